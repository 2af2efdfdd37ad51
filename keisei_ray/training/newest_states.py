"""The newest states of the processes that return rollouts, for checkpoints.

The state that goes with a run's counts is the one after the process's newest *consumed* rollout.
What it has done since then is in no count, and a later session does it again. Holds bytes only, so
that a checkpoint can be saved without Ray.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Generic, Protocol, TypeVar

from keisei_ray.telemetry.reports import CollectReport


class _Numbered(Protocol):
    """State of one incarnation of a process."""

    @property
    def incarnation(self) -> int: ...


State = TypeVar("State", bound=_Numbered)


class NewestStates(Generic[State]):
    """Each process's state after its newest consumed rollout, by the process's number."""

    def __init__(
        self,
        resumed: Mapping[int, State],
        pack: Callable[[State], bytes],
        sent: Callable[[CollectReport], bytes],
    ) -> None:
        """Args:
        resumed: states of a checkpoint, from which processes are still to go on.
        pack: returns the bytes of a state.
        sent: returns the packed state that came with a rollout; empty if none did.
        """
        self.resumed = dict(resumed)
        """States from which a process is still to go on."""
        self._newest = {i: (state.incarnation, pack(state)) for i, state in resumed.items()}
        """Number -> incarnation and packed state."""
        self._sent = sent

    def consume(self, reports: Sequence[CollectReport]) -> None:
        """Takes the states after the rollouts of a finished update."""
        for report in sorted(reports, key=lambda r: (r.header.incarnation, r.header.sequence)):
            if state := self._sent(report):
                self._newest[report.header.actor_id] = report.header.incarnation, state

    def packed(self) -> list[bytes]:
        """Returns all states, by number."""
        return [state for _, (_, state) in sorted(self._newest.items())]

    def packed_of(self, incarnations: Mapping[int, int]) -> list[bytes]:
        """Returns the states that a checkpoint keeps, by number.

        Args:
            incarnations: newest incarnation of each process. The state of an earlier one is lost.
        """
        newest = sorted(self._newest.items())
        return [state for i, (number, state) in newest if incarnations.get(i) == number]

    def take(self, number: int) -> State | None:
        """Returns the state from which a process is to go on, once; None: from the beginning."""
        return self.resumed.pop(number, None)

    def drop(self, number: int) -> None:
        """Forgets a state of the checkpoint, from which no process of this run can go on."""
        del self.resumed[number], self._newest[number]
