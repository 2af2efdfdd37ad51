"""The benchmarks of components, at tiny sizes."""

import io

import pytest
from rich.console import Console

from keisei_ray.bench import components
from keisei_ray.bench.command import figures_table
from keisei_ray.bench.measure import Figure
from tests.helpers.tiny import tiny_config


def test_a_search_is_measured_with_many_trees_and_with_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"SECONDS": 0.01, "ROUNDS": 1, "SEARCHED_SIMULATIONS": 128}.items():
        monkeypatch.setattr(components, name, value)
    figures = components.search(tiny_config())
    assert [figure.what.split(", ")[1] for figure in figures] == ["64 trees x 1", "1 trees x 16"]
    for figure in figures:
        assert figure.bare is not None
        assert figure.value > 0
        assert figure.bare > 0


def test_a_table_says_what_its_columns_are_and_keeps_its_rows_apart() -> None:
    console = Console(width=80, record=True, file=io.StringIO())
    what = "self-play 4x64, one core, beside the network's forward passes 64 games"
    console.print(figures_table("actor", [Figure(what, 9.0, "plies/s", 10.0, 0.9, 0.9)] * 2))
    text = console.export_text()
    assert "plain: the same work in a plain loop" in text
    first, second = (i for i, line in enumerate(text.splitlines()) if "plies/s" in line)
    between = text.splitlines()[first + 1 : second]
    assert any(set(line.strip()) <= set("\u2500\u253c-+") and line.strip() for line in between)
