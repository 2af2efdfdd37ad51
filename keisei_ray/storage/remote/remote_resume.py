"""How a run goes on from a URI: what is taken, there or here, and what is refused.

Everything happens before anything is started, in bounded time where the URI does not answer.
`storage/remote/remote_run.py` says what lies where.
"""

import contextlib
import json
import secrets
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from keisei_ray.config.player_spec import EVALUATION_KINDS, parse_player
from keisei_ray.config.schema import Config
from keisei_ray.errors import CheckpointError, RunDirError
from keisei_ray.storage import checkpoint
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
from keisei_ray.storage.superseded import set_directory_aside


def use_local_copy(
    config: Config, say: Callable[[str], object], warn: Callable[[str], object]
) -> tuple[Config, RemoteRun | None]:
    """Checks the URIs of a run, and brings here what it goes on from.

    Args:
        config: whose `run.run_dir` or `run.resume` may be a URI.
        say: told in a sentence what was taken.
        warn: told likewise what was passed over, because it is damaged or of another run.

    Returns:
        The same settings with local paths, and where the run lies; None if that is here alone.

    Raises:
        StorageError: a URI cannot be reached, read or written, within bounded time.
        RunDirError: a fresh run is to be where one is; the local copy cannot be written.
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
    if resume is not None and is_uri(resume):
        source, step = split_uri(resume)
        run_dir = run_dir or source
        resume = str(fetch_run(open_readable(source), step, say, warn))
    remote = None
    if run_dir is not None and is_uri(run_dir):
        storage = open_readable(run_dir)
        storage.check_writable(secrets.token_hex(4))
        remote = RemoteRun(storage, local_copy(storage.uri))
        if resume == "latest":
            resume = str(fetch_run(storage, None, say, warn))
        elif not _goes_on_with(remote, resume):
            _check_empty(remote)
        run_dir = str(remote.run_dir)
    run = config.run.model_copy(update={"run_dir": run_dir, "resume": resume})
    return config.model_copy(update={"run": run}), remote


@contextlib.contextmanager
def saved_config(run_dir: str | None, resume: str) -> Iterator[Path | None]:
    """The `config.json` that goes with a resume of which one end is a URI, for the block.

    Raises:
        StorageError: the URI cannot be reached or read.
    """
    uri, step = split_uri(resume if is_uri(resume) else str(run_dir))
    storage = open_readable(uri)
    here = local_copy(uri)
    name = f"{CHECKPOINTS_DIR}/{step}/{CONFIG_FILE}" if step else CONFIG_FILE
    newest = checkpoint.newest(here / CHECKPOINTS_DIR)
    there = checkpoints_at(storage)
    newest_here = -1 if newest is None else timestep_of(newest.name)
    is_ahead = newest_here >= 0 and all(timestep_of(name) <= newest_here for name in there)
    if step is None and is_ahead and _is_same_run(storage, here):
        yield here / CONFIG_FILE
        return
    content = storage.read(name)
    if content is None:
        yield None
        return
    here.parent.mkdir(parents=True, exist_ok=True)
    copy = here.with_name(f"{TEMPORARY_PREFIX}{secrets.token_hex(4)}-{CONFIG_FILE}")
    try:
        copy.write_bytes(content)
        yield copy
    finally:
        copy.unlink(missing_ok=True)


def holds_checkpoint(uri: str) -> bool:
    """Whether there is something to resume at a URI, or in its local copy.

    Raises:
        StorageError: not a URI, or it cannot be read.
    """
    storage = Storage.open(uri)
    storage.check_readable()
    return bool(
        checkpoints_at(storage) or checkpoint.newest(local_copy(storage.uri) / CHECKPOINTS_DIR)
    )


def fetch_run(
    storage: Storage,
    step: str | None,
    say: Callable[[str], object],
    warn: Callable[[str], object],
) -> Path:
    """Brings the local copy of a run up to date; the path in it of what is to be resumed.

    The newest checkpoint that verifies wins, whether it lies there or here; of two that are
    alike nothing is fetched. A local copy that loses is renamed, never removed or mixed: its
    records and its checkpoints go together. What is fetched appears under the copy's name only
    when all of it is here.

    Args:
        storage: where the run lies.
        step: a checkpoint's name; None: the newest that verifies.
        say, warn: as for `use_local_copy`.

    Raises:
        StorageError, RunDirError, CheckpointError: see `use_local_copy`.
    """
    here = local_copy(storage.uri)
    local = checkpoint.find_latest(here / CHECKPOINTS_DIR, on_skip=lambda *_: None)
    if local is not None and not _is_same_run(storage, here):
        warn(f"{here} is the local copy of another run than the one at {storage.uri}")
        local = None
    there = checkpoints_at(storage)
    newest_here = -1 if local is None else local.timestep
    if step is not None:
        is_ahead = all(timestep_of(name) <= newest_here for name in there)
        if not (is_ahead and _is_same(storage, here, step)):
            _fetch(storage, step, here, say)
        return here / CHECKPOINTS_DIR / step
    for name in reversed(there):
        if timestep_of(name) < newest_here:
            break
        if timestep_of(name) == newest_here and _is_same(storage, here, name):
            break
        try:
            _fetch(storage, name, here, say)
        except CheckpointError as error:
            warn(f"checkpoint {storage.uri}/{CHECKPOINTS_DIR}/{name} skipped: {error}")
            continue
        return here / CHECKPOINTS_DIR / name
    if local is None:
        raise CheckpointError(
            f"{storage.uri} has no intact checkpoint ({len(there)} damaged), nor has its local "
            f"copy {here}. Check the URI, or start a fresh run at another one."
        )
    newest = there[-1] if there else "none"
    say(f"{local.path} of the local copy is taken; the newest at {storage.uri} is {newest}")
    return local.path


def uri_of_copy(run_dir: str | None) -> str | None:
    """The URI of which a directory is the local copy; None if it is a run of its own.

    Else a run that is told to go on in its local copy would leave the URI behind.
    """
    try:
        config = json.loads((Path(run_dir or "") / CONFIG_FILE).read_bytes())
        uri = config["run"]["run_dir"]
    except (OSError, ValueError, TypeError, KeyError):
        return None
    is_copy = isinstance(uri, str) and is_uri(uri) and run_dir is not None
    return uri if is_copy and Path(str(run_dir)).name == local_copy(uri).name else None


def _goes_on_with(remote: RemoteRun, resume: str | None) -> bool:
    """Whether a checkpoint's path lies in the local copy of the run at the URI."""
    return (
        resume is not None
        and Path(resume).resolve().is_relative_to(remote.run_dir.resolve())
        and _is_same_run(remote.storage, remote.run_dir)
    )


def _check_empty(remote: RemoteRun) -> None:
    """Refuses a URI, or a local copy, that holds a run which is not the one to go on with."""
    uri, here = remote.storage.uri, remote.run_dir
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
    if holds_run(here):
        raise RunDirError(
            f"{uri} is empty, but its local copy {here} holds a run. Go on with that by --resume "
            "latest, which uploads it; or remove the copy, or choose another --run-dir."
        )


def _is_same_run(storage: Storage, here: Path) -> bool:
    """Whether the local copy is of the run at the URI, or there is none yet."""
    there = storage.read(RUN_ID_FILE)
    if there is None:
        return not checkpoints_at(storage)
    path = here / RUN_ID_FILE
    return path.is_file() and path.read_bytes().strip() == there.strip()


def _is_same(storage: Storage, here: Path, name: str) -> bool:
    """Whether a checkpoint is here as it is there, and verifies here."""
    try:
        checkpoint.load(here / CHECKPOINTS_DIR / name)
        manifest = (here / CHECKPOINTS_DIR / name / MANIFEST_FILE).read_bytes()
    except (CheckpointError, OSError):
        return False
    return storage.read(f"{CHECKPOINTS_DIR}/{name}/{MANIFEST_FILE}") == manifest


def _fetch(storage: Storage, name: str, here: Path, say: Callable[[str], object]) -> None:
    """Replaces the local copy by one checkpoint and all records of the run."""
    fresh = here.with_name(f"{TEMPORARY_PREFIX}{secrets.token_hex(4)}-{here.name}")
    try:
        fetch_checkpoint(storage, name, fresh / CHECKPOINTS_DIR)
        for file in storage.names():
            if is_run_file(file):
                download(storage, file, fresh / file)
        told = f"{storage.uri}/{CHECKPOINTS_DIR}/{name} is taken"
        if here.exists():
            aside = set_directory_aside(here)
            told += f"; the former local copy is now {aside}"
        fresh.rename(here)
    except OSError as error:
        raise RunDirError(f"{here} cannot be written: {error.strerror or error}.") from error
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    say(told)
