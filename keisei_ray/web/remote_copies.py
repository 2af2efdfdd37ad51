"""Runs at URIs: local copies of their records, brought up to date while they are shown.

One thread asks, so that storage that hangs holds up nothing but its own copies. It is a daemon:
the end of the process does not wait for the network.
"""

import logging
import threading
from pathlib import Path
from typing import Final

from keisei_ray.errors import UserError
from keisei_ray.storage.remote.filesystem import check_uri
from keisei_ray.storage.remote.remote_run import local_copy, open_readable, update_records

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
