"""Names of a run's own weights as players: `v12`, and `v12+mate1` where mates are finished."""

import re

FINISHING_SUFFIX = "+mate1"
"""Ends the name, and may end the path, of a network that plays every mate in one it has."""
_PLAYER_NAME = re.compile(rf"v(\d+)(?:{re.escape(FINISHING_SUFFIX)})?")


def player_name(version: int, *, finishing: bool) -> str:
    """What a version of the run is called in results and ratings."""
    return f"v{version}{FINISHING_SUFFIX if finishing else ''}"


def version_of(name: str) -> int | None:
    """The version that `player_name` called so; None for anybody else's name."""
    found = _PLAYER_NAME.fullmatch(name)
    return int(found[1]) if found else None
