"""Parts that a frame is built from: lines of a known width, titles, bars, trends.

All functions are pure and return `rich` Text. Colors only repeat what the characters say already,
so a frame can be read without them.
"""

import re
from collections.abc import Sequence
from typing import Final, TypeAlias

from rich.cells import cell_len
from rich.text import Text

from keisei_ray.telemetry.visible_text import visible
from keisei_ray.tracking.terminal import text
from keisei_ray.tracking.terminal.text import Glyphs

Part: TypeAlias = str | tuple[str, str] | Text
"""Characters, with or without a style."""

ACCENT: Final = "bold cyan"
DIM: Final = "dim"
STRONG: Final = "bold"
TREND: Final = "cyan"
LABEL: Final = 14
"""Width of a row's label."""
VALUE: Final = 10
"""Width of a row's figure."""
MAX_TREND: Final = 40
"""Largest width of a sparkline or bar beside a figure."""


def row(*parts: Part) -> Text:
    """Returns one line made of its parts, each made visible: none can break or leave the line."""
    return Text.assemble(*map(_visible, parts), no_wrap=True, overflow="crop")


def _visible(part: Part) -> Part:
    if isinstance(part, Text):
        return part
    return visible(part) if isinstance(part, str) else (visible(part[0]), part[1])


def labeled(label: str, *parts: Part) -> Text:
    """Returns a row with its label in the label column."""
    return row((f"{label:<{LABEL}}", DIM), *parts)


def wrapped(line: Text, width: int, indent: int) -> Text:
    """Returns a line broken at blanks into lines of `width` cells; those that follow are indented.

    A word that is longer, such as a path, stays whole, so that it can be copied.
    """
    starts, begin, room = [], 0, width
    for word in re.finditer(r"\S+", line.plain):
        if word.start() > indent and cell_len(line.plain[begin : word.end()]) > room:
            begin, room = word.start(), width - indent
            starts.append(begin)
    pieces = line.divide(starts)
    for piece in pieces:
        piece.rstrip()
    return Text("\n" + " " * indent).join(pieces)


def pad(line: Text, width: int) -> Text:
    """Returns `line` cut or filled to exactly `width` cells."""
    line = line.copy()
    line.truncate(max(0, width), pad=True)
    return line


def spread(left: Text, right: Text, width: int) -> Text:
    """Returns a line with `left` and `right` at its ends; `left` is cut where they do not fit."""
    return row(pad(left, width - right.cell_len - 1), " ", right)


def side_by_side(columns: Sequence[tuple[Sequence[Text], int]], gap: int) -> list[Text]:
    """Returns blocks of lines as columns of fixed widths; short blocks end in blank lines."""
    lines = []
    for i in range(max(len(block) for block, _ in columns)):
        parts: list[Part] = []
        for block, width in columns:
            parts += [pad(block[i] if i < len(block) else Text(), width), " " * gap]
        lines.append(row(*parts[:-1]))
    return lines


def title(name: str, width: int, glyphs: Glyphs, note: str = "") -> Text:
    """Returns a section's heading, a short note, and a rule to the right edge."""
    note = text.clip(f"  {note}", max(0, width - len(name)), glyphs.ellipsis) if note else ""
    rest = max(0, width - cell_len(name) - cell_len(note) - 1)
    return row((name, ACCENT), (note, DIM), (" " + glyphs.rule * rest, DIM))


def trend(label: str, value: str, points: Sequence[float], width: int, glyphs: Glyphs) -> Text:
    """Returns a figure and its sparkline."""
    length = min(MAX_TREND, max(0, width - LABEL - VALUE - 2))
    line = text.sparkline(points, length, glyphs.ramp)
    return labeled(label, (f"{value:>{VALUE}}", STRONG), "  ", (line, TREND))


def stacked(parts: Sequence[float], styles: Sequence[str], width: int, glyphs: Glyphs) -> Text:
    """Returns a bar of up to four parts, which differ in shade and in color."""
    lengths = text.bar_lengths(parts, width)
    pieces = zip(glyphs.shades, lengths, styles, strict=False)
    return row(*((shade * length, style) for shade, length, style in pieces))


def meter(done: float, whole: float, width: int, glyphs: Glyphs) -> Text:
    """Returns a progress bar of exactly `width` cells; it is full only when all is done."""
    filled = max(0, min(width, int(width * done / whole))) if whole > 0 else 0
    return row((glyphs.done * filled, "green"), (glyphs.rest * (width - filled), DIM))
