"""HTML of a chart: title, meaning, legend, picture, and its numbers.

The numbers stand beside the picture as JSON. The page's script shows those under the pointer, or
under the cursor that the arrow keys move.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, Final

import numpy as np

from keisei_ray.report import formatting, svg
from keisei_ray.report.curves import Floats
from keisei_ray.report.svg import Frame, Line
from keisei_ray.telemetry.metrics import METRICS

_MEANINGS: Final = {
    metric.name: f"{metric.meaning} [{metric.unit}]" if metric.unit else metric.meaning
    for metric in METRICS
}


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
    """Value that the scale reaches at least; see `svg.scale_for`."""
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


def chart_figure(chart: Chart, frame: Frame) -> str:
    """Returns a chart as HTML; a chart without any value says so in place of a picture."""
    lines = [line for line in chart.lines if not math.isnan(line.curve.last)]
    if not lines:
        return _figure(chart, '<p class="none">No values yet.</p>', "", "", "")
    scale = svg.scale_for(lines, chart.floor, chart.ceiling)
    picture = svg.line_chart(
        lines, frame, scale, is_share=chart.is_share, title=_alternative(chart, lines, frame)
    )
    legend = [
        (
            svg.swatch(i, is_fill=False),
            line.name,
            f"{_spell(chart, line.curve.last)} {chart.when_last}",
        )
        for i, line in enumerate(lines)
    ]
    series = [
        {
            "name": line.name,
            "x": _rounded(line.curve.x),
            "y": _rounded(line.curve.mean),
            **(_range_data(line) if line.has_intervals or line.curve.is_thinned else {}),
        }
        for line in lines
    ]
    notes = []
    per_point = max(line.curve.records_per_point for line in lines)
    if per_point > 1:
        notes.append(f"Mean and range of every {per_point} records.")
    if scale.cut is not None:
        low, high = (_spell(chart, end) for end in scale.cut)
        notes.append(f"A few values lie beyond the scale: all reach from {low} to {high}.")
    data = {"series": series, "isShare": chart.is_share, "unit": chart.unit}
    return _figure(chart, picture, _legend(legend), " ".join(notes), _data(data, frame))


def share_figure(chart: ShareChart, frame: Frame) -> str:
    """Returns a share chart as HTML."""
    whole = sum(chart.totals)
    if not whole:
        return _figure(chart, '<p class="none">No values yet.</p>', "", "", "")
    figures = [f"{formatting.count(n)} ({formatting.percent(n / whole)})" for n in chart.totals]
    alternative = f"{chart.title}: " + ", ".join(
        f"{name} {text}" for name, text in zip(chart.names, figures, strict=True)
    )
    picture = svg.share_chart(chart.shares, chart.edges, frame, title=alternative)
    legend = [
        (svg.swatch(i, is_fill=True), name, figure)
        for i, (name, figure) in enumerate(zip(chart.names, figures, strict=True))
    ]
    middles = (chart.edges[:-1] + chart.edges[1:]) / 2
    series = [
        {"name": name, "x": _rounded(middles), "y": _rounded(chart.shares[:, i])}
        for i, name in enumerate(chart.names)
    ]
    data = {"series": series, "isShare": True, "unit": ""}
    return _figure(chart, picture, _legend(legend), "", _data(data, frame))


def terms(names: Sequence[str]) -> str:
    """Returns the meaning of these metrics, from the table of metrics."""
    if not names:
        return ""
    rows = "".join(f"<dt>{escape(name)}</dt><dd>{escape(_MEANINGS[name])}</dd>" for name in names)
    return f'<dl class="terms">{rows}</dl>'


def embedded(data: object) -> str:
    """Returns JSON for a script element: no character in it can end the element."""
    text = json.dumps(data, allow_nan=False, separators=(",", ":"), ensure_ascii=True)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _figure(chart: Chart | ShareChart, picture: str, legend: str, note: str, data: str) -> str:
    unit = chart.unit if isinstance(chart, Chart) else ""
    shown_unit = f' <span class="unit">{escape(unit)}</span>' if unit else ""
    focus = ' tabindex="0"' if data else ""
    return (
        f'<figure class="chart" id="chart-{escape(chart.key)}">'
        f"<figcaption><h3>{escape(chart.title)}{shown_unit}</h3></figcaption>"
        f'{legend}<div class="plot"{focus}>{picture}</div>'
        f'<p class="about">{escape(chart.about)}'
        + (f' <span class="note">{escape(note)}</span>' if note else "")
        + f"</p>{terms(chart.metrics)}{data}</figure>"
    )


def _legend(entries: Sequence[tuple[str, str, str]]) -> str:
    items = "".join(
        f"<li>{sample}<span>{escape(name)}</span> <b>{escape(value)}</b></li>"
        for sample, name, value in entries
    )
    return f'<ul class="legend">{items}</ul>'


def _data(data: dict[str, Any], frame: Frame) -> str:
    axis = {"range": frame.x_range, "left": svg.LEFT, "right": svg.RIGHT, "width": svg.WIDTH}
    height = {"top": svg.TOP, "bottom": svg.BOTTOM, "height": svg.HEIGHT}
    text = embedded(data | {"axis": axis | height | {"unit": frame.unit}})
    return f'<script type="application/json" class="data">{text}</script>'


def _range_data(line: Line) -> dict[str, list[float | None]]:
    return {"low": _rounded(line.curve.low), "high": _rounded(line.curve.high)}


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
