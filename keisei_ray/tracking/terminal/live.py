"""The live view: one frame that stays in place while the run goes on.

Only the newest state is kept; `rich` Live redraws it in a thread of its own, so handling an event
costs an update of the state and no drawing, however fast events come.
"""

import threading
from collections.abc import Callable
from typing import Final

from rich.console import Console, ConsoleDimensions, RenderableType
from rich.live import Live

from keisei_ray.telemetry import events as ev
from keisei_ray.tracking.terminal.frame import render
from keisei_ray.tracking.terminal.summary import summary
from keisei_ray.tracking.terminal.text import glyphs_for
from keisei_ray.tracking.terminal.view_state import ViewState, at, fold

FRAMES_PER_S: Final = 1.0
"""Frames drawn per second. A frame takes about 9 ms of a slow core: at one per second the view uses
less than 1% of it, and no figure changes faster than the user can read it."""

CLEARED: Final = "\x1b[H\x1b[J"
"""Moves the cursor to the top of the screen and erases all below."""


class LiveView:
    """Shows a run on a terminal until it is closed, then leaves the last frame and a summary."""

    def __init__(self, console: Console, clock: Callable[[], float]) -> None:
        """Takes the console to draw on and a monotonic clock in seconds. Nothing is drawn yet."""
        self._console = console
        self._clock = clock
        self._began = clock()
        self._state = ViewState()
        self._glyphs = glyphs_for(console.encoding)
        self._size: ConsoleDimensions | None = None
        """Size of the terminal when the last frame was drawn; None before the first."""
        self._closing = threading.Lock()
        self._live = Live(
            console=console,
            get_renderable=self._frame,
            refresh_per_second=FRAMES_PER_S,
            vertical_overflow="ellipsis",
        )

    def handle(self, event: ev.Event, happened_s: float | None = None) -> None:
        """Updates the state by an event; the first event starts the drawing.

        Args:
            event: what happened.
            happened_s: time of the event by the view's clock; None: now.
        """
        now = self._clock() if happened_s is None else happened_s
        if isinstance(event, ev.RunStarted):
            self._began = now
        self._state = fold(self._state, event, now - self._began)
        if not self._live.is_started and self._state.ended is None:
            self._live.start(refresh=True)

    @property
    def state(self) -> ViewState:
        """State that the view shows, as of the last event."""
        return self._state

    def close(self) -> None:
        """Draws once more, restores the terminal, and prints the summary if the run has ended."""
        with self._closing:
            if self._live.is_started:
                self._live.stop()
            if self._state.ended is not None:
                self._console.print(summary(self._state, self._console.width), soft_wrap=True)

    def _frame(self) -> RenderableType:
        """Draws the newest state, at the current time until the run ends."""
        state = self._state
        if state.ended is None:
            state = at(state, self._clock() - self._began)
        size = self._console.size
        if size != self._size and self._size is not None:
            # The terminal has wrapped the old frame anew, so its lines are no longer where they
            # were: the screen is cleared, and the next frame begins at its top.
            self._console.file.write(CLEARED)
        self._size = size
        return render(state, size.width, size.height, self._glyphs)
