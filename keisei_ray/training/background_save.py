"""Background saving: one checkpoint at a time is written by a separate thread.

Hashing and writing a checkpoint takes seconds on a slow disk, and the driver goes on meanwhile. The
thread gets plain bytes that do not change any more, and it alone writes to the checkpoints
directory while it runs. It is a daemon: a disk that hangs does not hold up a run that is left
without saving. A write that is cut off at any moment leaves older checkpoints untouched
(`storage/checkpoint.py`).

For one caller's thread; there is no lock, the thread's only way back is its future.
"""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

from keisei_ray.training.saved_run import RunState


@dataclass(frozen=True)
class SavedState:
    """A checkpoint that is complete on the disk."""

    path: Path
    timestep: int


class BackgroundSave:
    """The checkpoint that is being written, if there is one."""

    def __init__(self, write: Callable[[RunState], Path]) -> None:
        """Starts nothing yet.

        Args:
            write: writes a checkpoint and returns its directory; called in the thread.
        """
        self._write = write
        self._under_way: Future[SavedState] | None = None

    @property
    def is_under_way(self) -> bool:
        """Whether a checkpoint was begun and not taken yet."""
        return self._under_way is not None

    def begin(self, state: RunState) -> None:
        """Starts writing and returns at once. Nothing may be under way."""
        assert self._under_way is None, "two checkpoints at once"
        self._under_way = Future()
        threading.Thread(
            target=self._run, args=(state, self._under_way), name="checkpoint", daemon=True
        ).start()

    def take(self, *, wait: bool) -> SavedState | None:
        """Returns the checkpoint that was begun, once: when it is complete.

        Args:
            wait: whether to wait for the one under way; for as long as the disk takes.

        Returns:
            None if there is none, or it is not complete yet.

        Raises:
            Exception: the error of `write`, once. Nothing is under way then.
        """
        future = self._under_way
        if future is None or not (wait or future.done()):
            return None
        error = future.exception()
        self._under_way = None
        if error is not None:
            raise error
        return future.result()

    def _run(self, state: RunState, future: "Future[SavedState]") -> None:
        """Writes. The body of the thread."""
        try:
            future.set_result(SavedState(self._write(state), state.timestep))
        except BaseException as error:  # noqa: BLE001  raised again by `take`
            future.set_exception(error)
