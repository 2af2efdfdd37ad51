"""Messages between the conversation and the thinker.

Every job has a number, which its reports bear: a report on a job that is no longer awaited is
dropped.
"""

from collections.abc import Callable
from dataclasses import dataclass

from keisei_ray.usi.options import Options
from keisei_ray.usi.position import Plies
from keisei_ray.usi.time_control import Budget


@dataclass
class Control:
    """State that the two threads share while a search is under way; each field has one writer."""

    stop_at: float | None = None
    """Time at which the search ends, on the clock of `time.monotonic`; None: not by time. Written
    by the conversation."""
    is_stopped: bool = False
    """Whether the search is to end at once. Written by the conversation."""
    best: str = ""
    """Best move so far, in USI notation; at first that of the last search if that was of the same
    position. Written by the thinker."""


@dataclass(frozen=True)
class Load:
    """Job: load the network that the options name, unless it is loaded."""

    number: int
    options: Options


@dataclass(frozen=True)
class Think:
    """Job: search from where a game stands."""

    number: int
    plies: Plies
    options: Options
    budget: Budget
    control: Control
    started: float
    """Time of the command, on the clock of `time.monotonic`."""
    is_analysis: bool
    """Whether no move is to be played: `go infinite`."""
    is_mate: bool
    """Whether a forced mate is looked for, in answer to `go mate`."""


@dataclass(frozen=True)
class Forget:
    """Job: a new game begins; drop the tree."""


@dataclass(frozen=True)
class End:
    """Job: end the thread."""


Job = Load | Think | Forget | End


@dataclass(frozen=True)
class Ready:
    """Report: the network is loaded."""

    number: int


@dataclass(frozen=True)
class Shown:
    """Report: what a search has found so far."""

    number: int
    lines: tuple[str, ...]
    """Lines to show; none where the first best move has become known."""


@dataclass(frozen=True)
class Answered:
    """Report: a search is over."""

    number: int
    line: str
    """Line of the answer."""


@dataclass(frozen=True)
class Failed:
    """Report: a job could not be done."""

    number: int
    message: str
    """Cause, one line."""
    is_fatal: bool
    """Whether there is no network to go on with."""


@dataclass(frozen=True)
class Noted:
    """Report: something that the client's user should know; all goes on."""

    message: str
    """One line."""


Report = Ready | Shown | Answered | Failed | Noted
Post = Callable[[Report], None]
