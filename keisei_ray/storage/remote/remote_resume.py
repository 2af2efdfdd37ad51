"""Resuming of a run at a URI: which checkpoint is taken, from the URI or from the local copy.

Everything happens before the run starts anything, and in bounded time if the URI does not answer.
`storage/remote/remote_run.py` describes the files at the URI and in the local copy.
"""

import contextlib
import hashlib
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from keisei_ray.config.json_text import read_json
from keisei_ray.config.player_spec import EVALUATION_KINDS, parse_player
from keisei_ray.config.schema import Config
from keisei_ray.errors import CheckpointError, RunDirError, UnreadableCheckpointError
from keisei_ray.storage import checkpoint
from keisei_ray.storage.checkpoint import Checkpoint
from keisei_ray.storage.manifest import read_manifest
from keisei_ray.storage.remote.filesystem import Storage, check_uri, download, is_uri
from keisei_ray.storage.remote.remote_run import (
    RemoteRun,
    checkpoints_at,
    fetch_checkpoint,
    is_run_file,
    local_copy,
    open_readable,
    split_uri,
)
from keisei_ray.storage.run_dirs import holds_run
from keisei_ray.storage.run_layout import (
    CHECKPOINTS_DIR,
    CONFIG_FILE,
    MANIFEST_FILE,
    RUN_ID_FILE,
    TEMPORARY_PREFIX,
    timestep_of,
)
from keisei_ray.storage.run_lock import check_free, wait_until_saved
from keisei_ray.storage.superseded import set_directory_aside


def use_local_copy(
    config: Config,
    say: Callable[[str], object],
    warn: Callable[[str], object],
    claim: Callable[[Storage], object] = lambda storage: None,
    check: Callable[[Checkpoint], object] = lambda found: None,
) -> tuple[Config, RemoteRun | None]:
    """Replaces the URIs of a run by paths in a local copy, which it brings up to date.

    Args:
        config: configuration whose `run.run_dir` or `run.resume` may be a URI.
        say: called with a sentence about the checkpoint that is taken.
        warn: called with a sentence about anything left out, because it is damaged or belongs to
            another run.
        claim: called with the files of the run at the URI, before anything of it is changed.
        check: raises a CheckpointError for a checkpoint that verifies and cannot be used.

    Returns:
        The configuration with local paths, and the remote run; None if the run is only local.

    Raises:
        StorageError: a URI cannot be reached, read or written, within bounded time.
        RunDirError: a fresh run would begin where there is a run already, or the local copy
            cannot be written.
        CheckpointError: there is nothing intact to resume from.
    """
    for text in config.evaluation.opponents:
        path = parse_player(text, EVALUATION_KINDS).path
        if path is not None and is_uri(path):
            check_uri(path)
    run_dir, resume = config.run.run_dir, config.run.resume
    run_dir = uri_of_copy(run_dir) or run_dir
    if not any(is_uri(text) for text in (run_dir, resume) if text):
        return config, None
    source, step = None, None
    if resume is not None and is_uri(resume):
        source, step = split_uri(resume)
        run_dir = run_dir or source
    storage = None
    if run_dir is not None and is_uri(run_dir):
        storage = open_readable(run_dir)
        storage.check_writable(secrets.token_hex(4))
        claim(storage)
    if source is not None:
        resume = str(fetch_run(open_readable(source), step, say, warn, check))
    remote = None
    if storage is not None:
        remote = RemoteRun(storage, local_copy(storage.uri))
        if resume == "latest":
            resume = str(fetch_run(storage, None, say, warn, check))
        elif not _goes_on_with(remote, resume):
            _check_empty(remote)
        run_dir = str(remote.run_dir)
    run = config.run.model_copy(update={"run_dir": run_dir, "resume": resume})
    return config.model_copy(update={"run": run}), remote


@contextlib.contextmanager
def saved_config(
    run_dir: str | None, resume: str, say: Callable[[str], object] = lambda text: None
) -> Iterator[Path | None]:
    """Provides a local file with the configuration to resume with, inside the `with` block.

    It is the one in the newest checkpoint, as its manifest verifies it. Where that has none, it is
    the run's own. A run that was killed here is first saved in its local copy.

    Args:
        run_dir: a directory or URI, or None; must be a URI if `resume` is not.
        resume: "latest", or a path or URI to resume from.
        say: called with a sentence about what is being waited for.

    Yields:
        The path of the file; None if there is none.

    Raises:
        StorageError: the URI cannot be reached or read.
        RunDirError: the run is still being saved.
    """
    uri, step = split_uri(resume if is_uri(resume) else str(run_dir))
    storage = open_readable(uri)
    local_dir = local_copy(uri)
    if step is None:
        wait_until_saved(local_dir, say)
    newest = checkpoint.newest(local_dir / CHECKPOINTS_DIR)
    at_uri = checkpoints_at(storage)
    newest_local = -1 if newest is None else timestep_of(newest.name)
    is_ahead = newest_local >= 0 and all(timestep_of(name) <= newest_local for name in at_uri)
    if step is None and is_ahead and _is_same_run(storage, local_dir):
        assert newest is not None, "it is the newest, so there is one"
        yield newest / CONFIG_FILE if (newest / CONFIG_FILE).exists() else local_dir / CONFIG_FILE
        return
    names = [step] if step else [*reversed(at_uri)]
    verified = (_verified_config(storage, name) for name in names)
    content = next(filter(None, verified), None) or storage.read(CONFIG_FILE)
    if content is None:
        yield None
        return
    local_dir.parent.mkdir(parents=True, exist_ok=True)
    copy = local_dir.with_name(f"{TEMPORARY_PREFIX}{secrets.token_hex(4)}-{CONFIG_FILE}")
    try:
        copy.write_bytes(content)
        yield copy
    finally:
        copy.unlink(missing_ok=True)


def _verified_config(storage: Storage, name: str) -> bytes | None:
    """Returns the settings in a checkpoint at a URI; None if there are none that verify."""
    where = f"{CHECKPOINTS_DIR}/{name}"
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / MANIFEST_FILE).write_bytes(storage.read(f"{where}/{MANIFEST_FILE}") or b"")
        try:
            entry = read_manifest(Path(folder))["files"][CONFIG_FILE]
        except (CheckpointError, KeyError):
            return None
    content = storage.read(f"{where}/{CONFIG_FILE}")
    is_intact = content is not None and hashlib.sha256(content).hexdigest() == entry["sha256"]
    return content if is_intact else None


def holds_checkpoint(uri: str) -> bool:
    """Returns whether there is a checkpoint to resume from, at a URI or in its local copy.

    Waits until a run that was killed here has been saved in the local copy.

    Raises:
        StorageError: not a URI, or it cannot be read.
        RunDirError: the run is still being saved.
    """
    storage = open_readable(uri)
    wait_until_saved(local_copy(storage.uri))
    return bool(
        checkpoints_at(storage) or checkpoint.newest(local_copy(storage.uri) / CHECKPOINTS_DIR)
    )


def fetch_run(
    storage: Storage,
    step: str | None,
    say: Callable[[str], object],
    warn: Callable[[str], object],
    check: Callable[[Checkpoint], object],
) -> Path:
    """Brings the local copy of a run up to date and returns the checkpoint to resume from.

    The newest checkpoint that verifies is taken, at the URI or in the local copy. If both have the
    same one, nothing is fetched. If the one at the URI is taken, the local copy is renamed, never
    removed or mixed: its records and its checkpoints belong together. The new local copy gets its
    name only when it is complete.

    Args:
        storage: the files of the run at the URI.
        step: name of the checkpoint to take; None: the newest that verifies.
        say, warn, check: as for `use_local_copy`.

    Returns:
        The path of the checkpoint in the local copy.

    Raises:
        StorageError, RunDirError, CheckpointError: see `use_local_copy`.
    """
    local_dir = local_copy(storage.uri)
    local = checkpoint.find_latest(
        local_dir / CHECKPOINTS_DIR,
        lambda *_: None,
        check,
        skips_unreadable=step is not None,  # The local copy is then only a shorter way.
    )
    if local is not None and not _is_same_run(storage, local_dir):
        warn(f"{local_dir} is the local copy of another run than the one at {storage.uri}")
        local = None
    at_uri = checkpoints_at(storage)
    newest_local = -1 if local is None else local.timestep
    if step is not None:
        is_ahead = all(timestep_of(name) <= newest_local for name in at_uri)
        if not (is_ahead and _is_same(storage, local_dir, step)):
            _fetch(storage, step, local_dir, say, check)
        return local_dir / CHECKPOINTS_DIR / step
    for name in reversed(at_uri):
        if timestep_of(name) < newest_local:
            break
        if timestep_of(name) == newest_local and _is_same(storage, local_dir, name):
            break
        try:
            _fetch(storage, name, local_dir, say, check)
        except UnreadableCheckpointError:
            raise  # What was fetched cannot be read here; at the URI it may be intact.
        except CheckpointError as error:
            warn(f"checkpoint {storage.uri}/{CHECKPOINTS_DIR}/{name} skipped: {error}")
            continue
        return local_dir / CHECKPOINTS_DIR / name
    if local is None:
        raise CheckpointError(
            f"{storage.uri} has no intact checkpoint ({len(at_uri)} damaged), nor has its local "
            f"copy {local_dir}. Check the URI, or start a fresh run at another one."
        )
    newest = at_uri[-1] if at_uri else "none"
    say(f"{local.path} of the local copy is taken; the newest at {storage.uri} is {newest}")
    return local.path


def uri_of_copy(run_dir: str | None) -> str | None:
    """Returns the URI whose local copy a directory is; None if it is a run of its own.

    A run that is resumed by the path of its local copy then continues at the URI too.
    """
    if run_dir is None or is_uri(run_dir):
        return None
    local_dir = Path(run_dir)
    newest = checkpoint.newest(local_dir / CHECKPOINTS_DIR)
    # The run's own settings may be lost or damaged; those in a checkpoint say the same.
    for folder in (local_dir, newest):
        uri = _uri_in(folder / CONFIG_FILE) if folder is not None else None
        if uri is not None and local_dir.name == local_copy(uri).name:
            return uri
    return None


def _uri_in(config_file: Path) -> str | None:
    """Returns the URI that a file of settings names as the run directory; None if it does not."""
    try:
        uri = read_json(config_file)["run"]["run_dir"]
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return uri if isinstance(uri, str) and is_uri(uri) else None


def _goes_on_with(remote: RemoteRun, resume: str | None) -> bool:
    """Returns whether the path of a checkpoint lies in the local copy of the run at the URI."""
    return (
        resume is not None
        and Path(resume).resolve().is_relative_to(remote.run_dir.resolve())
        and _is_same_run(remote.storage, remote.run_dir)
    )


def _check_empty(remote: RemoteRun) -> None:
    """Refuses a URI or local copy for a fresh run if it holds a run already."""
    uri, local_dir = remote.storage.uri, remote.run_dir
    if checkpoints_at(remote.storage):
        raise RunDirError(
            f"{uri} already holds a run. Go on with it by --resume latest, or choose another "
            "--run-dir."
        )
    if remote.storage.read(CONFIG_FILE) is not None:
        raise RunDirError(
            f"{uri} already holds a run, which has no checkpoint: it is still at its beginning, or "
            "was stopped there. Remove what lies there, or choose another --run-dir."
        )
    if holds_run(local_dir):
        raise RunDirError(
            f"{uri} is empty, but its local copy {local_dir} holds a run. Go on with that by "
            "--resume latest, which uploads it; or remove the copy, or choose another --run-dir."
        )


def _is_same_run(storage: Storage, local_dir: Path) -> bool:
    """Returns whether the local copy belongs to the run at the URI, or neither has a run."""
    at_uri = storage.read(RUN_ID_FILE)
    if at_uri is None:
        return not checkpoints_at(storage)
    path = local_dir / RUN_ID_FILE
    return path.is_file() and path.read_bytes().strip() == at_uri.strip()


def _is_same(storage: Storage, local_dir: Path, name: str) -> bool:
    """Returns whether the local copy of a checkpoint verifies and equals the one at the URI."""
    try:
        checkpoint.load(local_dir / CHECKPOINTS_DIR / name)
        manifest = (local_dir / CHECKPOINTS_DIR / name / MANIFEST_FILE).read_bytes()
    except (CheckpointError, OSError):
        return False
    return storage.read(f"{CHECKPOINTS_DIR}/{name}/{MANIFEST_FILE}") == manifest


def _fetch(
    storage: Storage,
    name: str,
    local_dir: Path,
    say: Callable[[str], object],
    check: Callable[[Checkpoint], object],
) -> None:
    """Replaces the local copy by one checkpoint and all records of the run at the URI."""
    fresh = local_dir.with_name(f"{TEMPORARY_PREFIX}{secrets.token_hex(4)}-{local_dir.name}")
    try:
        check(fetch_checkpoint(storage, name, fresh / CHECKPOINTS_DIR))
        for file in storage.names():
            if is_run_file(file):
                download(storage, file, fresh / file)
        told = f"{storage.uri}/{CHECKPOINTS_DIR}/{name} is taken"
        if local_dir.exists():
            check_free(local_dir)
            aside = set_directory_aside(local_dir)
            told += f"; the former local copy is now {aside}"
        fresh.rename(local_dir)
    except OSError as error:
        raise RunDirError(f"{local_dir} cannot be written: {error.strerror or error}.") from error
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    say(told)
