"""One writer for a run at a URI: a heartbeat there, since object stores have no locks.

Its content and its rules are those of `storage/run_lock.py`, without the lock. Two sessions that
begin in the same moment both pass; the token of `storage/remote/uploader.py` then decides.
"""

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator
from typing import Final

from keisei_ray.errors import StorageError
from keisei_ray.storage.remote.filesystem import Storage
from keisei_ray.storage.run_layout import LOCK_FILE
from keisei_ray.storage.run_lock import Owner, beating, refused, still_beats

HEARTBEAT_S: Final = 15.0
"""Seconds between two heartbeats at a URI."""
PATIENCE_S: Final = 60.0
"""Seconds for which the heartbeat of a process that may have ended is watched."""
REMOVAL_S: Final = 10.0
"""Longest time, in seconds, that the end of a run waits for the removal of its heartbeat."""

logger = logging.getLogger(__name__)


@contextlib.contextmanager
def remote_lock(storage: Storage, say: Callable[[str], object]) -> Iterator[None]:
    """Makes this process the only writer at a URI for the length of the `with` block.

    A process on this machine that has ended is seen at once. Another one's heartbeat is watched
    for `PATIENCE_S`.

    Args:
        storage: the files of the run, which can be read and written.
        say: called with a sentence about what is being waited for.

    Raises:
        RunDirError: another process writes there.
        StorageError: the URI cannot be read or written.
    """

    def read() -> Owner | None:
        return Owner.read(storage.read(LOCK_FILE))

    found, owner = read(), Owner.new()
    if found is not None and not found.is_gone:
        say(f"{storage.uri}: looking for {PATIENCE_S:g} s whether {found} still writes there")
        if still_beats(read, found, PATIENCE_S):
            raise refused(storage.uri, found)

    def beat(count: int) -> bool:
        try:
            now = read()
            if now is not None and now.token != owner.token:
                return False
            storage.write(LOCK_FILE, owner.record(count))
        except StorageError as error:
            logger.debug("no heartbeat: %s", error)
        return True

    def remove() -> None:
        with contextlib.suppress(StorageError):
            now = read()
            if now is not None and now.token == owner.token:
                storage.remove(LOCK_FILE)

    storage.write(LOCK_FILE, owner.record(0))
    try:
        with beating(beat, HEARTBEAT_S):
            yield
    finally:
        remover = threading.Thread(target=remove, name="heartbeat", daemon=True)
        remover.start()
        remover.join(REMOVAL_S)
