"""The `bench` command for speed: runs benchmarks and prints a table of each.

A figure that misses its budget, a limit that this project sets itself, is shown as missed.
`bench learning` is in `learning`.
"""

import gc
import os
import platform
from collections.abc import Callable, Sequence
from dataclasses import asdict
from importlib import metadata
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from keisei_ray.bench import components, end_to_end
from keisei_ray.bench.measure import Figure
from keisei_ray.config.schema import Config

BENCHMARKS: Final[dict[str, Callable[[Config], list[Figure]]]] = {
    "env": components.env,
    "actor": components.actor,
    "search": components.search,
    "learner": components.learner,
    "learners": components.learners,
    "wire": components.wire,
    "broadcast": components.broadcast,
    "train": end_to_end.train,
}
"""Name on the command line -> benchmark."""


def run_benchmarks(names: Sequence[str], config: Config, console: Console) -> dict[str, Any]:
    """Runs the named benchmarks one after the other and prints a table after each.

    Args:
        names: keys of `BENCHMARKS`.
        config: settings to measure, above all those of model, self_play and learner.
        console: where the tables are printed.

    Returns:
        Machine, versions, settings and every figure as JSON types.
    """
    figures: list[Figure] = []
    for name in names:
        with console.status(f"benchmark {name}"):
            measured = BENCHMARKS[name](config)
        # Boards may be dropped by no other thread than this; the next benchmark may start some.
        gc.collect()
        figures += measured
        console.print(figures_table(name, measured))
    return {
        "machine": machine(),
        "config": config.model_dump(mode="json"),
        "figures": [asdict(figure) | {"is_met": figure.is_met} for figure in figures],
    }


def figures_table(name: str, figures: Sequence[Figure]) -> Table:
    """Returns a table of figures, with the plain loop's beside them where there is one."""
    table = Table(title=name, title_justify="left", show_edge=False, pad_edge=False)
    if any(f.bare is not None for f in figures):
        table.caption = (
            "plain: the same work in a plain loop, without this program; ratio: measured / plain"
        )
        table.caption_justify = "left"
    # A description that takes two lines must not look like a row without figures.
    table.show_lines = True
    for column, justify in (
        ("what", "left"),
        ("measured", "right"),
        ("plain", "right"),
        ("ratio", "right"),
        ("budget", "right"),
        ("", "left"),
    ):
        table.add_column(column, justify=justify)  # type: ignore[arg-type]
    for f in figures:
        table.add_row(
            f.what,
            f"{f.value:,.4g} {f.unit}" if f.value < 1000 else f"{f.value:,.0f} {f.unit}",
            "" if f.bare is None else f"{f.bare:,.0f}" if f.bare >= 1000 else f"{f.bare:,.4g}",
            "" if f.ratio is None else f"{f.ratio:.3f}",
            f.budget_text,
            {True: "[green]met[/]", False: "[red]missed[/]", None: ""}[f.is_met],
        )
    return table


def machine() -> dict[str, str | int]:
    """Returns the machine and the versions of what runs on it."""
    packages = ("keisei-ray", "torch", "ray", "numpy", "rsshogi")
    return {
        "processor": platform.processor() or platform.machine(),
        "num_cpus": os.cpu_count() or 1,
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in packages},
    }
