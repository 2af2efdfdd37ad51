"""The benchmarks of components, at tiny sizes."""

import pytest

from keisei_ray.bench import components
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
