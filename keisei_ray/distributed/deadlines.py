"""Deadlines: how long the answer to a remote call may take before its process counts as dead.

A process that is stopped, or waits forever for a disk, is alive for Ray: its call neither returns
nor fails. How long a call takes depends on network, batch and machine, so it is learnt. With
`cluster.call_timeout_s` = L, an answer is overdue

    after max(L, LONGEST_FACTOR * longest)    seconds, where `longest` is the longest that a call
                                              of the same kind has taken, for its size
    after FIRST_FACTOR * L                    seconds, while no call of its kind has been answered

The time in which the driver itself did not run does not count (`AwakeClock`), nor does that in
which it could take no answer (`Deadlines.taking_nothing`).

No Ray and no thread: the owner of the calls says when one is asked and when it is answered.
"""

import contextlib
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, replace
from typing import Final, Generic, TypeVar

LONGEST_FACTOR: Final = 10.0
"""A machine that is shared, or begins to swap, may be slower than ever, but hardly ten times."""
FIRST_FACTOR: Final = 24.0
"""Two hours by default: nothing is known yet, and the first call also warms up and compiles."""
MAX_STEP_S: Final = 5.0
"""Longest time between two readings of an `AwakeClock` that it counts in full. The driver's loop
reads it about twice a second."""

KeyT = TypeVar("KeyT", bound=Hashable)


class AwakeClock:
    """Seconds during which the process that reads this clock ran.

    A reading adds the time since the reading before, but at most `MAX_STEP_S`. So no process seems
    late after the driver was stopped (Ctrl-Z), its machine slept, or a save took minutes.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        """Args:
        clock: monotonic seconds.
        """
        self._clock = clock
        self._read_at = clock()
        self._awake_s = 0.0

    def __call__(self) -> float:
        """Returns the seconds since this clock was made."""
        now = self._clock()
        self._awake_s += min(now - self._read_at, MAX_STEP_S)
        self._read_at = now
        return self._awake_s


@dataclass(frozen=True)
class _Call:
    """A call that has not been answered."""

    kind: str
    size: int
    asked_at: float


class Deadlines(Generic[KeyT]):
    """The calls that are awaited, since when, and how long calls like them have taken."""

    def __init__(self, least_s: float | None, clock: Callable[[], float]) -> None:
        """Args:
        least_s: `cluster.call_timeout_s`; None: no call is ever overdue.
        clock: monotonic seconds, of an `AwakeClock`.
        """
        self._least_s = least_s
        self._clock = clock
        self._awaited: dict[KeyT, _Call] = {}
        self._longest_s: dict[str, float] = {}
        """Kind -> longest time that an answered call of this kind has taken, for each unit of its
        size."""

    def asked(self, key: KeyT, kind: str, size: int = 1) -> None:
        """Notes that a call has been made.

        Args:
            key: names the call.
            kind: calls of one kind take about the same time for the same size.
            size: amount of work, to which the time is about proportional.
        """
        self._awaited[key] = _Call(kind, size, self._clock())

    @contextlib.contextmanager
    def taking(self, key: KeyT) -> Iterator[None]:
        """Encloses the taking of an answer: unless that raises, learns how long the call took."""
        call = self._awaited.pop(key)
        took_s = (self._clock() - call.asked_at) / call.size
        yield
        self._longest_s[call.kind] = max(took_s, self._longest_s.get(call.kind, 0.0))

    @contextlib.contextmanager
    def taking_nothing(self) -> Iterator[None]:
        """Encloses a wait in which no answer is taken; no call takes longer by it.

        An answer that comes meanwhile lies there until the end of the wait. If it counted, a
        learner that starts for minutes would give every process ten times as long to be stuck.
        """
        began = self._clock()
        yield
        waited_s = self._clock() - began
        self._awaited = {
            key: replace(call, asked_at=call.asked_at + waited_s)
            for key, call in self._awaited.items()
        }

    def forget(self, key: KeyT) -> None:
        """Notes that a call is not awaited any more, if it was."""
        self._awaited.pop(key, None)

    def overdue(self) -> dict[KeyT, TimeoutError]:
        """Returns the calls whose answer is overdue, each with an error that says so."""
        now = self._clock()
        late: dict[KeyT, TimeoutError] = {}
        for key, call in self._awaited.items():
            limit_s = self._limit_s(call)
            if limit_s is not None and now - call.asked_at > limit_s:
                late[key] = TimeoutError(
                    f"no answer to {call.kind} within {limit_s:.3g} s (cluster.call_timeout_s)"
                )
        return late

    def _limit_s(self, call: _Call) -> float | None:
        if self._least_s is None:
            return None
        longest_s = self._longest_s.get(call.kind)
        if longest_s is None:
            return FIRST_FACTOR * self._least_s
        return max(self._least_s, LONGEST_FACTOR * longest_s * call.size)
