"""Opponents among which an actor's new games choose, and how that changes over a run.

The driver keeps one `SnapshotRotation` and sends an `OpponentMix` with every `collect`.
A mix holds names and probabilities; the packed weights of its snapshots are sent beside it
(`distributed/pool_handle.py`). The actor draws one opponent a game from it (`selfplay/pairing.py`).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from keisei_ray.config.schema import Config
from keisei_ray.rollouts.actor_state import ActorState
from keisei_ray.selfplay.pool import Pool

_ROTATION_STREAM = 3
"""Spawn key of the draws made here; 0 to 2 are the actor's own (`selfplay/self_play.py`)."""


@dataclass(frozen=True)
class OpponentMix:
    """The opponents of an actor's new games, valid until the actor gets the next mix."""

    pool_share: float = 0.0
    """Probability that a new game is played against a pool member; otherwise it is self-play."""
    members: tuple[tuple[str, float], ...] = ()
    """(name, probability) of each member; the probabilities add up to 1."""
    snapshots: tuple[str, ...] = ()
    """Members whose packed weights are sent along, in the order of these weights."""
    number: int = 0
    """Mixes with snapshots made for the actor's incarnation, this one included. With `slots` all
    that a later session needs to make the next mix; the actor keeps both in its state."""
    slots: tuple[str, ...] = ()
    """The snapshot in each slot of the actor, see `SnapshotRotation`."""


SELF_PLAY_ONLY = OpponentMix()
"""The mix in which the learner plays both sides of every game."""


@dataclass
class _ActorSlots:
    """The snapshots that one incarnation of an actor may play against."""

    incarnation: int
    num_mixes: int = 0
    """Mixes made for this incarnation so far."""
    names: list[str] = field(default_factory=list)
    """The snapshot in each slot; a snapshot may be in several."""


class SnapshotRotation:
    """Makes each actor's opponent mix: every scripted member, and a few snapshots in rotation.

    An actor has `pool.networks_per_actor` slots for snapshots. Each slot is filled independently,
    with the snapshots' probabilities, and stands for an equal part of the games that go to
    snapshots; two slots may hold the same snapshot. One slot, in turn, is filled anew whenever the
    actor has played `max_plies` plies since the last change. All games against the snapshot that
    the last change replaced have ended by then, so an actor seldom has to keep more than one
    network for games that are still in play. A slot whose snapshot has left the pool is filled
    anew at once.
    """

    def __init__(self, config: Config, pool: Pool) -> None:
        """Starts without any actor; slots are filled when an actor's first mix is made.

        Args:
            config: with every choice made.
            pool: the driver's table of members; read whenever a mix is made.
        """
        self._config = config
        self._pool = pool
        play = config.self_play
        self._collects_per_change = math.ceil(play.max_plies / play.rollout_length)
        self._actors: dict[int, _ActorSlots] = {}

    def next_mix(self, actor_id: int, incarnation: int) -> OpponentMix:
        """Returns an actor's next mix, one for each rollout that it is asked for.

        The mix is a function of the pool's table, the run's seed, the actor, its incarnation, and
        the mixes made for that incarnation before.
        """
        config = self._config
        probabilities = self._pool.probabilities()
        if config.pool.share == 0 or not probabilities:
            return SELF_PLAY_ONLY
        names = [member.name for member in self._pool.snapshots]
        snapshots_share = sum(probabilities[name] for name in names)
        members = {name: p for name, p in probabilities.items() if name not in names}
        slots: list[str] = []
        if snapshots_share > 0:
            weights = np.array([probabilities[name] for name in names]) / snapshots_share
            slots = self._next_slots(actor_id, incarnation, names, weights)
            for name in slots:
                members[name] = members.get(name, 0.0) + snapshots_share / len(slots)
        return OpponentMix(
            pool_share=config.pool.share,
            members=tuple(members.items()),
            snapshots=tuple(dict.fromkeys(slots)),
            number=self._actors[actor_id].num_mixes if slots else 0,
            slots=tuple(slots),
        )

    def restore(self, state: ActorState) -> None:
        """Makes the mixes that follow the one in an actor's state.

        Slots of another number than the settings have are filled anew.
        """
        slots = state.pairing.slots
        if len(slots) == self._config.pool.networks_per_actor:
            self._actors[state.actor_id] = _ActorSlots(
                state.incarnation, state.pairing.num_mixes, list(slots)
            )

    def _next_slots(
        self,
        actor_id: int,
        incarnation: int,
        names: Sequence[str],
        probabilities: npt.NDArray[np.float64],
    ) -> list[str]:
        """Returns an actor's slots, after filling those anew that are due or whose snapshot left.

        Args:
            actor_id: the actor.
            incarnation: its incarnation; a new one starts with newly filled slots.
            names: the snapshots in the pool.
            probabilities: [len(names)] probability of each; they add up to 1.
        """
        actor = self._actors.get(actor_id)
        if actor is None or actor.incarnation != incarnation:
            actor = self._actors[actor_id] = _ActorSlots(incarnation)
        num_slots = self._config.pool.networks_per_actor
        sequence = np.random.SeedSequence(
            self._config.run.seed,
            spawn_key=(actor_id, incarnation, _ROTATION_STREAM, actor.num_mixes),
        )
        drawn = np.random.Generator(np.random.PCG64(sequence)).choice(
            len(names), size=num_slots, p=probabilities
        )
        turn, collects_since_change = divmod(actor.num_mixes, self._collects_per_change)
        for slot in range(num_slots):
            if actor.num_mixes == 0:
                actor.names.append(names[drawn[slot]])
                continue
            is_due = collects_since_change == 0 and turn % num_slots == slot
            if is_due or actor.names[slot] not in names:
                actor.names[slot] = names[drawn[slot]]
        actor.num_mixes += 1
        return actor.names
