"""Admission: when an actor may be asked for a rollout, and which rollouts make the next update.

Keeps the rollouts that are not consumed yet, and nothing else: no Ray, no clock, no weights.

    in play  -- delivered by its actor -->  delivered  -- handed to the learner -->  updating
                                                ^                                      |
                                                +------- its update has failed --------+

An update is under way from its start until its weights are published. The learner makes one at a
time, and may begin with the next while the last one's weights are packed and on their way.

R: rollouts in an update; it may change with the cluster at any time.
L: the largest policy lag, in updates; 0 in lockstep.
p: version of the newest published weights.
u: number of updates under way, at most two when one starts. They make p + 1, ..., p + u.
v: p + u, the version from which the learner makes the next update.

The rules:

1. At most R * (L + 1) rollouts are in play, delivered or updating; towards the end of a run, at
   most those that the remaining updates take.
2. A rollout is asked for only while u <= L.
3. An update takes the delivered rollouts with the oldest weights: R of them, or more if more would
   be too old for the next update, which are those with a version below v + 1 - L.
4. An update does not start while a rollout with such a version is in play, nor while more than one
   update is under way.
5. In lockstep an update takes one rollout of each actor: an actor that has one delivered or
   updating is not asked for another.

Rule 1 is the backpressure: actors that are ahead of the learner wait. Rules 2 to 4 bound the lag by
L, however R changes. Proof: each rollout in play or delivered has a version of v - L or more. This
holds at the start, when there is none. One that is asked for has version p = v - u, by rule 2 at
least v - L. An update that starts raises v by one, and by rules 3 and 4 all rollouts outside of it
have a version of v + 1 - L or more. One whose weights are published leaves v as it is. One that
fails lowers v by one, and its rollouts, which had the right to be in it, come back; if the learner
is lost, all of them do so. A rollout's lag when it is consumed, v - version, is therefore at most
L.
"""

from collections.abc import Hashable, Sequence
from itertools import chain
from typing import Generic, Protocol, TypeVar

from keisei_ray.config.autosize import RunSizes


class InPlay(Protocol):
    """A rollout that an actor is playing."""

    @property
    def weights_version(self) -> int:
        """Version of the weights that it is played with."""


class Delivered(Protocol):
    """A rollout that an actor has played."""

    @property
    def weights_version(self) -> int:
        """Version of the weights that played it."""

    @property
    def actor_id(self) -> int:
        """Actor that played it."""


KeyT = TypeVar("KeyT", bound=Hashable)
InPlayT = TypeVar("InPlayT", bound=InPlay)
DeliveredT = TypeVar("DeliveredT", bound=Delivered)


class Admission(Generic[KeyT, InPlayT, DeliveredT]):
    """The rollouts that are not consumed yet, and the rules for them. Read its lists anywhere."""

    def __init__(
        self, *, max_lag: int, timesteps_per_rollout: int, is_one_of_each_actor: bool
    ) -> None:
        """Args:
        max_lag: L.
        timesteps_per_rollout: T * N.
        is_one_of_each_actor: whether an update takes one rollout of every actor (lockstep), never
            two of one.
        """
        self._max_lag = max_lag
        self._timesteps_per_rollout = timesteps_per_rollout
        self._is_one_of_each_actor = is_one_of_each_actor
        self.in_play: dict[KeyT, InPlayT] = {}
        """Rollouts that actors are playing, by the caller's key."""
        self.delivered: list[DeliveredT] = []
        """Rollouts that wait for the learner."""
        self.updates: list[list[DeliveredT]] = []
        """Rollouts of each update under way, the oldest update first."""

    def may_ask(self, sizes: RunSizes, timesteps_left: int) -> bool:
        """Whether another rollout may be asked for.

        Args:
            sizes: of the cluster as it is now.
            timesteps_left: of the run. Not more is asked for than its last update needs.
        """
        if len(self.updates) > self._max_lag:
            return False
        per_update = sizes.rollouts_per_update
        updates_left = -(-timesteps_left // (per_update * self._timesteps_per_rollout))
        limit = min(sizes.max_unconsumed, per_update * updates_left)
        # Counted, not listed: this is asked for every rollout.
        updating = sum(len(rollouts) for rollouts in self.updates)
        return len(self.in_play) + len(self.delivered) + updating < limit

    def actors_not_to_ask(self) -> set[int]:
        """Returns the actors whose rollout of the next update is here already; only in lockstep."""
        if not self._is_one_of_each_actor:
            return set()
        return {rollout.actor_id for rollout in self.delivered_or_updating()}

    def delivered_or_updating(self) -> list[DeliveredT]:
        """Returns all rollouts that have been delivered and whose update is not published."""
        return [*chain.from_iterable(self.updates), *self.delivered]

    def asked(self, key: KeyT, rollout: InPlayT) -> None:
        """An actor has been asked for a rollout."""
        self.in_play[key] = rollout

    def take(self, key: KeyT) -> InPlayT:
        """Removes and returns a rollout that was in play: it has been played, or lost."""
        return self.in_play.pop(key)

    def deliver(self, rollout: DeliveredT) -> None:
        """A rollout waits for the learner from now on."""
        self.delivered.append(rollout)

    def start_update(self, sizes: RunSizes, published_version: int) -> list[DeliveredT]:
        """Chooses the rollouts of the next update, which is then under way.

        The learner is idle: it has made all updates under way.

        Args:
            sizes: of the cluster as it is now.
            published_version: p.

        Returns:
            The rollouts by version and actor, so that the order of delivery cannot change the
            sums of a lockstep update. Empty: the next update cannot start yet.
        """
        count = sizes.rollouts_per_update
        if len(self.updates) > 1 or len(self.delivered) < count:
            return []
        oldest_of_next = published_version + len(self.updates) + 1 - self._max_lag
        if any(rollout.weights_version < oldest_of_next for rollout in self.in_play.values()):
            return []
        self.delivered.sort(key=lambda rollout: rollout.weights_version)  # Ties stay as delivered.
        # More than R may be too old for the next update when R has just shrunk.
        count = max(count, sum(r.weights_version < oldest_of_next for r in self.delivered))
        rollouts, self.delivered = self.delivered[:count], self.delivered[count:]
        rollouts.sort(key=lambda rollout: (rollout.weights_version, rollout.actor_id))
        self.updates.append(rollouts)
        return rollouts

    def publish_update(self) -> list[DeliveredT]:
        """Removes and returns the rollouts of the oldest update, which has been published."""
        return self.updates.pop(0)

    def fail_update(self) -> list[DeliveredT]:
        """Removes and returns the rollouts of the newest update, which has failed."""
        return self.updates.pop()

    def put_back(self, rollouts: Sequence[DeliveredT]) -> None:
        """Rollouts of an update that has failed wait for the next, ahead of all others."""
        self.delivered = [*rollouts, *self.delivered]

    def put_all_back(self) -> None:
        """Rollouts of all updates under way wait again: the learner is lost."""
        self.delivered = self.delivered_or_updating()
        self.updates.clear()
