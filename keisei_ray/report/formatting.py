"""Numbers and times as text for a reader. Pure functions; NaN gives "-"."""

import math
from typing import Final

_UNITS: Final = ((1e9, "G"), (1e6, "M"), (1e3, "k"))
UNKNOWN: Final = "-"
"""Text for a missing value."""


def count(value: float) -> str:
    """Returns a whole number with separators: "86,016"."""
    return UNKNOWN if math.isnan(value) else f"{round(value):,}"


def significant(value: float) -> str:
    """Returns a number with four significant digits: "0.02318", "1,234", "8.129e-05"."""
    if math.isnan(value):
        return UNKNOWN
    if value == 0:
        return "0"
    if abs(value) >= 1000:
        return f"{round(value):,}"
    if abs(value) < 1e-3:
        return f"{value:.4g}"
    return f"{value:#.4g}".rstrip("0").rstrip(".")


def percent(share: float) -> str:
    """Returns a fraction as a percentage with one decimal: "59.0%"."""
    return UNKNOWN if math.isnan(share) else f"{share:.1%}"


def elo(value: float | None) -> str:
    """Returns a rating with its sign: "+63"."""
    return UNKNOWN if value is None else f"{value:+.0f}"


def plural(number: int, noun: str) -> str:
    """Returns a number with its noun: "1 game", "30 games"."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def duration(seconds: float) -> str:
    """Returns a time in its two largest units: "12 min 42 s", "3 h 5 min", "2 days 4 h"."""
    if math.isnan(seconds):
        return UNKNOWN
    total = max(0, round(seconds))
    minutes, s = divmod(total, 60)
    hours, m = divmod(minutes, 60)
    days, h = divmod(hours, 24)
    if days:
        return f"{plural(days, 'day')} {h} h"
    if hours:
        return f"{h} h {m} min"
    return f"{m} min {s} s" if m else f"{s} s"


def tick(value: float, step: float) -> str:
    """Returns a number for an axis whose ticks are `step` apart, with no needless digits."""
    if value == 0:
        return "0"
    for scale, letter in _UNITS:
        if abs(value) >= scale and (scale > 1e3 or abs(value) >= 1e4):
            return f"{value / scale:.{_decimals(step / scale)}f}{letter}"
    if abs(step) < 1e-4:
        return f"{value:.{_decimals(step / 10 ** math.floor(math.log10(abs(value))))}e}".replace(
            "e-0", "e-"
        )
    return f"{value:.{_decimals(step)}f}"


def tick_percent(value: float, step: float) -> str:
    """Returns a fraction for an axis: "40%"."""
    return f"{value * 100:.{_decimals(step * 100)}f}%"


def _decimals(step: float) -> int:
    """Returns the decimals that tell multiples of `step` apart.

    The result is exact for 1, 2 and 5 times a power of ten.
    """
    return max(0, -math.floor(math.log10(step) + 1e-9))
