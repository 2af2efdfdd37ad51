"""The opponent pool: its members, the learner's results against each, and how often each is chosen.

The pool belongs to the driver. Members are scripted players, which stay, and snapshots of the
learner's own weights, which are added every so many timesteps and removed when there are too many.
This module knows names, results and probabilities only; `distributed/pool_handle.py` keeps the
snapshots' weights.

Prioritized fictitious self-play: the worse the learner does against a member, the more often that
member is chosen. Source: Vinyals et al. 2019, "Grandmaster level in StarCraft II using
multi-agent reinforcement learning", methods, where f_hard(x) = (1 - x)^p and f_var(x) = x (1 - x).
"""

from collections.abc import Iterable
from dataclasses import replace

from keisei_ray.config.sections import PoolConfig
from keisei_ray.rollouts.finished_game import FinishedGame
from keisei_ray.storage.pool_table import PoolMember, read_table, snapshot_name, table_json

HALF_LIFE_GAMES = 500
"""Games against the pool, whichever the member, after which a result counts half.

The learner changes, so old results say little. The score of a member that is not played drifts back
to the prior, so that the member is tried again."""


class Pool:
    """The table of members and of the learner's results against each.

    Only the driver changes it, with the games of rollouts that the learner has consumed.
    """

    def __init__(self, config: PoolConfig) -> None:
        """A pool of the scripted members in `config`, without results and snapshots."""
        self._config = config
        self._members = {name: PoolMember(name) for name in config.members}
        self._benched: set[str] = set()

    @property
    def members(self) -> tuple[PoolMember, ...]:
        """All members: the scripted ones in the order configured, then snapshots, oldest first."""
        return tuple(self._members.values())

    @property
    def snapshots(self) -> tuple[PoolMember, ...]:
        """The members that are earlier weights of the learner, oldest first."""
        return tuple(member for member in self.members if member.is_snapshot)

    def count(self, games: Iterable[FinishedGame]) -> None:
        """Counts the results of consumed games, in their order. Games of self-play are ignored.

            games  <- keep * games  + 1        points <- keep * points + score     for the opponent
            games  <- keep * games             points <- keep * points             for the others

        with keep = 0.5^(1 / HALF_LIFE_GAMES). A result against a member that has left the pool in
        the meantime only makes the others fade.
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
        """Adds the newest weights as a snapshot.

        A full pool first loses the snapshot against which the learner scores highest, the oldest
        of equals. So the newest weights always enter, and the opponents that are still hard stay.

        Args:
            weights_version: updates behind the weights.
            digest: SHA-256 of the packed weights.

        Returns:
            The snapshot that was removed, or None.
        """
        removed = None
        if len(self.snapshots) >= self._config.max_snapshots:
            removed = self._easiest_snapshot()
            self.remove(removed.name)
        name = snapshot_name(weights_version)
        self._members[name] = PoolMember(name, weights_version, digest)
        return removed

    def remove(self, name: str) -> None:
        """Removes a member. Games in play against it are played to their end."""
        del self._members[name]

    def bench(self, name: str) -> bool:
        """Gives a scripted member no games any more, as long as this object lives.

        It stays in the table with its results, and a resumed run tries it again.

        Returns:
            Whether it was not benched before.
        """
        is_new = name not in self._benched
        self._benched.add(name)
        return is_new

    def probabilities(self) -> dict[str, float]:
        """Name -> probability of being chosen for a game against the pool; empty without members.

        A benched member counts as none.

            weight = (1 - x)^p          pool.pfsp = hard
            weight = (x (1 - x))^p      pool.pfsp = even

        with x the learner's score against the member and p `pool.pfsp_power`. Probabilities are
        proportional to the weights. Where `pool.scripted_share` is set to s and the pool has
        members of both kinds, the scripted members together get s and the snapshots 1 - s.
        """
        config = self._config
        members = [member for member in self.members if member.name not in self._benched]
        weights = {}
        for member in members:
            x = member.score
            base = 1 - x if config.pfsp == "hard" else x * (1 - x)
            weights[member.name] = base**config.pfsp_power
        kinds = [[m.name for m in members if m.is_snapshot is kind] for kind in (False, True)]
        shares = [sum(weights[name] for name in names) for names in kinds]
        if config.scripted_share is not None and all(kinds):
            fixed = [config.scripted_share, 1 - config.scripted_share]
            for names, share, total in zip(kinds, fixed, shares, strict=True):
                weights |= {name: weights[name] * share / total for name in names}
        total = sum(weights.values())
        return {name: weight / total for name, weight in weights.items()}

    def to_json(self) -> str:
        """Returns the table as JSON; `restore` reads it."""
        return table_json(self.members)

    def restore(self, text: str | bytes) -> None:
        """Loads a table that `to_json` wrote.

        Scripted members are those of the configuration, with the results in the table. Snapshots
        beyond `max_snapshots` are removed by the rule of `add_snapshot`.

        Raises:
            CheckpointError: the text is not a pool's table.
        """
        for member in read_table(text):
            if member.is_snapshot or member.name in self._members:
                self._members[member.name] = member
        while len(self.snapshots) > self._config.max_snapshots:
            self.remove(self._easiest_snapshot().name)

    def _easiest_snapshot(self) -> PoolMember:
        """The snapshot against which the learner scores highest, the oldest of equals."""
        return max(self.snapshots, key=lambda member: member.score)
