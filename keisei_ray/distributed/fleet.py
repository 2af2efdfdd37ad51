"""The self-play actors of a run: started in waves, replaced when they die.

    waiting -> starting -> idle <-> collecting
                 |           |          |
                 +-----------+----------+--> dead -> waiting (next incarnation)

How many there are to be follows the cluster (`resize`). An actor that nobody has room for stays
starting, without a limit in time, until there is room.

Only a few start at a time: an actor that imports torch takes about two seconds of CPU, and if
all started at once on few cores the first would be ready as late as the last.

The fleet holds handles and object references, never data.
"""

import itertools
import logging
from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass

import ray

from keisei_ray.config.autosize import RunSizes
from keisei_ray.config.schema import Config
from keisei_ray.distributed.actors import ActorHandle, Ref, new_self_play_actor, remote_cause
from keisei_ray.errors import ActorLostError

logger = logging.getLogger(__name__)


@dataclass
class Member:
    """One self-play actor's current incarnation."""

    actor_id: int
    incarnation: int
    handle: ActorHandle
    started_at: float
    """When its start was asked for, by the fleet's clock."""


class DeathBudget:
    """How often something may die.

    At most `limit` times within `window_s` seconds, and `limit` times in a row without having
    answered, however long each start took.
    """

    def __init__(self, what: str, limit: int, window_s: float, clock: Callable[[], float]) -> None:
        self._what = what
        self._limit = limit
        self._window_s = window_s
        self._clock = clock
        self._deaths: deque[float] = deque()
        self._in_a_row = 0

    def answered(self) -> None:
        """It is up: what it died of before counts only within the window."""
        self._in_a_row = 0

    def spend(self, cause: BaseException) -> int:
        """Counts a death; returns how many more are allowed within the window.

        Raises:
            ActorLostError: the budget is spent; `cause` is chained.
        """
        now = self._clock()
        self._deaths.append(now)
        self._in_a_row += 1
        while now - self._deaths[0] > self._window_s:
            self._deaths.popleft()
        deaths = max(len(self._deaths), self._in_a_row)
        left = self._limit - deaths
        if left < 0:
            when = f"in {self._window_s:g} s" if deaths == len(self._deaths) else "in a row"
            raise ActorLostError(
                f"{self._what} died {deaths} times {when} (limit {self._limit}). "
                f"Last cause: {type(cause).__name__}: {cause}"
            ) from cause
        return left


class Fleet:
    """Starts, counts and replaces self-play actors; hands out the idle ones in turn."""

    def __init__(
        self,
        config: Config,
        *,
        num_cpus_per_actor: float,
        next_incarnation: Callable[[int], int],
        clock: Callable[[], float],
    ) -> None:
        """Args:
        num_cpus_per_actor: Ray's reservation for each.
        next_incarnation: actor id -> number of the incarnation about to start.
        clock: monotonic seconds.
        """
        self._config = config
        self._num_cpus = num_cpus_per_actor
        self._next_incarnation = next_incarnation
        self._clock = clock
        self._sizes = RunSizes(0, 0, 0, 0, 0)
        self._is_trimming = False
        self._waiting: deque[int] = deque()
        self._members: dict[int, Member] = {}
        self._starting: dict[Ref, Member] = {}
        self._idle: deque[Member] = deque()
        self._num_collecting = 0
        self._budgets: dict[int, DeathBudget] = {}

    @property
    def num_alive(self) -> int:
        """Actors that have answered and have not died since."""
        return len(self._idle) + self._num_collecting

    @property
    def starting(self) -> list[Ref]:
        """References that become ready when an actor has started or failed to."""
        return list(self._starting)

    def resize(self, sizes: RunSizes) -> None:
        """Says how many actors there are to be from now on; to be called every few seconds.

        More: the others are started next. Fewer: those that do not play yet leave at once; the
        others from the next call on, each when it has delivered, since mostly they are dead with
        their node and Ray is about to say so.
        """
        self._is_trimming = sizes.num_actors >= self._sizes.num_actors
        self._sizes = sizes
        taken = {*self._members, *self._waiting}
        unused = (number for number in itertools.count() if number not in taken)
        while len(self._members) + len(self._waiting) < sizes.num_actors:
            self._waiting.append(next(unused))
        while self._waiting and self._is_too_many():
            self._waiting.pop()
        idle = [*reversed(self._idle)] if self._is_trimming else []
        for member in [*reversed(self._starting.values()), *idle]:
            if self._is_too_many():
                self._end(member)

    def _is_too_many(self) -> bool:
        return len(self._members) + len(self._waiting) > self._sizes.num_actors

    def start_waiting(self) -> None:
        """Asks Ray for the next actors, one for each CPU at a time.

        Once there are as many as can play at once, the others start one by one, so that they
        take little from those that play.
        """
        is_short = self.num_alive < self._sizes.max_unconsumed
        at_once = max(1, int(self._sizes.num_cpus)) if is_short else 1
        while self._waiting and len(self._starting) < at_once:
            actor_id = self._waiting.popleft()
            incarnation = self._next_incarnation(actor_id)
            handle = new_self_play_actor(
                self._config, actor_id, incarnation, num_cpus=self._num_cpus
            )
            member = Member(actor_id, incarnation, handle, self._clock())
            self._members[actor_id] = member
            self._starting[handle.start.remote()] = member

    def started(self, ref: Ref) -> None:
        """The actor that answered with `ref` is idle from now on."""
        member = self._starting.pop(ref)
        self._budget(member.actor_id).answered()
        self._idle.append(member)

    def starting_member(self, ref: Ref) -> Member:
        """Who will answer with `ref`."""
        return self._starting[ref]

    def overdue(self) -> list[Member]:
        """Starting actors that have not answered within `cluster.start_timeout_s`.

        While there are more than the cluster has room for, the time does not run: Ray does not
        say which of them it has started.
        """
        if len(self._members) > self._sizes.num_placeable:
            for member in self._starting.values():
                member.started_at = self._clock()
            return []
        limit = self._clock() - self._config.cluster.start_timeout_s
        return [m for m in self._starting.values() if m.started_at < limit]

    def take_idle(self, excluded: Collection[int]) -> Member | None:
        """The actor that has been idle longest and whose id is not excluded; collecting now."""
        for member in self._idle:
            if member.actor_id not in excluded:
                self._idle.remove(member)
                self._num_collecting += 1
                return member
        return None

    def give_back(self, member: Member) -> None:
        """A collecting actor has delivered and is idle again, or leaves if it is one too many."""
        self._num_collecting -= 1
        self._idle.append(member)
        if self._is_trimming and self._is_too_many():
            self._end(member)

    def dismiss(self) -> None:
        """Ends every actor, whatever it is doing. The fleet is of no use afterwards."""
        for member in self._members.values():
            ray.kill(member.handle)
        self._members.clear()

    def replace(self, member: Member, error: BaseException) -> int:
        """Buries an actor and queues its next incarnation.

        Returns:
            Deaths left in its budget.

        Raises:
            ActorLostError: the budget is spent.
        """
        if not self._is_starting(member) and member not in self._idle:
            self._num_collecting -= 1
        self._end(member)
        if len(self._members) + len(self._waiting) < self._sizes.num_actors:
            self._waiting.append(member.actor_id)
        return self._budget(member.actor_id).spend(remote_cause(error))

    def _is_starting(self, member: Member) -> bool:
        return any(m is member for m in self._starting.values())

    def _end(self, member: Member) -> None:
        """Takes a member off the books; its process may be alive, so it is ended."""
        self._starting = {ref: m for ref, m in self._starting.items() if m is not member}
        if member in self._idle:
            self._idle.remove(member)
        ray.kill(self._members.pop(member.actor_id).handle)

    def _budget(self, actor_id: int) -> DeathBudget:
        if actor_id not in self._budgets:
            limits = self._config.cluster
            self._budgets[actor_id] = DeathBudget(
                f"self-play actor {actor_id}",
                limits.max_actor_deaths,
                limits.death_window_s,
                self._clock,
            )
        return self._budgets[actor_id]
