"""Says when Ray writes objects to disk because an object store is full.

Nothing is lost by it, and what a run sends waits for a disk from then on. Ray itself says it only
in the log of a node.
"""

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import grpc
from ray._private import state as ray_state
from ray._private.internal_api import get_memory_info_reply  # Ray has no public function for it.
from ray.exceptions import RayError

logger = logging.getLogger(__name__)

LOOK_S = 30.0
"""Seconds between two looks; each asks every node once."""
ANSWER_S = 3.0
MIB = 2**20


@dataclass(frozen=True)
class Spilled:
    """Objects that all nodes of a cluster have written to disk since they were started."""

    num_objects: int = 0
    num_bytes: int = 0


def spilled() -> Spilled | None:
    """Returns what the cluster has written to disk; None if a node does not answer in time."""
    try:
        reply = get_memory_info_reply(ray_state.state, timeout_seconds=ANSWER_S)
    except (grpc.RpcError, RayError, ConnectionError, AssertionError) as error:
        logger.debug("no node tells what is spilled: %s", error)
        return None
    stats = reply.store_stats
    return Spilled(stats.spilled_objects_total, stats.spilled_bytes_total)


class SpillNotice:
    """Says it the first time, and again whenever ten times as much is on disk."""

    def __init__(
        self, publish: Callable[[str], object], look: Callable[[], Spilled | None]
    ) -> None:
        """Takes what is on disk now as the beginning: another run has written it.

        Args:
            publish: gets each sentence.
            look: returns what is on disk now.
        """
        self._publish = publish
        self._look = look
        self._before: Spilled | None = None
        self._said_bytes = 0

    def poll(self) -> None:
        """Looks, and says what is new."""
        now = self._look()
        if now is None:
            return
        if self._before is None:
            self._before = now
        num_bytes = now.num_bytes - self._before.num_bytes
        if num_bytes <= 0 or num_bytes < 10 * self._said_bytes:
            return
        self._said_bytes = num_bytes
        num_objects = now.num_objects - self._before.num_objects
        self._publish(
            f"an object store of Ray is full: {num_objects:,} objects ({num_bytes / MIB:,.0f} MiB) "
            "were written to disk, which slows the run. Use a larger cluster.object_store_bytes "
            "(where you start Ray: ray start --object-store-memory), or a smaller update"
        )


@contextlib.contextmanager
def telling_of_spilling(
    publish: Callable[[str], object], look: Callable[[], Spilled | None] = spilled
) -> Iterator[None]:
    """Looks every LOOK_S inside the block, in a thread of its own.

    Args:
        publish: gets each sentence, in that thread.
        look: returns what is on disk now.
    """
    over = threading.Event()
    notice = SpillNotice(publish, look)

    def watch() -> None:
        notice.poll()
        while not over.wait(LOOK_S):
            notice.poll()

    thread = threading.Thread(target=watch, name="spilling", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(2 * ANSWER_S)  # Before Ray is shut down.
