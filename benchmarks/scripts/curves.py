"""One picture of the learning curves of several runs: an SVG for the documentation.

    python benchmarks/scripts/curves.py runs/1 runs/2 runs/3 --out docs/default-command.svg

Each run is a line in every chart. The numbers are those of `metrics.jsonl` and `diagnostics.jsonl`.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import svg_charts as svg

from keisei_ray.report.chart_data import Frame, Line, scale_for
from keisei_ray.report.columns import Columns, GrowingColumns
from keisei_ray.report.curves import Curve, thin_out
from keisei_ray.storage.json_lines import JsonLinesReader
from keisei_ray.storage.run_layout import DIAGNOSTICS_FILE, METRICS_FILE

CHARTS = (
    ("entropy, nats", METRICS_FILE, "entropy"),
    ("kl_proximal, nats", DIAGNOSTICS_FILE, "kl_proximal"),
    ("clip_fraction", METRICS_FILE, "clip_fraction"),
    ("explained_variance", METRICS_FILE, "explained_variance"),
)
"""Title, file and key of each chart."""
COLORS = ("#0b5cad", "#c2410c", "#15803d", "#7e22ce", "#a16207", "#be123c")
MAX_POINTS = 150
TITLE_HEIGHT = 22
STYLE = """
text { font: 11px sans-serif; fill: #4b5563; }
.title { font-size: 13px; font-weight: bold; fill: #111827; }
.grid { stroke: #d1d5db; fill: none; }
.axis { stroke: #6b7280; fill: none; }
.line { fill: none; stroke-width: 1.5; }
.band { opacity: 0.15; }
.dot { display: none; }
"""


def main() -> None:
    """Reads the runs named on the command line and writes the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN_DIR")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    if len(options.runs) > len(COLORS):
        parser.error(f"{len(options.runs)} runs, expected at most {len(COLORS)}")
    options.out.write_text(picture(options.runs))


def picture(runs: Sequence[Path]) -> str:
    """Returns the charts of `CHARTS`, two in a row, as one SVG."""
    cells = []
    width, height = svg.WIDTH, svg.HEIGHT + TITLE_HEIGHT
    for number, (title, file, key) in enumerate(CHARTS):
        x, y = number % 2 * width, number // 2 * height
        cells.append(
            f'<text class="title" x="{x + svg.LEFT}" y="{y + 16}">{title}</text>'
            f'<svg x="{x}" y="{y + TITLE_HEIGHT}" width="{svg.WIDTH}" height="{svg.HEIGHT}">'
            f"{_chart([_columns(run / file, key) for run in runs], key)}</svg>"
        )
    colors = "".join(
        f".line{i} {{ stroke: {color}; }} .band{i} {{ fill: {color}; }}\n"
        for i, color in enumerate(COLORS)
    )
    rows = -(-len(CHARTS) // 2)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {2 * width} {rows * height}">'
        f"<style>{STYLE}{colors}</style>"
        f'<rect width="100%" height="100%" fill="white"/>{"".join(cells)}</svg>\n'
    )


def _columns(path: Path, key: str) -> Columns:
    return GrowingColumns(JsonLinesReader(path), ("timestep", key)).read()


def _chart(runs: Sequence[Columns], key: str) -> str:
    """Returns one chart with a line for each run."""
    curves: list[Curve] = [thin_out(run["timestep"], run[key], MAX_POINTS) for run in runs]
    lines = [Line(f"run {number}", curve) for number, curve in enumerate(curves, start=1)]
    frame = Frame((0.0, max(float(run["timestep"][-1]) for run in runs)), ())
    scale = scale_for(lines, floor=0.0, ceiling=None)
    return svg.line_chart(lines, frame, scale, is_share=False, title=key)


if __name__ == "__main__":
    main()
