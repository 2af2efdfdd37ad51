"""Sweep files: their parts, their base configuration, and how they are saved."""

from pathlib import Path

import pytest
import yaml

from keisei_ray.errors import ConfigError
from keisei_ray.tune.sweep_file import Sweep, load_sweep_file
from tests.helpers.sweeps import SMALL, sweep_of


def test_a_missing_part_and_a_file_that_is_not_a_sweep_are_named(tmp_path: Path) -> None:
    path = tmp_path / "some.yaml"
    for text, named in [("space: {}\n", "metric is missing"), ("[1]\n", "a list"), ("{", "YAML")]:
        path.write_text(text, encoding="utf-8")
        with pytest.raises(ConfigError, match=named):
            load_sweep_file(str(path), {}, [], {})
    with pytest.raises(ConfigError, match=r"nowhere\.yaml"):
        load_sweep_file(str(tmp_path / "nowhere.yaml"), {}, [], {})


def test_the_base_comes_from_file_environment_settings_and_command_line(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text("learner: {gamma: 0.5, num_epochs: 2, vf_coef: 0.1}\n")
    path = tmp_path / "sweep.yaml"
    path.write_text(
        yaml.safe_dump(SMALL | {"config": "base.yaml", "settings": {"learner.num_epochs": 3}})
    )
    environ = {"KEISEI_LEARNER__VF_COEF": "0.2", "KEISEI_LEARNER__NUM_EPOCHS": "4"}
    base = load_sweep_file(str(path), environ, ["learner.clip_coef=0.3"], {}).base.learner
    assert (base.gamma, base.vf_coef, base.num_epochs, base.clip_coef) == (0.5, 0.2, 3, 0.3)
    with pytest.raises(ConfigError, match=r"learner\.learning_rate is searched"):
        load_sweep_file(str(path), environ, ["learner.learning_rate=1e-3"], {})


def test_a_sweep_is_the_same_after_it_was_saved(tmp_path: Path) -> None:
    sweep = sweep_of(tmp_path, scheduler={"kind": "asha", "grace_timesteps": 10})
    assert Sweep.from_json(sweep.to_json(), "sweep.json") == sweep
    for text in ('{"sweep": {}}', "[" * 100_000):
        with pytest.raises(ConfigError, match=r"sweep\.json"):
            Sweep.from_json(text, "sweep.json")


def test_trials_play_no_matches_unless_the_sweep_says_so(tmp_path: Path) -> None:
    evaluation = sweep_of(tmp_path).base.evaluation
    assert (evaluation.interval_timesteps, evaluation.max_cpu_share) == (None, 1.0)
    assert not evaluation.adapt_opponents
    given = sweep_of(tmp_path, settings={"evaluation": {"interval_timesteps": 500}})
    assert given.base.evaluation.interval_timesteps == 500


def test_a_long_value_is_named_without_its_middle(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"metric\.mode = ") as error:
        sweep_of(tmp_path, metric={"name": "policy_loss", "mode": "x" * 5000})
    assert len(str(error.value)) < 500
