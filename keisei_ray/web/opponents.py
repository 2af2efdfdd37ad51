"""Checkpoints of a run as opponents, with names that a person understands."""

import time
from pathlib import Path
from typing import Any, Final, NamedTuple

from keisei_ray.config.json_text import read_json
from keisei_ray.errors import CheckpointError
from keisei_ray.status.checkpoints import ListedCheckpoint, list_checkpoints
from keisei_ray.storage.run_layout import CHECKPOINTS_DIR, PROGRESS_FILE, is_checkpoint_name
from keisei_ray.telemetry.visible_text import shortened

MAX_SIMULATIONS: Final = 3200
MAX_TEMPERATURE: Final = 2.0


class Strength(NamedTuple):
    """A way to play, by name."""

    name: str
    simulations: int
    """Simulations for each move; 0: the network alone."""
    temperature: float
    """0: the best move; above it, others too."""


STRENGTHS: Final = (
    Strength("bare, varied", 0, 1.0),
    Strength("bare", 0, 0.0),
    Strength("with a short search", 50, 0.0),
    Strength("with search", 200, 0.0),
    Strength("with a long search", 1600, 0.0),
)
"""Strengths to choose from, in order of strength."""


def opponents(run_dir: Path, uri: str | None) -> list[dict[str, Any]]:
    """Returns the checkpoints of a run as JSON types, the newest first.

    Args:
        run_dir: directory of the run.
        uri: where the run is, if the directory is a copy, which has no weights.

    Raises:
        RunDirError: the directory or the ratings cannot be read.
    """
    listed = list_checkpoints(run_dir, time.time(), verify=False)
    return [_opponent(found, uri) for found in reversed(listed) if _is_of_run(found)]


def opponent(run_dir: Path, uri: str | None, name: str) -> dict[str, Any]:
    """Returns a checkpoint of a run by its name.

    Args:
        run_dir, uri: as for `opponents`.
        name: name of the checkpoint.

    Raises:
        CheckpointError: there is none of this name, or it is damaged.
        RunDirError: the directory or the ratings cannot be read.
    """
    found = next((entry for entry in opponents(run_dir, uri) if entry["name"] == name), None)
    if found is None:
        raise CheckpointError(
            f"there is no checkpoint {shortened(name)!r} (any more). Choose another one."
        )
    if found["problem"] is not None:
        raise CheckpointError(f"{name} is damaged: {found['problem']} Choose another one.")
    return found


def training_time(seconds: float) -> str:
    """Returns a time of training in words, in its largest unit: "5 minutes"."""
    for unit, size in (("day", 86_400), ("hour", 3_600), ("minute", 60)):
        if seconds >= 2 * size or (unit == "minute" and seconds >= size):
            number = round(seconds / size)
            return f"{number} {unit}{'s' if number != 1 else ''}"
    number = round(seconds)
    return f"{number} second{'s' if number != 1 else ''}"


def _is_of_run(found: ListedCheckpoint) -> bool:
    """Whether a checkpoint is part of the run, and not of what a resume has set aside."""
    return is_checkpoint_name(Path(found.path).name)


def _opponent(found: ListedCheckpoint, uri: str | None) -> dict[str, Any]:
    rating = found.rating
    name, trained_s = Path(found.path).name, _trained_s(Path(found.path))
    path, problem = found.path, found.problem
    if uri is not None:
        path = f"{uri}/{CHECKPOINTS_DIR}/{name}"
        # Only what was copied can be damaged here; the rest is verified when it is fetched.
        problem = problem if found.timestep is None else None
    if found.timestep == 0:
        label = "untrained"
    elif trained_s is None:
        label = "trained for an unknown time"
    else:
        label = f"as after {training_time(trained_s)} of training"
    return {
        "name": name,
        "path": path,
        "label": label,
        "timestep": found.timestep,
        "weights_version": found.weights_version,
        "elo": None if rating is None else rating.elo,
        "elo_low": None if rating is None else rating.low,
        "elo_high": None if rating is None else rating.high,
        "problem": None if problem is None else shortened(problem),
    }


def _trained_s(path: Path) -> float | None:
    """Returns the seconds of training behind a checkpoint; None if it does not say."""
    try:
        seconds = read_json(path / PROGRESS_FILE).get("wall_time_s")
    except (OSError, ValueError, AttributeError):
        return None
    is_number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
    return float(seconds) if is_number and 0 <= seconds < 1e12 else None
