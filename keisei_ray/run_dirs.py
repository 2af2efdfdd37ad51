"""Where runs lie when nobody says where, and which of them was begun last."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

RUNS_DIR: Final = "runs"
CHECKPOINTS_DIR: Final = "checkpoints"
"""Within a run's directory."""


def newest_run_dir(marks: Sequence[str]) -> Path | None:
    """The directory under `runs/` that was begun last, or None where there is none.

    Args:
        marks: names of files, any of which makes a directory a run. The first that is there was
            written when the run, or its newest resume, began.

    Raises:
        OSError: a directory cannot be read.
    """
    begun = [
        (file.stat().st_mtime, path)
        for path in sorted(Path(RUNS_DIR).glob("*/"))
        if (file := next((f for mark in marks if (f := path / mark).is_file()), None))
    ]
    return max(begun)[1] if begun else None
