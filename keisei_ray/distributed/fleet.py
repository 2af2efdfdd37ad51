"""The fleet: the self-play actors of a run, how many there are, and which of them are idle.

    waiting -> starting -> idle <-> collecting
                  |          |          |
                  +----------+----------+--> dead -> waiting (next incarnation)

The number of actors follows the cluster (`resize`). An actor that the cluster has no room for stays
in `starting` without a time limit until there is room.

Only a few actors start at a time: an actor that imports torch takes about two seconds of CPU, and
if all started at once on few cores, the first would be ready as late as the last.

The fleet holds handles and object references, never data.
"""

import itertools
from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass

import ray

from keisei_ray.config.autosize import RunSizes
from keisei_ray.config.schema import Config
from keisei_ray.distributed.actors import ActorHandle, Ref, new_self_play_actor
from keisei_ray.distributed.supervision import DeathBudget, end_dead_actor


@dataclass(frozen=True)
class ActorStart:
    """How an actor is to be started."""

    incarnation: int
    """Incarnation that it begins, or plays on as."""
    arguments: tuple[object, ...] = ()
    """Arguments of `SelfPlayShell.start`."""


@dataclass
class FleetActor:
    """One self-play actor's current incarnation."""

    actor_id: int
    incarnation: int
    handle: ActorHandle
    started_at: float
    """Time by the fleet's clock when Ray was asked for the actor."""


class Fleet:
    """Starts, counts and replaces self-play actors; hands out the idle ones in turn."""

    def __init__(
        self,
        config: Config,
        *,
        num_cpus_per_actor: float,
        next_start: Callable[[int], ActorStart],
        clock: Callable[[], float],
    ) -> None:
        """Args:
        config: with every hardware-dependent choice made.
        num_cpus_per_actor: CPUs that Ray reserves for each actor.
        next_start: actor id -> how it is to be started now.
        clock: monotonic seconds.
        """
        self._config = config
        self._num_cpus = num_cpus_per_actor
        self._next_start = next_start
        self._clock = clock
        self._sizes = RunSizes(0, 0, 0, 0, 0)
        self._may_dismiss_playing = False
        """Whether actors that play may leave when there are too many; see `resize`."""
        self._waiting: deque[int] = deque()
        """Ids of the actors to start next."""
        self._actors: dict[int, FleetActor] = {}
        """All actors that Ray has been asked for, by id."""
        self._starting: dict[Ref, FleetActor] = {}
        self._idle: deque[FleetActor] = deque()
        self._num_collecting = 0
        self._budgets: dict[int, DeathBudget] = {}

    @property
    def num_alive(self) -> int:
        """Number of actors that have answered and have not died since."""
        return len(self._idle) + self._num_collecting

    @property
    def starting(self) -> list[Ref]:
        """References that become ready when an actor has started or failed to."""
        return list(self._starting)

    def resize(self, sizes: RunSizes) -> None:
        """Sets how many actors there are to be; to be called every few seconds.

        More actors: the missing ones are started next. Fewer actors: those that do not play yet
        are ended at once. The others are ended from the next call on, each when it has delivered:
        mostly they are dead with their node, and Ray is about to report it.
        """
        self._may_dismiss_playing = sizes.num_actors >= self._sizes.num_actors
        self._sizes = sizes
        taken = {*self._actors, *self._waiting}
        unused = (number for number in itertools.count() if number not in taken)
        while len(self._actors) + len(self._waiting) < sizes.num_actors:
            self._waiting.append(next(unused))
        while self._waiting and self._is_too_many():
            self._waiting.pop()
        idle = [*reversed(self._idle)] if self._may_dismiss_playing else []
        for actor in [*reversed(self._starting.values()), *idle]:
            if self._is_too_many():
                self._dismiss_one(actor)

    def start_waiting(self) -> None:
        """Asks Ray for the next actors, one for each CPU at a time.

        Once there are as many as can play at once, the others start one by one, so that they
        take little from those that play.
        """
        is_short = self.num_alive < self._sizes.max_unconsumed
        at_once = max(1, int(self._sizes.num_cpus)) if is_short else 1
        while self._waiting and len(self._starting) < at_once:
            actor_id = self._waiting.popleft()
            start = self._next_start(actor_id)
            handle = new_self_play_actor(
                self._config, actor_id, start.incarnation, num_cpus=self._num_cpus
            )
            actor = FleetActor(actor_id, start.incarnation, handle, self._clock())
            self._actors[actor_id] = actor
            self._starting[handle.start.remote(*start.arguments)] = actor

    def started(self, ref: Ref) -> None:
        """Makes the actor that has answered with `ref` an idle one."""
        actor = self._starting.pop(ref)
        self._budget(actor.actor_id).answered()
        self._idle.append(actor)

    def starting_actor(self, ref: Ref) -> FleetActor:
        """Returns the actor that answers with `ref`."""
        return self._starting[ref]

    def overdue(self) -> list[Ref]:
        """Returns the references of starts that take longer than `cluster.start_timeout_s`.

        While there are more actors than the cluster has room for, the time does not run: Ray does
        not say which of them it has started.
        """
        if len(self._actors) > self._sizes.num_placeable:
            for actor in self._starting.values():
                actor.started_at = self._clock()
            return []
        limit = self._clock() - self._config.cluster.start_timeout_s
        return [ref for ref, actor in self._starting.items() if actor.started_at < limit]

    def take_idle(self, excluded: Collection[int]) -> FleetActor | None:
        """Takes the actor that has been idle longest, to collect a rollout.

        Args:
            excluded: ids of actors that are not wanted.

        Returns:
            The actor, or None if none is idle.
        """
        for actor in self._idle:
            if actor.actor_id not in excluded:
                self._idle.remove(actor)
                self._num_collecting += 1
                return actor
        return None

    def give_back(self, actor: FleetActor) -> None:
        """Makes an actor that has delivered idle again, or ends it if there are too many."""
        self._num_collecting -= 1
        self._idle.append(actor)
        if self._may_dismiss_playing and self._is_too_many():
            self._dismiss_one(actor)

    def replace(self, actor: FleetActor, error: BaseException) -> int:
        """Ends a dead actor and queues its next incarnation, unless there are too many actors.

        Args:
            actor: the actor.
            error: error of its call.

        Returns:
            Further deaths after which the actor would be replaced again, if they came at once.

        Raises:
            ActorLostError: it died too often.
            UserError: the cause is one that a restart cannot put right.
        """
        if not self._is_starting(actor) and actor not in self._idle:
            self._num_collecting -= 1
        self._remove(actor)
        if len(self._actors) + len(self._waiting) < self._sizes.num_actors:
            self._waiting.append(actor.actor_id)
        return end_dead_actor(actor.handle, error, self._budget(actor.actor_id))

    def dismiss(self) -> None:
        """Ends every actor, whatever it is doing. The fleet cannot be used afterwards."""
        for actor in self._actors.values():
            ray.kill(actor.handle)
        self._actors.clear()

    def _is_too_many(self) -> bool:
        return len(self._actors) + len(self._waiting) > self._sizes.num_actors

    def _is_starting(self, actor: FleetActor) -> bool:
        return any(other is actor for other in self._starting.values())

    def _dismiss_one(self, actor: FleetActor) -> None:
        """Ends an actor that is one too many."""
        self._remove(actor)
        ray.kill(actor.handle)

    def _remove(self, actor: FleetActor) -> None:
        self._starting = {r: other for r, other in self._starting.items() if other is not actor}
        if actor in self._idle:
            self._idle.remove(actor)
        del self._actors[actor.actor_id]

    def _budget(self, actor_id: int) -> DeathBudget:
        if actor_id not in self._budgets:
            self._budgets[actor_id] = DeathBudget(
                f"self-play actor {actor_id}", self._config.cluster, self._clock
            )
        return self._budgets[actor_id]
