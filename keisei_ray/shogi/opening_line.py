"""A start position and moves as one line of text, in the forms of the USI protocol."""

from typing import Final

from keisei_ray.shogi.game import STANDARD_SFEN, Opening

_SHOWN_CHARACTERS: Final = 60
"""Characters of a bad line that an error message shows."""
OPENING_FORMS: Final = "'startpos moves 7g7f 3c3d', 'startpos', or 'sfen SFEN moves ...'"
"""The forms, for messages."""


def parse_opening(text: str) -> Opening:
    """Reads a line, without checking that its moves are legal.

    Raises:
        ValueError: the line has none of the formats.
    """
    words = text.split()
    if words[:1] == ["position"]:
        del words[0]
    start, moves = words, list[str]()
    if "moves" in words:
        at = words.index("moves")
        start, moves = words[:at], words[at + 1 :]
    if start == ["startpos"]:
        return Opening(STANDARD_SFEN, " ".join(moves))
    if start[:1] == ["sfen"]:
        start = start[1:]
    # The move number may be left out.
    if len(start) not in (3, 4) or start[0].count("/") != STANDARD_SFEN.count("/"):
        shown = text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}..."
        raise ValueError(f"{shown!r} is no opening. Expected {OPENING_FORMS}.")
    return Opening(" ".join([*start, "1"][:4]), " ".join(moves))
