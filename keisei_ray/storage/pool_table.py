"""The table of the opponent pool as a checkpoint keeps it.

A table lists the members of the pool with the learner's results against each. `selfplay/pool.py`
decides which members there are and which one is played next.
"""

import json
import math
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from reprlib import repr as shortened
from typing import Any, Final

from keisei_ray.config.json_text import parse_json
from keisei_ray.errors import CheckpointError
from keisei_ray.storage.run_layout import pool_weights_name

PRIOR_GAMES = 2.0
"""Drawn games that every score starts with. A new member therefore scores 1/2, and no member ever
has probability 0 of being chosen."""
_DIGEST: Final = re.compile("[0-9a-f]{64}")


def snapshot_name(weights_version: int) -> str:
    """Returns the name of the pool's member that is a version of the weights, `v12`."""
    return f"v{weights_version}"


@dataclass(frozen=True)
class PoolMember:
    """One member of the pool and the learner's results against it; older results count less."""

    name: str
    """`greedy`, `random`, `usi:COMMAND`, or `v<weights version>`."""
    weights_version: int | None = None
    """Weights version of a snapshot; None for another member."""
    digest: str = ""
    """SHA-256 of a snapshot's packed weights; empty for another member."""
    games: float = 0.0
    """Games against the member, older ones counted less."""
    points: float = 0.0
    """Points of the learner in these games: 1 for a win, 1/2 for a draw or a truncated game."""
    games_total: int = 0
    """Games against the member, each counted once."""

    @property
    def is_snapshot(self) -> bool:
        """Whether the member is earlier weights of the run."""
        return self.weights_version is not None

    @property
    def weights_name(self) -> str:
        """Name of the file in POOL_DIR that holds a snapshot's weights."""
        return pool_weights_name(self.name, self.digest)

    @property
    def score(self) -> float:
        """Learner's score against the member, in (0, 1), including PRIOR_GAMES."""
        return (self.points + PRIOR_GAMES / 2) / (self.games + PRIOR_GAMES)


def table_json(members: Iterable[PoolMember], former: Iterable[PoolMember] = ()) -> str:
    """Returns the table as JSON, for `read_table`.

    Args:
        members: members of the pool.
        former: snapshots that have left the pool, against which games are still in play.
    """
    table = {"members": [asdict(member) for member in members]}
    if left := [asdict(member) for member in former]:
        table["former"] = left
    return json.dumps(table, indent=2)


def read_table(text: str | bytes, *, with_former: bool = False) -> list[PoolMember]:
    """Returns the members of a table that `table_json` wrote.

    Args:
        text: the table.
        with_former: whether the former members come after them.

    Raises:
        CheckpointError: the text is something else.
    """
    names = {f.name for f in fields(PoolMember)}
    try:
        table = parse_json(text)
        rows = table["members"] + (table.get("former", []) if with_former else [])
        members = [PoolMember(**row) for row in rows if set(row) == names]
    except (ValueError, LookupError, TypeError) as error:
        raise CheckpointError(f"pool: not the table of an opponent pool: {error}.") from error
    if len(members) < len(rows):
        raise CheckpointError(f"pool: expected members with exactly {', '.join(sorted(names))}.")
    for member in members:
        if not _is_member(member):
            raise CheckpointError(f"pool: {shortened(member)} is not a member of a pool.")
    if len({member.name for member in members}) < len(members):
        raise CheckpointError("pool: two members have one name.")
    return members


def _is_member(member: PoolMember) -> bool:
    """Returns whether every value of a member that was read is one that a pool can have.

    A snapshot's name and digest give the name of its file, so they must have exactly their form.
    """
    texts: list[Any] = [member.name, member.digest]
    if not all(isinstance(text, str) for text in texts):
        return False
    version = member.weights_version
    if version is None:
        is_named = not member.digest
    else:
        is_named = (
            type(version) is int
            and version >= 0
            and member.name == snapshot_name(version)
            and bool(_DIGEST.fullmatch(member.digest))
        )
    return (
        is_named
        and all(type(n) in (int, float) for n in (member.games, member.points))
        and 0 <= member.points <= member.games < math.inf
        and type(member.games_total) is int
        and member.games_total >= 0
    )
