"""Charts as SVG text: frames, ticks, curves with bands, points with intervals, share columns.

Color alone never carries information: curves also differ in dash and marker, columns in pattern,
by the same number (`series`) that chooses the color in `page.css`. Coordinates are those of the
view box, which the page scales.
"""

import math
from dataclasses import dataclass
from html import escape
from typing import Final

import numpy as np

from keisei_ray.report import formatting
from keisei_ray.report.curves import Curve, Floats

WIDTH: Final = 420
HEIGHT: Final = 210
LEFT: Final = 50
RIGHT: Final = WIDTH - 12
TOP: Final = 10
BOTTOM: Final = HEIGHT - 36
MAX_DOTTED: Final = 40
"""Maximum number of points of a curve that shows a marker at each of them."""
_OUTLIER_RATIO: Final = 6.0
"""The few outermost values are cut off where all values span more than this many times the
middle 96%."""


@dataclass(frozen=True)
class Line:
    """One curve of a chart."""

    name: str
    curve: Curve
    has_intervals: bool = False
    """Whether low and high are drawn as an interval at each point, not as a band."""


@dataclass(frozen=True)
class Frame:
    """Horizontal axis that all charts of a page share: timesteps, unless `unit` says otherwise."""

    x_range: tuple[float, float]
    """Timesteps at the left and the right edge."""
    marks: tuple[float, ...]
    """Timesteps at which vertical lines are drawn: those at which the run was resumed."""
    unit: str = "timestep"
    """Unit of the axis, in the singular."""
    mark: str = "resumed at timestep"
    """Meaning of the marks."""


@dataclass(frozen=True)
class Scale:
    """Vertical axis: the range of values that a chart shows."""

    low: float
    high: float
    cut: tuple[float, float] | None = None
    """Least and greatest of all values, where some lie outside the range; else None."""

    def y(self, value: float) -> float:
        """Returns the y coordinate of a value; one outside the range lies at the edge."""
        inside = min(max(value, self.low), self.high)
        return BOTTOM - (inside - self.low) / (self.high - self.low) * (BOTTOM - TOP)


def x_position(frame: Frame, timestep: float) -> float:
    """Returns the x coordinate of a timestep."""
    low, high = frame.x_range
    return LEFT + (timestep - low) / (high - low) * (RIGHT - LEFT)


def scale_for(lines: list[Line], floor: float | None, ceiling: float | None) -> Scale:
    """Returns the scale that shows all values, or all but a few that would flatten the rest.

    Args:
        lines: curves with at least one finite value among them.
        floor: the scale begins at this value or lower.
        ceiling: the scale ends at this value or higher.
    """
    curves = [line.curve for line in lines]
    ends = np.concatenate([end for c in curves for end in (c.mean, c.low, c.high)])
    values = ends[np.isfinite(ends)]
    low, high = float(values.min()), float(values.max())
    near, far = (float(q) for q in np.quantile(values, (0.02, 0.98)))
    cut = None
    is_measured = any(line.has_intervals for line in lines)
    if not is_measured and far > near and high - low > _OUTLIER_RATIO * (far - near):
        cut = (low, high)
        margin = 0.5 * (far - near)
        low, high = max(low, near - margin), min(high, far + margin)
    low = low if floor is None else min(low, floor)
    high = high if ceiling is None else max(high, ceiling)
    if high - low <= 1e-9 * max(abs(low), abs(high)):
        low, high = low - (abs(low) * 0.1 or 1.0), high + (abs(high) * 0.1 or 1.0)
    pad = 0.06 * (high - low)
    padded_low = low if floor == low else low - pad
    padded_high = high if ceiling == high else high + pad
    return Scale(padded_low, padded_high, cut)


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
        lines: at most as many curves as `page.css` has series.
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


def share_chart(shares: Floats, edges: Floats, frame: Frame, *, title: str) -> str:
    """Returns an SVG of columns, one for each stretch of timesteps, divided by kind.

    Args:
        shares: [P, K] in [0, 1], NaN in a stretch without events.
        edges: [P + 1] timesteps.
        frame: the horizontal axis.
        title: as for `line_chart`.
    """
    scale = Scale(0.0, 1.0)
    parts = []
    for i, row in enumerate(shares):
        if not np.isfinite(row).all():
            continue
        left, right = (x_position(frame, float(edge)) for edge in edges[i : i + 2])
        tops = np.cumsum(row)
        for series, (top, share) in enumerate(zip(tops, row, strict=True)):
            if share > 0:
                parts.append(
                    f'<rect class="fill{series}" x="{left:.1f}" y="{scale.y(float(top)):.1f}" '
                    f'width="{max(right - left - 0.6, 0.6):.1f}" '
                    f'height="{float(share) * (BOTTOM - TOP):.1f}"/>'
                )
    return _picture("".join(parts) + _axes(frame, scale, is_share=True), title)


def patterns() -> str:
    """Returns the fills of series 1 to 4, which a page needs once; series 0 is plain."""
    lines = ("M0 6L6 0", "M0 0L6 6", "M0 3H6", "M3 0V6")
    defined = "".join(
        f'<pattern id="hatch{i}" width="6" height="6" patternUnits="userSpaceOnUse">'
        f'<rect class="ground{i}" width="6" height="6"/><path class="stroke{i}" d="{line}"/>'
        "</pattern>"
        for i, line in enumerate(lines, start=1)
    )
    return f'<svg class="hidden" aria-hidden="true"><defs>{defined}</defs></svg>'


def swatch(series: int, *, is_fill: bool) -> str:
    """Returns the sample of a series for a legend."""
    if is_fill:
        inside = f'<rect class="fill{series}" x="1" y="1" width="26" height="12"/>'
    else:
        inside = f'<path class="line line{series}" d="M1 7H27"/>{_dot(series, 14, 7)}'
    return f'<svg class="swatch" viewBox="0 0 28 14" aria-hidden="true">{inside}</svg>'


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
        y = scale.y(value)
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
        (x_position(frame, float(x)), scale.y(float(y)))
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
    if line.has_intervals:
        for i, x in enumerate(curve.x):
            if math.isfinite(curve.mean[i]):
                # Intervals of several curves at one timestep stand side by side.
                beside = x_position(frame, float(x)) + 4 * series
                parts.append(_interval(curve, i, beside, scale, series))
    parts.append(f'<path class="line line{series}" d="{_path(points)}"/>')
    if len(points) <= MAX_DOTTED or line.has_intervals:
        parts += [_dot(series, x, y) for x, y in points]
    return "".join(parts)


def _interval(curve: Curve, i: int, x: float, scale: Scale, series: int) -> str:
    """Returns a point's interval; an open end reaches the edge of the chart and has no cap."""
    low, high = float(curve.low[i]), float(curve.high[i])
    top = scale.y(high if math.isfinite(high) else scale.high)
    bottom = scale.y(low if math.isfinite(low) else scale.low)
    caps = f"M{x - 3:.1f} {top:.1f}h6" if math.isfinite(high) else ""
    caps += f"M{x - 3:.1f} {bottom:.1f}h6" if math.isfinite(low) else ""
    return f'<path class="interval line{series}" d="M{x:.1f} {top:.1f}V{bottom:.1f}{caps}"/>'


def _dot(series: int, x: float, y: float) -> str:
    """Returns the marker of a series: circle, square, diamond or triangle."""
    shapes = (
        f"M{x - 3:.1f} {y:.1f}a3 3 0 1 0 6 0a3 3 0 1 0 -6 0Z",
        f"M{x - 2.7:.1f} {y - 2.7:.1f}h5.4v5.4h-5.4Z",
        f"M{x:.1f} {y - 3.8:.1f}l3.8 3.8l-3.8 3.8l-3.8 -3.8Z",
        f"M{x:.1f} {y - 3.6:.1f}l3.6 6.4h-7.2Z",
    )
    return f'<path class="dot dot{series}" d="{shapes[series % len(shapes)]}"/>'
