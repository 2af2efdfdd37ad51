"""The opponent pool: who is in it, how the learner fares against each, who is played next.

The pool belongs to the driver. Members are scripted players, which stay, and snapshots of the
learner's own weights, which come by the timestep and go when there are too many. Here are names,
results and probabilities only; the snapshots' weights are kept by `distributed/pool_handle.py`.

Prioritized fictitious self-play: an opponent is drawn with a probability that grows with how badly
the learner does against it. Source: Vinyals et al. 2019, "Grandmaster level in StarCraft II using
multi-agent reinforcement learning", methods, where f_hard(x) = (1 - x)^p and f_var(x) = x (1 - x).
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from keisei_ray.config.schema import Config
from keisei_ray.config.sections import PoolConfig
from keisei_ray.rollouts.finished_game import FinishedGame
from keisei_ray.storage.pool_table import PoolMember, read_table, table_json

HALF_LIFE_GAMES = 500
"""Games of the pool, against whomever, after which a result counts half. The learner changes, so
old results say little; and a member that is not played drifts back to the prior, so that it is
tried again."""
_OFFER_STREAM = 3
"""Spawn key of the draws made here; 0 to 2 are the actor's own (`selfplay/self_play.py`)."""


@dataclass(frozen=True)
class Offer:
    """Whom an actor's new games may be played against, until the next offer."""

    share: float = 0.0
    """Share of new games that are played against a member."""
    members: tuple[tuple[str, float], ...] = ()
    """Names, each once, and probabilities that add up to 1."""
    networks: tuple[str, ...] = ()
    """Those of the names whose weights come along, in their order."""


SELF_PLAY = Offer()
"""Nobody but the learner itself."""


class Pool:
    """The table of members. Changed by the driver alone, from games that are consumed."""

    def __init__(self, config: PoolConfig) -> None:
        self._config = config
        self._members = {name: PoolMember(name) for name in config.members}

    @property
    def members(self) -> tuple[PoolMember, ...]:
        """Everybody: scripted members as configured, then snapshots by age, oldest first."""
        return tuple(self._members.values())

    @property
    def snapshots(self) -> tuple[PoolMember, ...]:
        """The earlier selves, oldest first."""
        return tuple(member for member in self.members if member.is_snapshot)

    def count(self, games: Iterable[FinishedGame]) -> None:
        """Counts the results of consumed games, in their order; those of self-play change nothing.

        Against a member that has left meanwhile a result only lets the others fade.
        """
        keep = 0.5 ** (1 / HALF_LIFE_GAMES)
        for game in games:
            score = game.learner_score
            if score is None:
                continue
            for name, member in self._members.items():
                is_opponent = name == game.opponent
                self._members[name] = replace(
                    member,
                    games=member.games * keep + is_opponent,
                    points=member.points * keep + is_opponent * score,
                    games_total=member.games_total + is_opponent,
                )

    def add_snapshot(self, weights_version: int, digest: str) -> PoolMember | None:
        """The newest weights join.

        If there are `max_snapshots`, the one that the learner has the highest score against goes
        first, the oldest of equals. So the newest one always finds a place, and what stays are
        the selves that still have something to teach.

        Returns:
            The snapshot that left, or None.
        """
        gone = None
        if len(self.snapshots) >= self._config.max_snapshots:
            gone = max(self.snapshots, key=lambda member: member.score)
            self.remove(gone.name)
        name = f"v{weights_version}"
        self._members[name] = PoolMember(name, weights_version, digest)
        return gone

    def remove(self, name: str) -> None:
        """Takes a member out; its games in play end as they end."""
        del self._members[name]

    def probabilities(self) -> dict[str, float]:
        """Name -> probability of being the opponent in a game of the pool; empty if nobody is in.

            weight = (1 - x)^p          pool.pfsp = hard
            weight = (x (1 - x))^p      pool.pfsp = even

        with x the score and p `pool.pfsp_power`. Probabilities are proportional to the weights,
        over all members; with `pool.scripted_share` = s, and both kinds there, within the scripted
        members for s of the games and within the snapshots for the rest.
        """
        config = self._config
        weights = {}
        for member in self.members:
            x = member.score
            base = 1 - x if config.pfsp == "hard" else x * (1 - x)
            weights[member.name] = base**config.pfsp_power
        kinds = [[m.name for m in self.members if m.is_snapshot is kind] for kind in (False, True)]
        shares = [sum(weights[name] for name in names) for names in kinds]
        if config.scripted_share is not None and all(kinds):
            fixed = [config.scripted_share, 1 - config.scripted_share]
            for names, share, total in zip(kinds, fixed, shares, strict=True):
                weights |= {name: weights[name] * share / total for name in names}
        total = sum(weights.values())
        return {name: weight / total for name, weight in weights.items()}

    def to_json(self) -> str:
        """The table as JSON; `restore` reads it."""
        return table_json(self.members)

    def restore(self, text: str) -> None:
        """Goes on from what `to_json` wrote.

        Scripted members are those of the configuration, with the results they had; snapshots
        beyond `max_snapshots` leave by the usual rule.

        Raises:
            CheckpointError: not a pool's table.
        """
        for member in read_table(text):
            if member.is_snapshot or member.name in self._members:
                self._members[member.name] = member
        while len(self.snapshots) > self._config.max_snapshots:
            self.remove(max(self.snapshots, key=lambda member: member.score).name)


class Offers:
    """What each actor is offered: every scripted member, and a few places for snapshots.

    An actor has `pool.networks_per_actor` places. Each place is drawn on its own with the
    snapshots' probabilities, so a snapshot may have two; a place takes its equal part of the games
    that go to snapshots. One place, in turn, is drawn anew whenever its actor has played
    `max_plies` plies since the last: by then all games against the one that had to go before have
    ended, so an actor is rarely short of room for more than one place. A place whose snapshot has
    left the pool is drawn anew at once.
    """

    def __init__(self, config: Config, pool: Pool) -> None:
        self._config = config
        self._pool = pool
        play = config.self_play
        self._collects_per_turn = math.ceil(play.max_plies / play.rollout_length)
        self._places: dict[int, tuple[int, int, list[str]]] = {}
        """Actor id -> incarnation, offers made to it, names in its places."""

    def make(self, actor_id: int, incarnation: int) -> Offer:
        """The next offer to an actor; a function of the table, the run's seed and the number of
        offers made to this incarnation before."""
        config = self._config
        probabilities = self._pool.probabilities()
        if config.pool.share == 0 or not probabilities:
            return SELF_PLAY
        snapshots = [member.name for member in self._pool.snapshots]
        share_of_snapshots = sum(probabilities[name] for name in snapshots)
        members = {name: p for name, p in probabilities.items() if name not in snapshots}
        places: list[str] = []
        if snapshots:
            weights = np.array([probabilities[name] for name in snapshots]) / share_of_snapshots
            places = self._draw(actor_id, incarnation, snapshots, weights)
            for name in places:
                members[name] = members.get(name, 0.0) + share_of_snapshots / len(places)
        return Offer(config.pool.share, tuple(members.items()), tuple(dict.fromkeys(places)))

    def _draw(
        self, actor_id: int, incarnation: int, snapshots: list[str], weights: np.ndarray[Any, Any]
    ) -> list[str]:
        """An actor's places, those redrawn whose turn it is or whose snapshot is gone."""
        number = self._config.pool.networks_per_actor
        known, made, places = self._places.get(actor_id, (incarnation, 0, []))
        if known != incarnation:
            made, places = 0, []
        sequence = np.random.SeedSequence(
            self._config.run.seed, spawn_key=(actor_id, incarnation, _OFFER_STREAM, made)
        )
        drawn = np.random.Generator(np.random.PCG64(sequence)).choice(
            len(snapshots), size=number, p=weights
        )
        turn, rest = divmod(made, self._collects_per_turn)
        for place in range(number):
            if made == 0:
                places.append(snapshots[drawn[place]])
            elif places[place] not in snapshots or (rest == 0 and turn % number == place):
                places[place] = snapshots[drawn[place]]
        self._places[actor_id] = (incarnation, made + 1, places)
        return places
