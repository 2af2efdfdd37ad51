"""Figures, durations, trends and bars as short strings. Pure functions of plain values."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final


@dataclass(frozen=True)
class Glyphs:
    """Characters that a view draws with, for one kind of terminal."""

    ramp: str
    """Sparkline heights, lowest first."""
    shades: str
    """Four fills that differ without color, densest first."""
    done: str
    """Filled part of a progress bar."""
    rest: str
    """Empty part of a progress bar."""
    rule: str
    """Line after a section title."""
    ellipsis: str
    """Mark for text that was cut off."""


UNICODE: Final = Glyphs(
    ramp="\u2581\u2582\u2583\u2584\u2585\u2586\u2587\u2588",
    shades="\u2588\u2593\u2592\u2591",
    done="\u2501",
    rest="\u2500",
    rule="\u2500",
    ellipsis="\u2026",
)
ASCII: Final = Glyphs(ramp="_.-=+*%#", shades="#=-.", done="=", rest="-", rule="-", ellipsis="~")


def glyphs_for(encoding: str) -> Glyphs:
    """Returns the richest glyphs that an output stream's encoding can represent."""
    try:
        "".join((UNICODE.ramp, UNICODE.shades, UNICODE.done, UNICODE.rule)).encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return ASCII
    return UNICODE


@dataclass(frozen=True)
class Trend:
    """History of one figure over a whole session, in bounded memory.

    Every value is the mean of `stride` readings. When there are `CAPACITY` values, neighbors are
    merged and the stride doubles. Readings that do not fill a stride yet wait in `pending`; their
    mean is the last point.
    """

    CAPACITY = 128

    values: tuple[float, ...] = ()
    stride: int = 1
    pending: tuple[float, ...] = ()

    def add(self, reading: float) -> "Trend":
        """Returns the trend with one more reading; one that is not finite changes nothing."""
        if not math.isfinite(reading):
            return self
        pending = (*self.pending, reading)
        if len(pending) < self.stride:
            return Trend(self.values, self.stride, pending)
        values = (*self.values, sum(pending) / len(pending))
        if len(values) < self.CAPACITY:
            return Trend(values, self.stride)
        pairs = zip(values[::2], values[1::2], strict=True)
        return Trend(tuple((a + b) / 2 for a, b in pairs), self.stride * 2)

    def points(self) -> tuple[float, ...]:
        """Returns all values, oldest first, and the mean of the pending readings."""
        if not self.pending:
            return self.values
        return (*self.values, sum(self.pending) / len(self.pending))


def resample(values: Sequence[float], width: int) -> list[float]:
    """Returns at most `width` values: means of consecutive stretches of nearly equal length."""
    count = len(values)
    if count <= width or width < 1:
        return list(values[: max(0, width)])
    edges = [i * count // width for i in range(width + 1)]
    return [sum(values[a:b]) / (b - a) for a, b in pairwise(edges)]


def sparkline(values: Sequence[float], width: int, ramp: str) -> str:
    """Returns `values` as at most `width` characters of `ramp`, scaled from least to greatest.

    A flat series is drawn at mid height, and so is one whose range is beyond a float.
    """
    points = resample(values, width)
    if not points:
        return ""
    low, high = min(points), max(points)
    if high == low or not math.isfinite(high - low):
        return ramp[(len(ramp) - 1) // 2] * len(points)
    top = len(ramp) - 1
    return "".join(ramp[round((value - low) / (high - low) * top)] for value in points)


def bar_lengths(parts: Sequence[float], width: int) -> list[int]:
    """Returns whole lengths proportional to `parts` that add up to `width` (largest remainders).

    A negative part counts as 0. All are 0 where the parts add up to nothing.
    """
    parts = [max(0.0, part) for part in parts]
    whole = sum(parts)
    if not 0 < whole < math.inf:
        return [0] * len(parts)
    exact = [part / whole * width for part in parts]
    lengths = [math.floor(length) for length in exact]
    by_remainder = sorted(range(len(parts)), key=lambda i: lengths[i] - exact[i])
    for i in by_remainder[: width - sum(lengths)]:
        lengths[i] += 1
    return lengths


def clip(text: str, width: int, ellipsis: str) -> str:
    """Returns `text` cut to `width` characters, the cut marked."""
    return text if len(text) <= width else text[: max(0, width - 1)] + ellipsis[:width]


def clip_start(text: str, width: int, ellipsis: str) -> str:
    """Returns the end of `text`, at most `width` characters, the cut marked: for paths."""
    return text if len(text) <= width else ellipsis[:width] + text[len(text) - max(0, width - 1) :]


def one_line(text: str) -> str:
    """Returns the most informative line of a message or remote error.

    That is the last line of a traceback (the exception), and the first of any other text.
    """
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        return ""
    return lines[-1] if "Traceback (" in text else lines[0]


def duration(seconds: float | None) -> str:
    """Returns `h:mm:ss`, with days in front if there are any; "-" where unknown."""
    if seconds is None or not math.isfinite(seconds):
        return "-"
    minutes, s = divmod(max(0, round(seconds)), 60)
    hours, m = divmod(minutes, 60)
    days, h = divmod(hours, 24)
    return f"{days}d {h}:{m:02d}:{s:02d}" if days else f"{h}:{m:02d}:{s:02d}"


def as_float(value: object) -> float | None:
    """Returns a finite number, or None for any other value of a metric."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def figure(value: object, spec: str) -> str:
    """Formats a metric by a format spec; text stays as it is, None becomes "-"."""
    if value is None:
        return "-"
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return format(value, spec) if isinstance(value, int | float) else str(value)


def percent(value: float | None) -> str:
    """Formats a fraction with one decimal: "41.5%"; "-" where unknown."""
    return "-" if value is None else f"{value:.1%}"
