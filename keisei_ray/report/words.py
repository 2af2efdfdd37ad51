"""Figures and times as people read them. Pure."""

import math
from typing import Final

_UNITS: Final = ((1e9, "G"), (1e6, "M"), (1e3, "k"))
UNKNOWN: Final = "-"
"""Stands where there is no value."""


def count(value: float) -> str:
    """A whole number with separators: "86,016"."""
    return UNKNOWN if math.isnan(value) else f"{round(value):,}"


def figure(value: float) -> str:
    """A number with four significant figures: "0.02318", "1,234", "8.129e-05"."""
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
    """A share with one decimal: "59.0%"."""
    return UNKNOWN if math.isnan(share) else f"{share:.1%}"


def elo(value: float) -> str:
    """A rating with its sign: "+63"."""
    return UNKNOWN if math.isnan(value) else f"{value:+.0f}"


def plural(number: int, noun: str) -> str:
    """ "1 game", "30 games"."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def duration(seconds: float) -> str:
    """The two largest units: "12 min 42 s", "3 h 5 min", "2 days 4 h"."""
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
    """A number on an axis whose ticks are `step` apart, as short as its neighbors allow."""
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
    """A share on an axis: "40%"."""
    return f"{value * 100:.{_decimals(step * 100)}f}%"


def _decimals(step: float) -> int:
    """Decimals that tell multiples of `step` apart; 1, 2 and 5 times powers of ten are exact."""
    return max(0, -math.floor(math.log10(step) + 1e-9))
