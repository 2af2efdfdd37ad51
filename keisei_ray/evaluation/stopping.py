"""Ends a match by a signal such that every finished game is kept."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

from keisei_ray.evaluation.matches import PlayedGame


class Stop:
    """A signal handler that interrupts the play, but not the saving of a finished game."""

    def __init__(self) -> None:
        self._is_set = False
        self._is_playing = False

    def __call__(self, signum: int, frame: FrameType | None) -> None:
        self._is_set = True
        if self._is_playing:
            raise KeyboardInterrupt

    def interrupt(self, plies: Iterator[list[PlayedGame]], num_games: int) -> Iterator[PlayedGame]:
        """Yields the games of a match; raises KeyboardInterrupt when a signal has come.

        Not while there are games that have ended, and not after the last game.

        Args:
            plies: as `play_plies` gives them.
            num_games: games of the match.
        """
        while num_games:
            self._is_playing = True
            if self._is_set:
                raise KeyboardInterrupt
            ended = next(plies)
            self._is_playing = False
            num_games -= len(ended)
            yield from ended


@contextlib.contextmanager
def stoppable() -> Iterator[Stop]:
    """Lets SIGINT and SIGTERM stop the match inside the block; restores the handlers after it."""
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop  # Only the main thread may set handlers.
        return
    before = {s: signal.signal(s, stop) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
