"""Checkpoints: sets of named files, saved completely or not at all, verified when read.

A checkpoint is a directory `step-000000001234` with its files and a `manifest.json`, which holds
the size and SHA-256 of each file and a digest of itself. It is written under a temporary name,
synced and renamed. A crash at any moment leaves every older checkpoint untouched and no
half-written one behind. This module does not interpret the files, never unpickles, and reads no
file that the manifest does not name. A checkpoints directory has one writer, the driver; any
process may read it.
"""

import hashlib
import logging
import shutil
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from keisei_ray.config.sections import CheckpointConfig
from keisei_ray.errors import CheckpointError, RunDirError, UnreadableCheckpointError
from keisei_ray.storage.atomic_files import sync_directory, write_synced
from keisei_ray.storage.manifest import (
    Scalar,
    check_size,
    make_manifest,
    manifest_bytes,
    read_file,
    read_manifest,
)
from keisei_ray.storage.retention import Candidate, places_to_prune
from keisei_ray.storage.run_layout import (
    CHECKPOINT_GLOB,
    MANIFEST_FILE,
    REPLACED_SUFFIX,
    SUPERSEDED,
    TEMPORARY_PREFIX,
    checkpoint_name,
    is_checkpoint_name,
    timestep_of,
)

logger = logging.getLogger(__name__)

_PRUNED_PREFIX: Final = f"{TEMPORARY_PREFIX}pruned-"
"""Beginning of the name of a checkpoint that is being removed."""
HEALTH: Final = "health"
"""Key of a checkpoint's `info`: `HEALTHY`, or what speaks against its weights."""
HEALTHY: Final = "healthy"
"""Value of `HEALTH` where nothing does. A checkpoint without the key counts as healthy."""


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that was read and matches its manifest in every byte."""

    path: Path
    """Directory that it was read from."""
    timestep: int
    """Timesteps consumed when it was saved."""
    info: dict[str, Scalar]
    """Values that were saved beside the files, such as weights_version."""
    files: dict[str, bytes]
    """Content by file name."""


def save(
    checkpoints_dir: Path,
    timestep: int,
    files: Mapping[str, bytes],
    info: Mapping[str, Scalar],
) -> Path:
    """Saves a checkpoint; when this returns, it survives a power cut.

    Blocks until everything is on the disk. Saving a timestep again does nothing if the content is
    the same. Otherwise it replaces the checkpoint such that `find_latest` sees the old or the new
    one at every moment. Leftovers of an interrupted save are removed first, and so are those of
    `prune` and of a replacement, as far as they can be.

    Args:
        checkpoints_dir: created if missing.
        timestep: >= 0; gives the directory its name.
        files: plain file name (no separators, no leading dot) to content; at least one.
        info: JSON scalars, finite.

    Returns:
        The directory of the checkpoint.

    Raises:
        RunDirError: the disk is full or read-only, or the path is not a directory. No temporary
            file is left and older checkpoints are untouched.
        ValueError: a name or value that no checkpoint can hold.
    """
    manifest = make_manifest(timestep, files, info)
    path = checkpoints_dir / checkpoint_name(timestep)
    aside = checkpoints_dir / f"{TEMPORARY_PREFIX}{path.name}"
    try:
        checkpoints_dir.mkdir(parents=True, exist_ok=True)
        _tidy(checkpoints_dir)
        if _holds(path, manifest):
            return path
        _write(aside, files, manifest)
        _put_in_place(aside, path)
    except OSError as error:
        raise RunDirError(
            f"cannot save the checkpoint {path}: {error.strerror or error}. Older checkpoints "
            f"are untouched; free space or choose another run directory."
        ) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return path


def load(path: Path) -> Checkpoint:
    """Reads a checkpoint and verifies all of it.

    Args:
        path: directory of the checkpoint.

    Raises:
        CheckpointError: missing, damaged, or written by a newer program; names file and reason.
        UnreadableCheckpointError: it cannot be read.
    """
    manifest = read_manifest(path)
    if _is_checkpoint(path) and timestep_of(path.stem) != manifest["timestep"]:
        raise CheckpointError(
            f"{path / MANIFEST_FILE} is of timestep {manifest['timestep']}: a renamed copy?"
        )
    files = {}
    for name, entry in manifest["files"].items():
        content = read_file(path / name, entry["bytes"])
        if (found := hashlib.sha256(content).hexdigest()) != entry["sha256"]:
            raise CheckpointError(
                f"{path / name}: SHA-256 is {found[:16]}..., the manifest says "
                f"{entry['sha256'][:16]}...: the file was changed or damaged."
            )
        files[name] = content
    return Checkpoint(path, manifest["timestep"], manifest["info"], files)


def find_latest(
    checkpoints_dir: Path,
    on_skip: Callable[[Path, str], None],
    check: Callable[[Checkpoint], object] = lambda found: None,
    *,
    skips_unreadable: bool = False,
) -> Checkpoint | None:
    """Reads the newest checkpoint that verifies.

    A newer one that is damaged is passed over. One that only cannot be read may be intact, so that
    a run must not go on from an older one in its place: what is newer is then set aside.

    Args:
        checkpoints_dir: may be missing.
        on_skip: called with path and cause for each newer checkpoint that does not verify.
        check: raises a CheckpointError for one that verifies and cannot be used all the same; it is
            skipped too.
        skips_unreadable: whether one that cannot be read is passed over too.

    Returns:
        The checkpoint, or None if there is none.

    Raises:
        RunDirError: the directory cannot be listed.
        UnreadableCheckpointError: a checkpoint cannot be read, and is not to be passed over.
    """
    for path in reversed(_list(checkpoints_dir)):
        try:
            found = load(path)
            check(found)
            return found
        except CheckpointError as error:
            if isinstance(error, UnreadableCheckpointError) and not skips_unreadable:
                raise UnreadableCheckpointError(
                    f"{error} The checkpoint may be intact, so no older one is taken in its place. "
                    "Try again when it can be read, or name an older one by --resume PATH."
                ) from error
            on_skip(path, str(error))
    return None


def newest(checkpoints_dir: Path) -> Path | None:
    """Returns the newest checkpoint whose manifest verifies and whose files have their sizes.

    The content of the files is not read, so a damaged byte goes unnoticed. Meant for callers that
    only show which checkpoint there is.

    Args:
        checkpoints_dir: may be missing.

    Raises:
        RunDirError: the directory cannot be listed.
    """
    return next((path for path in reversed(_list(checkpoints_dir)) if _is_whole(path)), None)


def list_complete(checkpoints_dir: Path) -> list[Path]:
    """Returns every checkpoint that `newest` would accept, oldest first."""
    return [path for path in _list(checkpoints_dir) if _is_whole(path)]


def list_all(checkpoints_dir: Path) -> list[Path]:
    """Returns every checkpoint, damaged ones too, oldest first; those set aside come last.

    Args:
        checkpoints_dir: may be missing.

    Raises:
        RunDirError: the directory cannot be listed.
    """
    return [
        *_list(checkpoints_dir),
        *sorted(checkpoints_dir.glob(f"{SUPERSEDED}-*-{CHECKPOINT_GLOB}")),
    ]


def check_sizes(path: Path) -> dict[str, Any]:
    """Returns the manifest of a checkpoint whose files have the sizes that it says.

    The content of the files is not read.

    Raises:
        CheckpointError: the manifest does not verify, or a file is missing or of another size.
        UnreadableCheckpointError: it cannot be read.
    """
    manifest = read_manifest(path)
    for name, entry in manifest["files"].items():
        check_size(path / name, entry["bytes"])
    return manifest


def prune(
    checkpoints_dir: Path,
    keep: CheckpointConfig,
    elo_of: Mapping[int, float] = MappingProxyType({}),
    awaited: Collection[int] = (),
) -> list[Path]:
    """Removes old checkpoints by the rule of `storage/retention.py`.

    A damaged one does not count as kept and is not removed. One that cannot be removed, for
    instance because a reader on another machine has a file of it open (NFS), is warned of and left
    to a later call or save.

    Args:
        checkpoints_dir: may be missing.
        keep: settings of the run.
        elo_of: ratings by weights version.
        awaited: weights versions whose rating may still come.

    Returns:
        The directories that are checkpoints no more, oldest first.

    Raises:
        RunDirError: the directory cannot be listed.
    """
    paths = list_complete(checkpoints_dir)
    found = [
        candidate_of(timestep_of(path.stem), read_manifest(path)["info"], elo_of, awaited)
        for path in paths
    ]
    removed = []
    for path in (paths[place] for place in places_to_prune(found, keep)):
        aside = path.with_name(f"{_PRUNED_PREFIX}{path.name}")
        try:
            path.rename(aside)
            removed.append(path)
            shutil.rmtree(aside)
        except OSError as error:
            logger.warning(
                "the old checkpoint %s cannot be removed: %s. It is tried again with the next "
                "checkpoint; training goes on",
                path,
                error.strerror or error,
            )
    return removed


def health_of(info: Mapping[str, Any]) -> str:
    """Returns `HEALTHY`, or the objection to the weights of a checkpoint with this `info`."""
    return str(info.get(HEALTH, HEALTHY))


def candidate_of(
    timestep: int,
    info: Mapping[str, Any],
    elo_of: Mapping[int, float],
    awaited: Collection[int] = (),
) -> Candidate:
    """Returns a checkpoint as the rule of what stays sees it.

    Args:
        timestep: the checkpoint's.
        info: the checkpoint's.
        elo_of: ratings by weights version.
        awaited: weights versions whose rating may still come.
    """
    version = info.get("weights_version")
    return Candidate(
        timestep,
        is_healthy=health_of(info) == HEALTHY,
        elo=elo_of.get(version) if isinstance(version, int) else None,
        is_awaited=version in awaited,
    )


def _write(aside: Path, files: Mapping[str, bytes], manifest: Mapping[str, Any]) -> None:
    """Writes everything to the disk under a temporary name, the manifest last."""
    aside.mkdir()
    for name, content in files.items():
        write_synced(aside / name, content)
    write_synced(aside / MANIFEST_FILE, manifest_bytes(manifest))
    sync_directory(aside)


def _put_in_place(aside: Path, path: Path) -> None:
    """Renames into place; an old one first gets a name that `find_latest` still accepts."""
    replaced = path.with_name(path.name + REPLACED_SUFFIX)
    if path.exists():
        path.rename(replaced)
    aside.rename(path)
    sync_directory(path.parent)
    shutil.rmtree(replaced, ignore_errors=True)


def _tidy(checkpoints_dir: Path) -> None:
    """Removes or puts back what interrupted saves and prunes left behind.

    Of what was pruned or replaced it removes what it can: a reader may still have it open.
    """
    for path in checkpoints_dir.iterdir():
        if path.name.startswith(_PRUNED_PREFIX):
            shutil.rmtree(path, ignore_errors=True)
        elif path.name.startswith(TEMPORARY_PREFIX) and path.is_dir():
            shutil.rmtree(path)
        elif _is_checkpoint(path) and path.suffix:
            if path.with_suffix("").exists():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.rename(path.with_suffix(""))


def _list(checkpoints_dir: Path) -> list[Path]:
    """Returns every checkpoint directory, oldest first; a replaced one before its successor."""
    try:
        found = [path for path in checkpoints_dir.iterdir() if _is_checkpoint(path)]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise RunDirError(f"cannot list {checkpoints_dir}: {error.strerror or error}.") from error
    return sorted(found, key=lambda path: (timestep_of(path.stem), not path.suffix))


def _is_checkpoint(path: Path) -> bool:
    """Returns whether a directory is named as a checkpoint, or as one that is being replaced."""
    return is_checkpoint_name(path.name.removesuffix(REPLACED_SUFFIX))


def _holds(path: Path, manifest: Mapping[str, Any]) -> bool:
    """Returns whether `path` already is this checkpoint, undamaged."""
    try:
        load(path)
        return read_manifest(path) == manifest
    except CheckpointError:
        return False


def _is_whole(path: Path) -> bool:
    """Returns whether the manifest verifies and every file has its size; reads no content."""
    try:
        check_sizes(path)
    except CheckpointError:
        return False
    return True
