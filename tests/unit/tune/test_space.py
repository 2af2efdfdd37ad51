"""Draws from the search space, and the values that are validated for them."""

from pathlib import Path
from typing import Any

import pytest
from ray import tune

from keisei_ray.config.schema import Config
from keisei_ray.tune.space import Dimension, dimensions, dotted_settings, samples, trial_config
from tests.helpers.sweeps import sweep_of


def test_every_draw_lies_between_the_extremes_that_were_validated(tmp_path: Path) -> None:
    kinds: dict[str, list[Any]] = {
        "uniform": [0.25, 0.5],
        "quniform": [0.2, 0.8, 0.2],
        "loguniform": [1e-4, 1e-2],
        "qloguniform": [0.5, 4.0, 0.5],
        "randint": [1, 4],
        "lograndint": [1, 4],
        "qrandint": [2, 8, 2],
        "choice": ["a", "b"],
    }
    for kind, values in kinds.items():
        dimension = Dimension("some.key", kind, tuple(values))
        drawn = {dimension.domain().sample() for _ in range(300)}
        extremes = dimension.extremes()
        if kind == "choice":
            assert drawn == set(extremes)
            continue
        assert min(extremes) <= min(drawn) <= max(drawn) <= max(extremes)
        if kind.endswith("randint"):
            assert (min(drawn), max(drawn)) == extremes
        assert [dimension.clamp(v) for v in drawn] == pytest.approx(list(drawn))
        assert dimension.clamp(1000) == extremes[1]
        assert dimension.clamp(-1000) == extremes[0]


def test_a_combination_of_many_values_is_sampled_with_each_value_in_it() -> None:
    space = [Dimension(f"k{i}", "choice", (0, 1, 2)) for i in range(6)]
    drawn = list(samples(space))
    assert len(drawn) < 3**6
    assert all({d[f"k{i}"] for d in drawn} == {0, 1, 2} for i in range(6))
    assert len(list(samples(space[:3]))) == 27


def test_a_trial_is_the_base_with_what_was_chosen() -> None:
    base = dotted_settings(Config.model_validate({"learner": {"gamma": 0.5}}))
    config = trial_config(base, {"learner.learning_rate": 0.125})
    assert (config.learner.gamma, config.learner.learning_rate) == (0.5, 0.125)


def test_pbt_moves_along_a_choice_and_draws_from_a_range(tmp_path: Path) -> None:
    space = {"learner.num_epochs": {"choice": [1, 2, 4]}, "learner.gamma": {"uniform": [0.9, 1.0]}}
    gamma, epochs = dimensions(sweep_of(tmp_path, space=space))
    assert epochs.mutation() == [1, 2, 4]
    assert isinstance(gamma.mutation(), tune.search.sample.Domain)
