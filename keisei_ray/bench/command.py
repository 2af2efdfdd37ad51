"""Speed, as ratios against a bare loop in the same run, so that a noisy machine matters less.

Each benchmark alternates between the real thing and the least that any program would have to
do, and reports the median of the ratios. The budgets are the project's own; a figure that
misses one is shown as such.
"""

import os
import platform
from collections.abc import Callable, Sequence
from dataclasses import asdict
from importlib import metadata
from typing import Any

from rich.console import Console
from rich.table import Table

from keisei_ray.bench import components, end_to_end
from keisei_ray.bench.measure import Figure
from keisei_ray.config.schema import Config

BENCHMARKS: dict[str, Callable[[Config], list[Figure]]] = {
    "env": components.env,
    "actor": components.actor,
    "learner": components.learner,
    "wire": components.wire,
    "broadcast": components.broadcast,
    "train": end_to_end.train,
}


def run_benchmarks(names: Sequence[str], config: Config, console: Console) -> dict[str, Any]:
    """Runs the named benchmarks one after the other and prints a table as each is done.

    Args:
        names: keys of `BENCHMARKS`.
        config: what is measured; its model, rollout and learner sections count.
        console: for the tables.

    Returns:
        Machine, versions, settings and every figure, ready for JSON.
    """
    figures: list[Figure] = []
    for name in names:
        with console.status(f"benchmark {name}"):
            measured = BENCHMARKS[name](config)
        figures += measured
        console.print(_table(name, measured))
    return {
        "machine": _machine(),
        "config": config.model_dump(mode="json"),
        "figures": [asdict(figure) | {"is_met": figure.is_met} for figure in figures],
    }


def _table(name: str, figures: Sequence[Figure]) -> Table:
    table = Table(title=name, title_justify="left", show_edge=False, pad_edge=False)
    for column, justify in (
        ("what", "left"),
        ("measured", "right"),
        ("bare", "right"),
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


def _machine() -> dict[str, str | int]:
    packages = ("keisei-ray", "torch", "ray", "numpy", "rsshogi")
    return {
        "processor": platform.processor() or platform.machine(),
        "num_cpus": os.cpu_count() or 1,
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in packages},
    }
