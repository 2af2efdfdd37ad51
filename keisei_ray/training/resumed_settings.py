"""Differences between a resumed run and the one before: settings, schedules that jump.

A run that is resumed by the command line starts from the settings in its checkpoint, which the
manifest verifies. What was given besides, and what `config.json` of the run directory says
otherwise, differs knowingly or by mistake, so each difference becomes a notice with both values.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from pydantic import ValidationError

from keisei_ray.config.schema import Config
from keisei_ray.config.sections import LearnerConfig
from keisei_ray.errors import ConfigError
from keisei_ray.learning.schedules import scheduled_ent_coef, scheduled_learning_rate
from keisei_ray.storage.checkpoint import Checkpoint
from keisei_ray.storage.run_layout import CONFIG_FILE
from keisei_ray.telemetry.events import Notice

Settings = dict[str, Any]
"""Dotted key -> value, as in JSON."""

LENGTH: Final = "run.total_timesteps"
OF_A_SESSION: Final = ("run.run_dir", "run.resume")
"""Settings that say where a session begins, and so differ between sessions."""


def check_length(resume: Checkpoint, config: Config) -> None:
    """Refuses a run that is asked to be shorter than it is already.

    A run that has ended may be started again with the length that it had: it is done.

    Raises:
        ConfigError: `run.total_timesteps` is smaller than what has been trained.
    """
    total, done = config.run.total_timesteps, resume.timestep
    if total < done and total != _saved(resume).get(LENGTH):
        raise ConfigError(
            f"run.total_timesteps = {total}, but {resume.path} has trained on {done} timesteps "
            "already. Give a larger number, or resume from an older checkpoint by --resume PATH."
        )


def notices(resume: Checkpoint, run_config: bytes | None, config: Config) -> Iterator[Notice]:
    """Yields what a resumed run does otherwise than the run that it goes on with.

    Args:
        resume: the checkpoint that it goes on from.
        run_config: content of `config.json` in the run directory before the resume, see
            `RunStart.former_config`.
        config: the effective settings of the resumed run.
    """
    saved, now = _saved(resume), _settings(config.model_dump(mode="json"))
    if not saved:
        yield Notice(
            f"{resume.path} has no settings; those of {CONFIG_FILE} are used where none are given",
            "WARNING",
        )
        return
    own = _parsed(run_config)
    if own is None and run_config is not None:
        yield Notice(f"{CONFIG_FILE} is missing or damaged; it is written again", "WARNING")
    for key in sorted(now.keys() & saved.keys() - set(OF_A_SESSION)):
        if now[key] != saved[key]:
            yield Notice(f"{key} = {_shown(now[key])}, in the checkpoint {_shown(saved[key])}")
        said = (own or saved).get(key, saved[key])
        if said not in (saved[key], now[key]):
            yield Notice(
                f"{CONFIG_FILE} had {key} = {_shown(said)}, which is not used; it is "
                f"{_shown(now[key])} now"
            )
    yield from _jumps(resume.timestep, saved, config)


def _jumps(timestep: int, saved: Settings, config: Config) -> Iterator[Notice]:
    """Yields a warning for each schedule that gives another value now than before."""
    section = {k.partition(".")[2]: v for k, v in saved.items() if k.startswith("learner.")}
    try:
        before = LearnerConfig.model_validate_json(json.dumps(section))
        was = timestep / int(saved[LENGTH])
    except (ValidationError, ValueError, KeyError, TypeError, ArithmeticError):
        return  # Saved by a program with other settings.
    after, now = config.learner, timestep / config.run.total_timesteps
    # An adaptive learning rate is in the learner's state, which the run goes on with.
    if "adaptive" not in (before.lr_schedule, after.lr_schedule):
        old, new = scheduled_learning_rate(before, was), scheduled_learning_rate(after, now)
        if old != new:
            yield Notice(f"the learning rate goes on at {new:.3g}; it was {old:.3g}", "WARNING")
    old, new = scheduled_ent_coef(before, was), scheduled_ent_coef(after, now)
    if old != new:
        yield Notice(f"the entropy coefficient goes on at {new:.3g}; it was {old:.3g}", "WARNING")


def _saved(resume: Checkpoint) -> Settings:
    """Returns the settings in a checkpoint; none where it has none."""
    return _parsed(resume.files.get(CONFIG_FILE)) or {}


def _parsed(content: bytes | None) -> Settings | None:
    """Returns the settings in a file's content; None if it is missing or damaged."""
    try:
        return _settings(json.loads(content or b""))
    except (ValueError, TypeError, AttributeError, RecursionError):
        return None


def _settings(tree: Mapping[str, Mapping[str, Any]]) -> Settings:
    return {f"{name}.{key}": value for name, keys in tree.items() for key, value in keys.items()}


def _shown(value: object) -> str:
    return json.dumps(value)
