"""Notices of a resume about settings that differ, and its refusals."""

import json
from pathlib import Path
from typing import Any

import pytest

from keisei_ray.config.schema import Config
from keisei_ray.errors import ConfigError
from keisei_ray.storage.checkpoint import Checkpoint
from keisei_ray.training.resumed_settings import check_length, notices

TIMESTEP = 5_000


def config(**sections: dict[str, Any]) -> Config:
    values = {"run": {"total_timesteps": 10_000}} | sections
    return Config.model_validate(values)


def saved_with(settings: Config | None) -> Checkpoint:
    files = {} if settings is None else {"config.json": settings.model_dump_json().encode()}
    return Checkpoint(Path("run/checkpoints/step-000000005000"), TIMESTEP, {}, files)


def said(before: Config | None, now: Config, run_config: bytes | Config | None = b"same") -> Any:
    """Level and text of each notice, by default of a run whose config.json is its checkpoint's."""
    if run_config == b"same":
        run_config = before
    content = (
        run_config.model_dump_json().encode() if isinstance(run_config, Config) else run_config
    )
    return [(n.level, n.message) for n in notices(saved_with(before), content, now)]


def test_a_resume_with_the_same_settings_says_nothing() -> None:
    now = config(run={"total_timesteps": 10_000, "run_dir": "b", "resume": "latest"})
    assert said(config(), now) == []


def test_each_setting_that_differs_is_said_with_both_values() -> None:
    now = config(learner={"gamma": 0.9}, self_play={"num_actors": 5})
    assert said(config(), now) == [
        ("INFO", "learner.gamma = 0.9, in the checkpoint 0.997"),
        ("INFO", "self_play.num_actors = 5, in the checkpoint 2"),
    ]


def test_a_setting_that_the_checkpoint_does_not_know_is_not_said() -> None:
    tree = json.loads(config().model_dump_json())
    del tree["learner"]["gamma"]
    old = Checkpoint(Path("x"), TIMESTEP, {}, {"config.json": json.dumps(tree).encode()})
    now = config(learner={"gamma": 0.9})
    assert list(notices(old, json.dumps(tree).encode(), now)) == []


@pytest.mark.parametrize(
    ("content", "is_said"),
    [(b"", True), (b'{"run": {', True), (b"[]", True), (b'{"run": 3}', True), (None, False)],
)
def test_settings_that_are_lost_or_damaged_are_said(content: bytes | None, is_said: bool) -> None:
    expected = ("WARNING", "config.json is missing or damaged; it is written again")
    assert said(config(), config(), content) == ([expected] if is_said else [])


def test_a_value_of_the_run_directory_that_is_not_used_is_said() -> None:
    edited = config(learner={"gamma": 0.9})
    assert said(config(), config(), edited) == [
        ("INFO", "config.json had learner.gamma = 0.9, which is not used; it is 0.997 now")
    ]
    assert said(config(), edited, edited) == [
        ("INFO", "learner.gamma = 0.9, in the checkpoint 0.997")
    ]


def test_a_checkpoint_without_settings_is_said() -> None:
    [(level, text)] = said(None, config(), config())
    assert level == "WARNING"
    assert "has no settings; those of config.json are used" in text


def test_schedules_that_jump_are_said_with_both_values() -> None:
    """Half way, linear to a tenth: 0.55. A quarter of the way: 0.775."""
    learner = {"learning_rate": 1e-3, "lr_schedule": "linear", "ent_coef": 0.01}
    learner |= {"lr_final_fraction": 0.1, "ent_final_fraction": 0.0}
    before = config(learner=learner)
    now = config(learner=learner, run={"total_timesteps": 20_000})
    assert said(before, now)[1:] == [
        ("WARNING", "the learning rate goes on at 0.000775; it was 0.00055"),
        ("WARNING", "the entropy coefficient goes on at 0.0075; it was 0.005"),
    ]


@pytest.mark.parametrize("shape", ["constant", "adaptive"])
def test_what_does_not_depend_on_the_length_is_not_said_to_jump(shape: str) -> None:
    learner = {"lr_schedule": shape, "ent_final_fraction": 1.0}
    found = said(config(learner=learner), config(learner=learner, run={"total_timesteps": 20_000}))
    assert found == [("INFO", "run.total_timesteps = 20000, in the checkpoint 10000")]


def test_a_length_that_is_exceeded_already_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"run.total_timesteps = 4999, but .* on 5000 timesteps"):
        check_length(saved_with(config()), config(run={"total_timesteps": 4_999}))
    check_length(saved_with(config()), config(run={"total_timesteps": 5_000}))


def test_a_run_that_has_ended_may_be_started_again_with_its_own_length() -> None:
    """It ended with the update that reached 4,990, and is done."""
    own = config(run={"total_timesteps": 4_990})
    check_length(saved_with(own), own)
    with pytest.raises(ConfigError):
        check_length(saved_with(None), own)


@pytest.mark.parametrize("total", [float("inf"), float("nan"), 0, "many"])
def test_a_length_of_a_checkpoint_that_is_no_length_gives_no_schedule(total: object) -> None:
    tree = json.loads(config().model_dump_json())
    tree["run"]["total_timesteps"] = total
    old = Checkpoint(Path("x"), TIMESTEP, {}, {"config.json": json.dumps(tree).encode()})
    assert not any("rate" in notice.message for notice in notices(old, None, config()))
