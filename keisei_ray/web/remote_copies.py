"""Runs at URIs: local copies of their records, brought up to date while they are shown.

Of a checkpoint only the manifest and the progress are copied, which name it; a network is fetched
from the URI when it is asked to play.

One thread asks, so that storage that hangs holds up nothing but its own copies. It is a daemon:
the end of the process does not wait for the network.
"""

import logging
import shutil
import threading
from pathlib import Path
from typing import Final

from keisei_ray.errors import RunDirError, UserError
from keisei_ray.storage.remote.filesystem import Storage, check_uri
from keisei_ray.storage.remote.remote_run import (
    checkpoints_at,
    local_copy,
    open_readable,
    update_records,
)
from keisei_ray.storage.run_layout import (
    CHECKPOINTS_DIR,
    MANIFEST_FILE,
    PROGRESS_FILE,
    TEMPORARY_PREFIX,
)

logger = logging.getLogger(__name__)

UPDATE_S: Final = 60.0
"""Seconds between two looks at a URI; a run uploads its records with each checkpoint."""


class RemoteCopies:
    """Copies of the records of some runs at URIs."""

    def __init__(self, folder: Path) -> None:
        """Copies nothing yet.

        Args:
            folder: empty directory for the copies.
        """
        self._folder = folder
        self._runs: list[_RemoteCopy] = []
        self._is_over = threading.Event()

    def add(self, uri: str) -> Path:
        """Copies the records of a run and returns the directory of the copies.

        Raises:
            StorageError: not a URI, or it cannot be read.
            RunDirError: the copies cannot be written.
        """
        copy = _RemoteCopy(check_uri(uri), self._folder)
        copy.update()
        self._runs.append(copy)
        return copy.path

    @property
    def uris(self) -> dict[Path, str]:
        """URI of the run that each directory is a copy of."""
        return {copy.path: copy.uri for copy in self._runs}

    def follow(self) -> None:
        """Begins to bring the copies up to date, until `end`."""
        if self._runs:
            threading.Thread(target=self._follow, name="remote copies", daemon=True).start()

    def end(self) -> None:
        """Begins no further update."""
        self._is_over.set()

    def _follow(self) -> None:
        while not self._is_over.wait(UPDATE_S):
            for copy in self._runs:
                try:
                    copy.update()
                except UserError as error:
                    logger.warning("%s is shown as it was: %s", copy.uri, error)


class _RemoteCopy:
    """Copy of one run's records."""

    def __init__(self, uri: str, folder: Path) -> None:
        self.uri = uri
        self.path = folder / local_copy(uri).name
        self._storage = open_readable(uri)
        self._sizes: dict[str, int] = {}

    def update(self) -> None:
        update_records(self._storage, self.path, self._sizes)
        try:
            _update_checkpoints(self._storage, self.path / CHECKPOINTS_DIR)
        except OSError as error:
            raise RunDirError(f"{self.path} cannot be written: {error.strerror}.") from error


def _update_checkpoints(storage: Storage, directory: Path) -> None:
    """Brings the list of the checkpoints at a URI up to date; a checkpoint never changes."""
    directory.mkdir(exist_ok=True)
    known = {path.name for path in directory.iterdir()}
    found = checkpoints_at(storage)
    for name in known.difference(found):
        shutil.rmtree(directory / name)
    for name in found:
        if name not in known:
            _copy_head(storage, name, directory)


def _copy_head(storage: Storage, name: str, directory: Path) -> None:
    """Copies what tells which weights a checkpoint holds, and for how long they were trained."""
    aside = directory / f"{TEMPORARY_PREFIX}{name}"
    aside.mkdir(exist_ok=True)
    for file in (PROGRESS_FILE, MANIFEST_FILE):
        content = storage.read(f"{CHECKPOINTS_DIR}/{name}/{file}")
        if content is not None:
            (aside / file).write_bytes(content)
    aside.rename(directory / name)
