"""The opponent pool's table as a checkpoint keeps it, and the names of its files.

A table lists the pool's members with the learner's results against each. Who is in it, and who is
played next, is decided in `selfplay/pool.py`.
"""

import json
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields

from keisei_ray.errors import CheckpointError
from keisei_ray.storage.run_layout import pool_weights_name

PRIOR_GAMES = 2.0
"""Games at half a point each that every score starts from: a new member is neither feared nor
dismissed, and no weight is ever 0."""


@dataclass(frozen=True)
class PoolMember:
    """One opponent, and the learner's results against it, older ones counted less."""

    name: str
    """`greedy`, `random`, `usi:COMMAND`, or `v<weights version>`."""
    weights_version: int | None = None
    """Of a snapshot; None for a scripted member."""
    digest: str = ""
    """SHA-256 of a snapshot's packed weights."""
    games: float = 0.0
    """Games counted, faded."""
    points: float = 0.0
    """The learner's points in these, faded likewise: a win 1, a draw or a truncated game 1/2."""
    games_total: int = 0
    """Games counted, each once, not faded."""

    @property
    def is_snapshot(self) -> bool:
        """Whether it is an earlier self."""
        return self.weights_version is not None

    @property
    def weights_name(self) -> str:
        """Name of the file in POOL_DIR that holds a snapshot's weights."""
        return pool_weights_name(self.name, self.digest)

    @property
    def score(self) -> float:
        """The learner's share of the points against it, in (0, 1), prior included."""
        return (self.points + PRIOR_GAMES / 2) / (self.games + PRIOR_GAMES)


def table_json(members: Iterable[PoolMember]) -> str:
    """The table as JSON; `read_table` reads it."""
    return json.dumps({"members": [asdict(member) for member in members]}, indent=2)


def read_table(text: str) -> list[PoolMember]:
    """The members of a `table_json`.

    Raises:
        CheckpointError: it is something else.
    """
    names = {f.name for f in fields(PoolMember)}
    try:
        rows = json.loads(text)["members"]
        members = [PoolMember(**row) for row in rows if set(row) == names]
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"pool: not the table of an opponent pool: {error}.") from error
    if len(members) < len(rows):
        raise CheckpointError(f"pool: expected members with exactly {', '.join(sorted(names))}.")
    for member in members:
        version = member.weights_version
        if not (
            isinstance(member.name, str)
            and isinstance(member.digest, str)
            and (version is None or (type(version) is int and version >= 0))
            and all(type(n) in (int, float) for n in (member.games, member.points))
            and 0 <= member.points <= member.games < math.inf
            and type(member.games_total) is int
            and member.games_total >= 0
        ):
            raise CheckpointError(f"pool: {member} is no member, expected counts >= 0.")
    return members
