"""Where runs lie when nobody says where, and which of them was begun last."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from keisei_ray.errors import RunDirError

RUNS_DIR: Final = "runs"
RAY_JOB: Final = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""Ray sets this variable, and RAY_ADDRESS, for what `ray job submit` runs."""
RAY_WORKING_DIRS: Final = "working_dir_files"
"""Under this directory of a session Ray unpacks what comes with a job, and makes room again."""


def runs_dir() -> Path:
    """Where runs lie when nobody says where: `runs/`, of the home where this place is fleeting."""
    return Path.home() / RUNS_DIR if is_fleeting(Path(RUNS_DIR)) else Path(RUNS_DIR)


def is_fleeting(path: Path, environ: Mapping[str, str] = os.environ) -> bool:
    """Whether Ray may delete what lies there: in the working directory that came with a job."""
    return RAY_JOB in environ and RAY_WORKING_DIRS in path.resolve().parts


def refuse_fleeting(run_dir: str) -> None:
    """Refuses a directory for a run, or for a sweep, where Ray may delete it.

    Raises:
        RunDirError: it lies in the working directory that came with a job.
    """
    if is_fleeting(Path(run_dir)):
        raise RunDirError(
            f"run.run_dir = {run_dir} lies in the job's working directory, which Ray may delete "
            "when the job is over, expected a place that stays. Give an absolute path, or leave it "
            f"out for one under ~/{RUNS_DIR}."
        )


def newest_run_dir(marks: Sequence[str]) -> Path | None:
    """The directory under `runs_dir()` that was begun last, or None where there is none.

    Args:
        marks: names of files, any of which makes a directory a run. The first that is there was
            written when the run, or its newest resume, began.

    Raises:
        OSError: a directory cannot be read.
    """
    begun = [
        (file.stat().st_mtime, path)
        for path in sorted(runs_dir().glob("*/"))
        if (file := next((f for mark in marks if (f := path / mark).is_file()), None))
    ]
    return max(begun)[1] if begun else None
