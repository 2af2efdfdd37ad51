"""Charts as SVG text, for pictures in the documentation: curves with bands over timesteps.

The page of a run draws its charts by a script (`keisei_ray/report/shared/charts.js`). Coordinates
are those of the view box.
"""

import math
from html import escape
from typing import Final

from keisei_ray.report import formatting
from keisei_ray.report.chart_data import Frame, Line, Scale
from keisei_ray.report.curves import Curve, Floats

WIDTH: Final = 420
HEIGHT: Final = 210
LEFT: Final = 50
RIGHT: Final = WIDTH - 12
TOP: Final = 10
BOTTOM: Final = HEIGHT - 36


def y_position(scale: Scale, value: float) -> float:
    """Returns the y coordinate of a value; one outside the range lies at the edge."""
    inside = min(max(value, scale.low), scale.high)
    return BOTTOM - (inside - scale.low) / (scale.high - scale.low) * (BOTTOM - TOP)


def x_position(frame: Frame, timestep: float) -> float:
    """Returns the x coordinate of a timestep."""
    low, high = frame.x_range
    return LEFT + (timestep - low) / (high - low) * (RIGHT - LEFT)


def ticks(low: float, high: float, most: int) -> list[float]:
    """Returns at most `most` + 1 numbers in [low, high], 1, 2 or 5 times a power of ten apart.

    Args:
        low: lower end, less than `high`.
        high: upper end.
        most: 5 or more; then there are at least two numbers.
    """
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [i * step for i in range(first, last + 1)]


def line_chart(lines: list[Line], frame: Frame, scale: Scale, *, is_share: bool, title: str) -> str:
    """Returns an SVG of curves over timesteps.

    Args:
        lines: the curves; the caller's style has a color for each.
        frame: the horizontal axis.
        scale: the vertical axis.
        is_share: whether values are fractions, shown as percentages.
        title: the picture's content in words, for readers who cannot see it.
    """
    parts = [_axes(frame, scale, is_share)]
    for series, line in enumerate(lines):
        if not line.has_intervals and line.curve.is_thinned:
            parts.append(_band(line.curve, frame, scale, series))
    for series, line in enumerate(lines):
        parts.append(_curve(line, frame, scale, series))
    return _picture("".join(parts), title)


def _picture(content: str, title: str) -> str:
    return (
        f'<svg class="picture" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{escape(title)}">{content}</svg>'
    )


def _axes(frame: Frame, scale: Scale, is_share: bool) -> str:
    """Returns grid, numbers and resume marks."""
    parts = []
    y_ticks = ticks(scale.low, scale.high, 6)
    spell = formatting.tick_percent if is_share else formatting.tick
    y_step = y_ticks[1] - y_ticks[0]
    for value in y_ticks:
        y = y_position(scale, value)
        parts.append(f'<path class="grid" d="M{LEFT} {y:.1f}H{RIGHT}"/>')
        parts.append(
            f'<text class="tick" x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">'
            f"{spell(value, y_step)}</text>"
        )
    x_ticks = ticks(*frame.x_range, 5)
    x_step = x_ticks[1] - x_ticks[0]
    for value in x_ticks:
        x = x_position(frame, value)
        parts.append(f'<path class="axis" d="M{x:.1f} {BOTTOM}v4"/>')
        parts.append(
            f'<text class="tick" x="{x:.1f}" y="{BOTTOM + 16}" text-anchor="middle">'
            f"{formatting.tick(value, x_step)}</text>"
        )
    parts.append(f'<path class="axis" d="M{LEFT} {BOTTOM}H{RIGHT}"/>')
    parts.append(
        f'<text class="label" x="{(LEFT + RIGHT) / 2}" y="{HEIGHT - 3}" '
        f'text-anchor="middle">{escape(frame.unit)}s</text>'
    )
    for mark in frame.marks:
        x = x_position(frame, mark)
        parts.append(
            f'<path class="mark" d="M{x:.1f} {TOP}V{BOTTOM}">'
            f"<title>{escape(frame.mark)} {formatting.count(mark)}</title></path>"
        )
    return "".join(parts)


def _points(xs: Floats, ys: Floats, frame: Frame, scale: Scale) -> list[tuple[float, float]]:
    """Returns the positions of the points that have a value."""
    return [
        (x_position(frame, float(x)), y_position(scale, float(y)))
        for x, y in zip(xs, ys, strict=True)
        if math.isfinite(y)
    ]


def _path(points: list[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)


def _band(curve: Curve, frame: Frame, scale: Scale, series: int) -> str:
    """Returns the area between the least and the greatest values."""
    upper = _points(curve.x, curve.high, frame, scale)
    lower = _points(curve.x, curve.low, frame, scale)
    if not upper:
        return ""
    return f'<path class="band band{series}" d="{_path(upper + lower[::-1])}Z"/>'


def _curve(line: Line, frame: Frame, scale: Scale, series: int) -> str:
    curve = line.curve
    points = _points(curve.x, curve.mean, frame, scale)
    if not points:
        return ""
    parts = []
    parts.append(f'<path class="line line{series}" d="{_path(points)}"/>')
    return "".join(parts)
