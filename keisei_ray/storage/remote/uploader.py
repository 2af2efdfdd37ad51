"""Uploader: copies what the URI of a run lacks from its local copy, and removes what is old there.

The order protects readers. Records and the pool's weights go first, then the files of a
checkpoint, its manifest last; a checkpoint that is removed loses its manifest first. So a
checkpoint that verifies is complete wherever an upload was cut off. Each round compares the URI
with the local copy, so the next round completes what the last one left unfinished.

Only one session may write: the one that began last. It writes its token to `.writer`. An older
session, for example on a head node that was cut off and came back, finds another token and stops
writing. Between its check and its write both sessions may write the same name; the manifest then
does not verify.
"""

import logging
import secrets
from collections.abc import Callable, Mapping
from dataclasses import replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from keisei_ray.config.json_text import parse_json
from keisei_ray.config.sections import CheckpointConfig
from keisei_ray.errors import CheckpointError, StorageError
from keisei_ray.storage import checkpoint
from keisei_ray.storage.pool_table import read_table
from keisei_ray.storage.remote.remote_run import (
    RUN_FILE_DIRS,
    RemoteRun,
    checkpoints_at,
    is_run_file,
    run_id,
)
from keisei_ray.storage.retention import Candidate, places_to_prune
from keisei_ray.storage.run_layout import (
    CHECKPOINT_GLOB,
    CHECKPOINTS_DIR,
    CONFIG_FILE,
    EVALUATED_DIR,
    MANIFEST_FILE,
    POOL_DIR,
    POOL_FILE,
    RATINGS_FILE,
    RUN_ID_FILE,
    WRITER_FILE,
    timestep_of,
)
from keisei_ray.storage.superseded import newer_checkpoints, superseded_name

logger = logging.getLogger(__name__)


class OvertakenError(StorageError):
    """Another session or another run writes to the URI, so this one must stop."""


def local_checkpoints(run_dir: Path) -> list[Path]:
    """Returns the complete checkpoints of a run directory, oldest first."""
    return [path for path in checkpoint.list_complete(run_dir / CHECKPOINTS_DIR) if not path.suffix]


class Uploader:
    """Uploads of one session of a run. For one thread."""

    def __init__(
        self,
        remote: RemoteRun,
        keep: CheckpointConfig,
        resumed_timestep: int | None,
        on_saved: Callable[[str], object],
        read_elo: Callable[[], Mapping[int, float]] = dict,
    ) -> None:
        """Args:
        remote: the run, at its URI and in its local copy.
        keep: settings that say which checkpoints stay.
        resumed_timestep: timestep of the checkpoint that was resumed; None for a fresh run.
        on_saved: called with the name of each checkpoint that is complete at the URI.
        read_elo: returns the ratings by weights version, as they are now.
        """
        self.uploaded: set[str] = set()
        """Names of the checkpoints that are complete at the URI."""
        self._storage = remote.storage
        self._run_dir = remote.run_dir
        self._keep = keep
        self._resumed_timestep = resumed_timestep
        self._on_saved = on_saved
        self._read_elo = read_elo
        self._infos: dict[str, Mapping[str, Any]] = {}
        """Entry `info` of manifests at the URI, by checkpoint."""
        self._token = secrets.token_hex(16).encode()
        self._is_writer = False
        self._is_newer_aside = False
        self._pruned: set[str] = set()
        """Checkpoints that this session has removed from the URI; the local copy may keep them."""
        self._sent: dict[str, tuple[int, int]] = {}
        """Size and time of the other files when they were last uploaded."""

    def run(self) -> None:
        """Uploads what is missing, the newest checkpoint first, and removes what is old.

        May be called again after it has raised, and whenever there may be something new.

        Raises:
            OvertakenError: another session or another run writes to the URI.
            StorageError: the URI cannot be read or written.
            CheckpointError, OSError: a local file is damaged or cannot be read.
        """
        self._claim()
        # Listed before the files: a checkpoint saved meanwhile may name weights that are not
        # among the files.
        paths = local_checkpoints(self._run_dir)
        for name in self._local_files():
            self._upload_file(name)
        if self._resumed_timestep is not None and not (self._run_dir / RATINGS_FILE).exists():
            self._storage.remove(RATINGS_FILE)  # Its matches are set aside.
        for path in reversed(paths):
            if path.name not in self.uploaded | self._pruned:
                self._upload_checkpoint(path)
        self._prune({path.name for path in paths})

    def set_newer_aside(self) -> None:
        """Sets aside the checkpoints at the URI beyond the resumed one; nothing for a fresh run.

        Called before training: a resume after uploads that failed would else find the course that
        this session goes back from. Makes this session the writer if there are some.

        Raises:
            OvertakenError: another run writes to the URI.
            StorageError: the URI cannot be read or written, or the run's id cannot be read here.
        """
        if self._resumed_timestep is None:
            return
        if newer_checkpoints(checkpoints_at(self._storage), self._resumed_timestep):
            try:
                self._claim()
            except OSError as error:
                raise StorageError(f"{error.filename}: {error.strerror or error}") from error

    def _claim(self) -> None:
        """Makes this session the writer on the first call; later checks that it still is.

        Raises:
            OvertakenError: it is not, or there is another run at the URI.
        """
        uri = self._storage.uri
        mine = run_id(self._run_dir).encode()
        if (other := self._storage.read(RUN_ID_FILE)) is not None and other.strip() != mine:
            raise OvertakenError(f"another run lies at {uri}; nothing is uploaded any more")
        if not self._is_writer:
            if other is None:
                self._storage.write(RUN_ID_FILE, mine)
            self._storage.write(WRITER_FILE, self._token)
            self._is_writer = True
        elif self._storage.read(WRITER_FILE) != self._token:
            raise OvertakenError(
                f"another session of this run has begun to write to {uri}; nothing of this one is "
                "uploaded any more"
            )
        if not self._is_newer_aside:  # Also after a first attempt that failed.
            self._set_newer_aside()
            self._is_newer_aside = True

    def _set_newer_aside(self) -> None:
        """Renames checkpoints at the URI as `set_newer_aside` renames those of a directory."""
        for name in newer_checkpoints(checkpoints_at(self._storage), self._resumed_timestep):
            taken = {file.split("/")[1] for file in self._storage.names(CHECKPOINTS_DIR)}
            self._move(name, superseded_name(name, taken))

    def _move(self, name: str, to: str) -> None:
        """Renames a checkpoint by copying it, so that one of the two is complete at any moment."""
        files = list(self._storage.names(f"{CHECKPOINTS_DIR}/{name}"))
        for file in sorted(files, key=lambda f: f.endswith(f"/{MANIFEST_FILE}")):
            last = file.rsplit("/", 1)[-1]
            self._storage.copy(file, f"{CHECKPOINTS_DIR}/{to}/{last}")
        self._remove_checkpoint(name)

    def _local_files(self) -> list[str]:
        """Returns the names of the records and weights, `config.json` last."""
        found = [p.name for p in self._run_dir.iterdir() if p.is_file() and p.name != RUN_ID_FILE]
        for folder in RUN_FILE_DIRS:
            found += [f"{folder}/{p.name}" for p in self._run_dir.glob(f"{folder}/*")]
        return sorted(filter(is_run_file, found), key=lambda name: name == CONFIG_FILE)

    def _upload_file(self, name: str) -> None:
        path = self._run_dir / name
        try:
            stat = path.stat()
            content = path.read_bytes()
        except FileNotFoundError:
            return  # Pruned meanwhile.
        version = (stat.st_size, stat.st_mtime_ns)
        if self._sent.get(name) != version:
            self._storage.write(name, content)
            self._sent[name] = version

    def _upload_checkpoint(self, path: Path) -> None:
        """Uploads a local checkpoint that verifies, its manifest last."""
        where = f"{CHECKPOINTS_DIR}/{path.name}"
        try:
            manifest = (path / MANIFEST_FILE).read_bytes()
            saved = checkpoint.load(path)
        except (CheckpointError, FileNotFoundError):
            if path.exists():
                raise
            logger.info("%s was pruned before it could be uploaded", path.name)
            return
        before = self._storage.read(f"{where}/{MANIFEST_FILE}")
        if before != manifest:
            if before is not None:
                self._storage.remove(f"{where}/{MANIFEST_FILE}")
            for name, content in saved.files.items():
                self._storage.write(f"{where}/{name}", content)
            there = self._storage.names(where)
            for name, content in saved.files.items():
                if (size := there.get(f"{where}/{name}")) != len(content):
                    raise StorageError(
                        f"{self._storage.uri}/{where}/{name} has {size} bytes, {len(content)} "
                        "were uploaded"
                    )
            self._claim()
            self._storage.write(f"{where}/{MANIFEST_FILE}", manifest)
        self._infos[path.name] = saved.info
        self.uploaded.add(path.name)
        self._on_saved(path.name)

    def _prune(self, here: set[str]) -> None:
        """Removes checkpoints at the URI by the rule of `storage/retention.py`, and old weights.

        Leftovers of an upload that was cut off are removed too.

        Args:
            here: names of the local checkpoints, which are not leftovers.
        """
        names = checkpoints_at(self._storage)
        elo_of = self._read_elo() if self._keep.keep_best else {}
        # The local copy knows which ratings may still come, so what it has stays.
        found = [self._candidate(name, elo_of, is_awaited=name in here) for name in names]
        going = [names[place] for place in places_to_prune(found, self._keep)]
        folders = {name.split("/")[1] for name in self._storage.names(CHECKPOINTS_DIR)}
        self._pruned.update(going)
        going += [f for f in folders if fnmatch(f, CHECKPOINT_GLOB) and f not in (*names, *here)]
        for name in going:
            self._remove_checkpoint(name)
        for name in self._gone(EVALUATED_DIR):
            self._storage.remove(name)
        self._prune_pool()

    def _candidate(self, name: str, elo_of: Mapping[int, float], *, is_awaited: bool) -> Candidate:
        """Returns a checkpoint at the URI as the rule of what stays sees it."""
        timestep = timestep_of(name)
        try:
            found = checkpoint.candidate_of(timestep, self._info_of(name), elo_of)
        except (ValueError, LookupError, TypeError, AttributeError):
            return Candidate(timestep, is_healthy=False, is_awaited=is_awaited)
        return replace(found, is_awaited=is_awaited)

    def _info_of(self, name: str) -> Mapping[str, Any]:
        """Returns the `info` of a checkpoint at the URI, from memory if it is known."""
        if name not in self._infos:
            content = self._storage.read(f"{CHECKPOINTS_DIR}/{name}/{MANIFEST_FILE}")
            self._infos[name] = parse_json(content or b"")["info"]
        return self._infos[name]

    def _gone(self, folder: str) -> set[str]:
        """Returns the files of a directory at the URI that the local copy does not have."""
        here = {f"{folder}/{path.name}" for path in self._run_dir.glob(f"{folder}/*")}
        gone = self._storage.names(folder).keys() - here
        for name in gone:
            self._sent.pop(name, None)
        return gone

    def _prune_pool(self) -> None:
        """Removes weights that neither the local copy nor a checkpoint at the URI needs."""
        gone = self._gone(POOL_DIR)
        if not gone:
            return
        tables = [n for n in self._storage.names(CHECKPOINTS_DIR) if n.endswith(f"/{POOL_FILE}")]
        try:
            texts = [self._storage.read(name) or b"" for name in tables]
            used = {m.weights_name for text in texts for m in read_table(text, with_former=True)}
        except CheckpointError as error:
            logger.warning("no weights of the pool are removed at the URI: %s", error)
            return
        for name in gone:
            if name.rsplit("/", 1)[-1] not in used:
                self._storage.remove(name)

    def _remove_checkpoint(self, name: str) -> None:
        self._storage.remove(f"{CHECKPOINTS_DIR}/{name}/{MANIFEST_FILE}")
        self._storage.remove(f"{CHECKPOINTS_DIR}/{name}")
        self._infos.pop(name, None)
        self.uploaded.discard(name)
