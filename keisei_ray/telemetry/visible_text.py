"""Text that came from a file or another program, made safe to show.

A terminal obeys control characters: a name with an escape sequence in it can clear the screen, set
the title or write the clipboard. Whatever was not written by this program itself goes through
`visible` before it is drawn, printed or put into a message.
"""

from typing import Final

MAX_SHOWN: Final = 200
"""Characters of a foreign text that a message shows."""


def visible(text: str) -> str:
    r"""Returns a text with every character that does not print as its escape, such as `\x1b`.

    These are control and format characters (also those that change the direction of writing), line
    ends, halves of surrogate pairs, and code points without a character.
    """
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text
    )


def shortened(text: str, most: int = MAX_SHOWN) -> str:
    """Returns the beginning of a text, made visible; the cut is marked with the length.

    Args:
        text: of any length.
        most: characters of it that are shown.
    """
    shown = visible(text[:most])
    return shown if len(text) <= most else f"{shown}... ({len(text)} characters)"
