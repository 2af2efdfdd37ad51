"""Charts as data: what a page needs to draw them, as JSON types.

The script `shared/charts.js` draws them, in the page of a run and in those of `run.py web`.
Timesteps and times that several curves share stand once, in `axes`.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from keisei_ray.report import formatting
from keisei_ray.report.curves import Curve, Floats
from keisei_ray.telemetry.metrics import METRICS

_OUTLIER_RATIO: Final = 6.0
"""The few outermost values are cut off where all values span more than this many times the
middle 96%."""
_MEANINGS: Final = {
    metric.name: f"{metric.meaning} [{metric.unit}]" if metric.unit else metric.meaning
    for metric in METRICS
}


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


@dataclass(frozen=True)
class Chart:
    """Curves over timesteps."""

    key: str
    """Name of the figure on the page."""
    title: str
    about: str
    """How to read the chart, for a reader who has not seen one before."""
    lines: list[Line]
    metrics: tuple[str, ...] = ()
    """Names of the metrics that it shows; their meaning is printed below it."""
    unit: str = ""
    is_share: bool = False
    floor: float | None = None
    """Value that the scale reaches at least; see `scale_for`."""
    ceiling: float | None = None
    when_last: str = "now"
    """Time of the last value, for the legend."""


@dataclass(frozen=True)
class ShareChart:
    """Columns that divide the events of each stretch of timesteps by their kind."""

    key: str
    title: str
    about: str
    """How to read the chart."""
    names: Sequence[str]
    """[K] kinds."""
    totals: Sequence[float]
    """[K] events of the whole run."""
    shares: Floats
    """[P, K] in [0, 1], NaN in a stretch without events."""
    edges: Floats
    """[P + 1] timesteps."""
    metrics: tuple[str, ...] = ()
    """Names of the metrics that it shows."""


def charts_data(
    shown: Iterable[Chart | ShareChart], frame: Frame, wall_of: Callable[[Floats], Floats] | None
) -> dict[str, Any]:
    """Returns charts as JSON types.

    Args:
        shown: the charts, in their order.
        frame: the horizontal axis of all.
        wall_of: gives the wall time, in seconds, at which the run had come to each of some
            timesteps; None: the charts have no second axis.
    """
    axes = _Axes(wall_of)
    charts = [
        _curves_data(chart, frame, axes) if isinstance(chart, Chart) else _shares_data(chart, axes)
        for chart in shown
    ]
    data = {
        "range": frame.x_range, "marks": frame.marks, "unit": frame.unit, "mark": frame.mark
    }  # fmt: skip
    return data | {"axes": axes.listed, "charts": charts}


class _Axes:
    """Horizontal places of curves, each list once."""

    def __init__(self, wall_of: Callable[[Floats], Floats] | None) -> None:
        self._wall_of = wall_of
        self._numbers: dict[bytes, int] = {}
        self.listed: list[dict[str, list[float | None]]] = []

    def number_of(self, x: Floats) -> int:
        """Returns the number of a list of timesteps in `listed`, to which it is added if new."""
        number = self._numbers.setdefault(x.tobytes(), len(self.listed))
        if number == len(self.listed):
            wall = {} if self._wall_of is None else {"wall": _rounded(self._wall_of(x))}
            self.listed.append({"x": _exact(x)} | wall)
        return number


def _curves_data(chart: Chart, frame: Frame, axes: _Axes) -> dict[str, Any]:
    lines = [line for line in chart.lines if not math.isnan(line.curve.last)]
    data = _common_data(chart) | {
        "kind": "curves", "unit": chart.unit, "isShare": chart.is_share,
        "whenLast": chart.when_last, "series": [_series_data(line, axes) for line in lines],
    }  # fmt: skip
    if not lines:
        return data
    scale = scale_for(lines, chart.floor, chart.ceiling)
    notes = []
    per_point = max(line.curve.records_per_point for line in lines)
    if per_point > 1:
        notes.append(f"Mean and range of every {per_point:,} records.")
    if scale.cut is not None:
        low, high = (_spell(chart, end) for end in scale.cut)
        notes.append(f"A few values lie beyond the scale: all reach from {low} to {high}.")
    return data | {
        "scale": [scale.low, scale.high],
        "note": " ".join(notes),
        "alt": _alternative(chart, lines, frame),
    }


def _series_data(line: Line, axes: _Axes) -> dict[str, Any]:
    curve = line.curve
    data = {
        "name": line.name,
        "axis": axes.number_of(curve.x),
        "y": _rounded(curve.mean),
        "last": _rounded(np.array([curve.last]))[0],
        "hasIntervals": line.has_intervals,
    }
    if line.has_intervals or curve.is_thinned:
        data |= {"low": _rounded(curve.low), "high": _rounded(curve.high)}
    return data


def _shares_data(chart: ShareChart, axes: _Axes) -> dict[str, Any]:
    whole = sum(chart.totals)
    data = _common_data(chart) | {"kind": "shares", "names": list(chart.names), "shares": []}
    if not whole:
        return data
    counts = [f"{formatting.count(n)} ({formatting.percent(n / whole)})" for n in chart.totals]
    named = [f"{name} {count}" for name, count in zip(chart.names, counts, strict=True)]
    return data | {
        "axis": axes.number_of(chart.edges),
        "shares": [_rounded(row) for row in chart.shares.T],
        "counts": counts,
        "alt": f"{chart.title}: {', '.join(named)}",
    }


def _common_data(chart: Chart | ShareChart) -> dict[str, Any]:
    meanings = [[name, _MEANINGS[name]] for name in chart.metrics]
    return {"key": chart.key, "title": chart.title, "about": chart.about, "metrics": meanings}


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
        margin = abs(low) * 0.1 or 1.0
        low, high = (
            low if low == floor else low - margin,
            high if high == ceiling else high + margin,
        )
    pad = 0.06 * (high - low)
    padded_low = low if floor == low else low - pad
    padded_high = high if ceiling == high else high + pad
    return Scale(padded_low, padded_high, cut)


def _exact(values: Floats) -> list[float | None]:
    """Returns timesteps, which may have more than six digits, whole ones as such."""
    return [int(value) if value == int(value) else value for value in values.tolist()]


def _rounded(values: Floats) -> list[float | None]:
    """Returns values with six significant digits, integers as such, None for a missing value."""
    rounded: list[float | None] = []
    for value in values.tolist():
        if not math.isfinite(value):
            rounded.append(None)
        elif value == int(value):
            rounded.append(int(value))
        else:
            rounded.append(float(f"{value:.6g}"))
    return rounded


def _spell(chart: Chart, value: float) -> str:
    return formatting.percent(value) if chart.is_share else formatting.significant(value)


def _alternative(chart: Chart, lines: Sequence[Line], frame: Frame) -> str:
    """Returns the picture's content in words, for readers who cannot see it."""
    parts = []
    for line in lines:
        curve = line.curve
        ends = (curve.first, curve.last, np.nanmin(curve.mean), np.nanmax(curve.mean))
        first, last, low, high = (_spell(chart, float(end)) for end in ends)
        parts.append(f"{line.name} from {first} to {last}, between {low} and {high}")
    unit = f" ({chart.unit})" if chart.unit else ""
    return f"{chart.title}{unit} over {frame.unit}s: {'; '.join(parts)}."
