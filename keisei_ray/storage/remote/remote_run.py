"""A run whose directory is a URI: its files at the URI and its local copy on this machine.

The run works in a local copy, `runs/<last part of the URI>-<hash of the URI>`, as any run works
in its directory. `tracking/background_upload.py` uploads it, `storage/remote/remote_resume.py`
fetches it back. Both have the same layout (`storage/run_layout.py`) and the same rule: a
checkpoint exists only when its manifest verifies. Two files belong to a remote run:

    run-id    in both; distinguishes the local copy of this run from that of another run that was
              at the same URI
    .writer   at the URI only; the session that may write there, see `storage/remote/uploader.py`
"""

import contextlib
import hashlib
import re
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from keisei_ray.errors import CheckpointError, RunDirError, StorageError
from keisei_ray.storage import checkpoint
from keisei_ray.storage.atomic_files import write_atomically
from keisei_ray.storage.checkpoint import Checkpoint
from keisei_ray.storage.remote.filesystem import Storage, check_uri, download, is_uri
from keisei_ray.storage.run_dirs import runs_dir
from keisei_ray.storage.run_layout import (
    CHECKPOINTS_DIR,
    EVALUATED_DIR,
    MANIFEST_FILE,
    POOL_DIR,
    RUN_ID_FILE,
    TEMPORARY_PREFIX,
    TENSORBOARD_DIR,
    is_checkpoint_name,
    timestep_of,
)

RUN_FILE_DIRS: Final = (POOL_DIR, EVALUATED_DIR, TENSORBOARD_DIR)
"""Directories whose files are copied, besides the files of the run directory itself."""


_SMALL_BYTES: Final = 1 << 16
"""Size up to which a record is copied again though its size is the same."""


@dataclass(frozen=True)
class RemoteRun:
    """A run whose directory is a URI."""

    storage: Storage
    """Files at the URI."""
    run_dir: Path
    """Local copy."""

    def __str__(self) -> str:
        return self.storage.uri


def local_copy(uri: str) -> Path:
    """Returns the directory in which a run at `uri` works, always the same for a URI."""
    name = re.sub(r"[^A-Za-z0-9._-]", "_", uri.rsplit("/", 1)[-1]).lstrip(".")
    return runs_dir() / f"{name}-{hashlib.sha256(uri.encode()).hexdigest()[:8]}"


def split_uri(uri: str) -> tuple[str, str | None]:
    """Splits a URI into that of the run and the name of the checkpoint, None if it names none.

    Raises:
        StorageError: not a URI.
    """
    uri = check_uri(uri).removesuffix(f"/{CHECKPOINTS_DIR}")
    run, _, name = uri.rpartition("/")
    if run.endswith(f"/{CHECKPOINTS_DIR}"):
        return run.removesuffix(f"/{CHECKPOINTS_DIR}"), name
    return uri, None


def is_run_file(name: str) -> bool:
    """Returns whether a file outside the checkpoints is copied, by its name within the run."""
    folder, _, file = name.rpartition("/")
    return folder in ("", *RUN_FILE_DIRS) and not file.startswith(".")


def checkpoints_at(storage: Storage) -> list[str]:
    """Returns the names of the checkpoints at a URI that have a manifest, oldest first.

    Raises:
        StorageError: the URI cannot be listed.
    """
    paths = (Path(name) for name in storage.names(CHECKPOINTS_DIR))
    found = {p.parent.name for p in paths if p.name == MANIFEST_FILE and len(p.parts) == 3}
    return sorted(filter(is_checkpoint_name, found), key=timestep_of)


def fetch_checkpoint(storage: Storage, name: str, into: Path) -> Checkpoint:
    """Fetches one checkpoint into the directory `into` and verifies it.

    Raises:
        CheckpointError: it does not exist, or does not verify.
        StorageError: the URI cannot be read.
        RunDirError: `into` cannot be written.
    """
    where = f"{CHECKPOINTS_DIR}/{name}"
    aside = into / f"{TEMPORARY_PREFIX}{name}-{secrets.token_hex(4)}" / name
    try:
        for file in storage.names(where):
            if file.count("/") == 2:
                download(storage, file, aside / file.rsplit("/", 1)[-1])
        if not (aside / MANIFEST_FILE).is_file():
            raise CheckpointError(f"{storage.uri}/{where} has no {MANIFEST_FILE}: no checkpoint.")
        found = checkpoint.load(aside)
        path = checkpoint.save(into, found.timestep, found.files, found.info)
        return Checkpoint(path, found.timestep, found.info, found.files)
    except OSError as error:
        raise RunDirError(f"{into} cannot be written: {error.strerror or error}.") from error
    finally:
        shutil.rmtree(aside.parent, ignore_errors=True)


def load_checkpoint(uri: str, warn: Callable[[str], object]) -> tuple[str, Checkpoint]:
    """Reads a checkpoint at a URI, or the newest of a run that verifies, without keeping a copy.

    Args:
        uri: a run, its checkpoints directory or one checkpoint.
        warn: called with a sentence about each checkpoint that was skipped.

    Returns:
        The URI of the checkpoint, and its content.

    Raises:
        CheckpointError, StorageError, RunDirError: see `fetch_checkpoint`.
    """
    uri, step = split_uri(uri)
    storage = open_readable(uri)
    names = [step] if step else [*reversed(checkpoints_at(storage))]
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            where = f"{uri}/{CHECKPOINTS_DIR}/{name}"
            try:
                return where, fetch_checkpoint(storage, name, Path(folder))
            except CheckpointError as error:
                if step:
                    raise
                warn(f"checkpoint {where} skipped: {error}")
    if not names:
        raise CheckpointError(f"{uri} has no checkpoint, expected a run with one. Check the URI.")
    raise CheckpointError(
        f"{uri} has no intact checkpoint ({len(names)} damaged). Name another run."
    )


@contextlib.contextmanager
def fetched_records(uri: str) -> Iterator[Path]:
    """Provides a local directory with a run's records, without checkpoints, inside the block.

    Raises:
        StorageError: the URI cannot be read.
        RunDirError: the files cannot be written.
    """
    storage = open_readable(check_uri(uri))
    with tempfile.TemporaryDirectory() as folder:
        run_dir = Path(folder) / storage.uri.rsplit("/", 1)[-1]
        update_records(storage, run_dir, {})
        yield run_dir


def update_records(storage: Storage, run_dir: Path, sizes: dict[str, int]) -> None:
    """Brings copies of a run's records, without checkpoints, up to date.

    Args:
        storage: files at the run's URI.
        run_dir: directory of the copies; made if missing. Each is replaced in one step.
        sizes: size of each file as it was copied last, which is brought up to date too. A file
            that is small or whose size has changed is copied again.

    Raises:
        StorageError: the URI cannot be read.
        RunDirError: the files cannot be written.
    """
    try:
        run_dir.mkdir(exist_ok=True)
        for name, size in storage.names().items():
            if not is_run_file(name) or "/" in name:
                continue
            if size > _SMALL_BYTES and sizes.get(name) == size:
                continue
            content = storage.read(name)
            if content is not None:
                write_atomically(run_dir / name, content)
                sizes[name] = size
    except OSError as error:
        raise RunDirError(f"{run_dir} cannot be written: {error.strerror}.") from error


def refuse_uri(command: str, run_dir: str | None) -> None:
    """Refuses a URI for a command that follows growing files or reads all checkpoints.

    Raises:
        StorageError: `run_dir` is a URI.
    """
    if run_dir is not None and is_uri(run_dir):
        raise StorageError(
            f"{command} {run_dir}: reads local files only. On the driver's machine name the local "
            f"copy, {local_copy(check_uri(run_dir))}; elsewhere copy the run from there first, or "
            f"see it by `report {run_dir} --out page.html`."
        )


def run_id(run_dir: Path) -> str:
    """Returns the id of the run in a local copy; the first call makes and writes it.

    Raises:
        OSError: the id cannot be written.
    """
    path = run_dir / RUN_ID_FILE
    if not path.exists():
        write_atomically(path, f"{secrets.token_hex(16)}\n".encode())
    return path.read_text(encoding="ascii", errors="replace").strip()


def open_readable(uri: str) -> Storage:
    """Opens the files below a URI and checks that they can be read.

    Raises:
        StorageError: not a URI, or it cannot be read.
    """
    storage = Storage.open(uri)
    storage.check_readable()
    return storage
