"""Renames what a run does not go on from, so that nothing is lost and nothing is mixed.

A run that is resumed from a checkpoint plays the plies after it again. The newer checkpoints then
belong to another course of the run: resuming from the latest must not find them, and pruning must
not keep them in place of what the run saves now. The same holds for a whole run directory from
which a run cannot go on. The new name contains `superseded-N`, where N is the lowest number
that is free.
"""

import itertools
from collections.abc import Callable, Container, Iterable
from pathlib import Path

from keisei_ray.errors import RunDirError
from keisei_ray.storage.atomic_files import sync_directory
from keisei_ray.storage.run_dirs import holds_run
from keisei_ray.storage.run_layout import (
    LOCK_FILE,
    SUPERSEDED,
    TUNE_PREFIXES,
    is_checkpoint_name,
    timestep_of,
)


def newer_checkpoints(names: Iterable[str], timestep: int | None) -> list[str]:
    """Returns the names of the checkpoints beyond the one that a run goes on from, oldest first.

    Args:
        names: the entries of a checkpoints directory; anything but a checkpoint is ignored.
        timestep: that of the checkpoint that the run goes on from; None: every checkpoint is
            beyond the beginning of a fresh run.
    """
    limit = -1 if timestep is None else timestep
    newer = (name for name in names if is_checkpoint_name(name) and timestep_of(name) > limit)
    return sorted(newer, key=timestep_of)


def superseded_name(name: str, taken: Container[str]) -> str:
    """Returns the name that a superseded checkpoint gets, `superseded-N-<name>`.

    Args:
        name: the checkpoint's name.
        taken: the names in its directory.
    """
    return next(new for n in itertools.count() if (new := f"{SUPERSEDED}-{n}-{name}") not in taken)


def set_newer_aside(
    checkpoints_dir: Path, timestep: int, on_renamed: Callable[[str, str], object]
) -> None:
    """Renames the checkpoints beyond the one that a run is resumed from, oldest first.

    It comes before the records are cut: a checkpoint whose records are gone must not be the newest.
    Whatever ends it in between, it can be called again. The newest one stands until the last
    renaming, and so do the records of its plies.

    Args:
        checkpoints_dir: may be missing.
        timestep: that of the checkpoint that the run goes on from.
        on_renamed: called with the old and the new name after each renaming.

    Raises:
        RunDirError: the directory cannot be listed, or a checkpoint cannot be renamed.
    """
    try:
        names = {entry.name for entry in checkpoints_dir.iterdir()}
    except FileNotFoundError:
        return
    except OSError as error:
        raise RunDirError(f"cannot list {checkpoints_dir}: {error.strerror or error}.") from error
    newer = newer_checkpoints(names, timestep)
    path = checkpoints_dir
    try:
        for name in newer:
            path, new_name = checkpoints_dir / name, superseded_name(name, names)
            path.rename(path.with_name(new_name))
            on_renamed(name, new_name)
        if newer:
            sync_directory(checkpoints_dir)
    except OSError as error:
        raise RunDirError(
            f"{path} cannot be renamed: {error.strerror or error}. The run is to go on before it. "
            "Make its directory writable, and resume in the same way again."
        ) from error


def set_directory_aside(path: Path) -> Path:
    """Renames a directory to `<name>.superseded-N` and returns its new path.

    Raises:
        OSError: it cannot be renamed.
    """
    names = (path.with_name(f"{path.name}.{SUPERSEDED}-{n}") for n in itertools.count())
    return path.rename(next(name for name in names if not name.exists()))


def set_run_aside(run_dir: Path) -> None:
    """Moves the files of a run, if there is one, into `superseded-N/` in the same directory.

    For a trial's directory, which Ray Tune shares: its own files stay, and so does the lock of the
    process that writes there.

    Raises:
        RunDirError: a file cannot be moved.
    """
    if not holds_run(run_dir):
        return
    stays = (f"{SUPERSEDED}-", LOCK_FILE, *TUNE_PREFIXES)
    names = (run_dir / f"{SUPERSEDED}-{n}" for n in itertools.count())
    aside = next(name for name in names if not name.exists())
    try:
        aside.mkdir()
        for path in sorted(run_dir.iterdir()):
            if not path.name.startswith(stays):
                path.rename(aside / path.name)
    except OSError as error:
        raise RunDirError(f"{aside} cannot be filled: {error.strerror or error}.") from error
