"""Names of the run's own weights as players: `v12`, and `v12+mate1` if it finishes mates."""

import re
from typing import Final

FINISHING_SUFFIX: Final = "+mate1"
"""End of the name, and of the text, of a network that also plays every mate in one."""
_PLAYER_NAME: Final = re.compile(rf"v(\d+)(?:{re.escape(FINISHING_SUFFIX)})?")


def player_name(version: int, *, finishing: bool) -> str:
    """Returns the name of a weights version in results and ratings."""
    return f"v{version}{FINISHING_SUFFIX if finishing else ''}"


def version_of(name: str) -> int | None:
    """Returns the weights version that `player_name` gave this name; None for other players."""
    found = _PLAYER_NAME.fullmatch(name)
    return int(found[1]) if found else None


def finishes_mates(name: str) -> bool:
    """Returns whether a player's name says that it plays every mate in one."""
    return name.endswith(FINISHING_SUFFIX)
