"""Directories of runs: the default place, names of new ones, and the one that began last."""

import itertools
import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from keisei_ray.errors import RunDirError
from keisei_ray.storage.run_layout import CHECKPOINTS_DIR, CONFIG_FILE

RUNS_DIR: Final = "runs"
"""Directory for runs whose directory was not given."""
RAY_JOB: Final = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""Environment variable that Ray sets for a program started by `ray job submit`."""
RAY_WORKING_DIRS: Final = "working_dir_files"
"""Part of the path under which Ray unpacks the files of a job, and later deletes them."""


def runs_dir() -> Path:
    """Returns the directory for runs: `runs/`, or `~/runs/` if Ray may delete the former."""
    return Path.home() / RUNS_DIR if is_in_job_directory(Path(RUNS_DIR)) else Path(RUNS_DIR)


def is_in_job_directory(path: Path, environ: Mapping[str, str] = os.environ) -> bool:
    """Returns whether a path lies in the working directory of a Ray job, which Ray may delete."""
    return RAY_JOB in environ and RAY_WORKING_DIRS in path.resolve().parts


def refuse_job_directory(run_dir: str) -> None:
    """Refuses a directory for a run or a sweep that Ray may delete.

    Raises:
        RunDirError: it lies in the working directory of a Ray job.
    """
    if is_in_job_directory(Path(run_dir)):
        raise RunDirError(
            f"run.run_dir = {run_dir} lies in the job's working directory, which Ray may delete "
            "when the job is over, expected a place that stays. Give an absolute path, or leave it "
            f"out for one under ~/{RUNS_DIR}."
        )


def make_new_run_dir(prefix: str = "") -> Path:
    """Makes a directory under `runs_dir()` that is named after the time, and returns it.

    Processes that start within a second get a directory each.

    Args:
        prefix: beginning of the directory's name.

    Raises:
        OSError: it cannot be made; `filename` says which.
    """
    path = runs_dir() / f"{prefix}{datetime.now(UTC):%Y%m%d-%H%M%S}"
    path.parent.mkdir(parents=True, exist_ok=True)
    for number in itertools.count():
        name = path.with_name(f"{path.name}-{number}" if number else path.name)
        try:
            name.mkdir()
        except FileExistsError:
            continue
        return name
    raise AssertionError("itertools.count() ends")


def make_run_dir(run_dir: Path) -> bool:
    """Makes a directory with its parents; returns whether this call has made it.

    Of several processes that ask for one directory, one has made it.

    Raises:
        OSError: it cannot be made, or a file has its name.
    """
    try:
        run_dir.mkdir(parents=True)
    except FileExistsError:
        if run_dir.is_dir():
            return False
        raise
    return True


def holds_run(run_dir: Path) -> bool:
    """Returns whether a run has begun in a directory."""
    return any((run_dir / name).exists() for name in (CONFIG_FILE, CHECKPOINTS_DIR))


def newest_run_dir(marks: Sequence[str]) -> Path | None:
    """Returns the directory under `runs_dir()` that began last; None if there is none.

    Args:
        marks: names of files, each of which shows that a directory is a run's. The first one that
            exists was written when the run, or its newest resume, began.

    Raises:
        OSError: a directory cannot be read.
    """
    begun = [
        (file.stat().st_mtime, path)
        for path in sorted(runs_dir().glob("*/"))
        if (file := next((f for mark in marks if (f := path / mark).is_file()), None))
    ]
    return max(begun)[1] if begun else None
