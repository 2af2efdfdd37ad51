"""Layout of a whole frame: one pure function from the view state to a screen.

The same state and size give the same frame, in the live view and in `run.py watch`. The layout
stays the same while a run goes on: lines stay where they are and only figures change.

The strength stands first, if the run is evaluated. From 76 columns on, the board is at the right.
From 120 columns on, games and system move up between learning and the board. Below 76 columns,
everything is one column without the board.
"""

from typing import Final

from rich.console import Group
from rich.text import Text

from keisei_ray.tracking.terminal import panels
from keisei_ray.tracking.terminal.draw import pad, row, side_by_side
from keisei_ray.tracking.terminal.text import UNICODE, Glyphs
from keisei_ray.tracking.terminal.view_state import ViewState

BOARD_FROM: Final = 76
"""Width in columns from which the board is shown."""
WIDE_FROM: Final = 120
"""Width in columns from which learning and games stand side by side."""
MAX_WIDTH: Final = 150
"""Largest width of a frame in columns."""
MAX_NOTICES: Final = 4
GAP: Final = 2
"""Blank columns between blocks that stand side by side."""


def render(
    state: ViewState, width: int, height: int | None = None, glyphs: Glyphs = UNICODE
) -> Group:
    """Draws a state.

    Args:
        state: the state to show, time included.
        width: columns of the terminal.
        height: rows of the terminal; None: no limit. Fewer rows show fewer notices, and in one
            column no learning; everything else needs at least 22 rows at 80 columns.
        glyphs: characters to draw with.

    Returns:
        A renderable of lines, none longer than `width` where that is at least 3.
    """
    inner = max(1, min(width, MAX_WIDTH) - 2)
    lines = [
        *panels.header(state, inner, glyphs),
        panels.progress(state, inner, glyphs),
    ]
    lines += _body(state, inner, None if height is None else height - len(lines) - 2, glyphs)
    rows_left = MAX_NOTICES if height is None else height - len(lines) - 1
    lines += panels.notices(state, min(MAX_NOTICES, max(1, rows_left)), inner, glyphs)
    *above, last = lines
    # The cursor stands behind the last line. A terminal echoes ^C there: were it to wrap, the next
    # frame would be drawn a line lower and leave the top of this one.
    return Group(*(row(" ", pad(line, inner)) for line in above), row(" ", pad(last, inner - 1)))


def _body(state: ViewState, width: int, height: int | None, glyphs: Glyphs) -> list[Text]:
    """Returns the lines between progress and notices.

    One column leaves the learning out where it would be higher than `height`: the notices, which
    have the warnings, would not be seen.
    """
    if not state.metrics:
        return panels.starting(state, width, glyphs)
    is_brief = state.is_evaluated
    if width < BOARD_FROM - 2:
        above = panels.strength(state, width, glyphs)
        below = [*panels.games(state, width, glyphs), *panels.system(state, width, glyphs)]
        middle = panels.learning(state, width, glyphs, is_brief=is_brief)
        if height is not None and len(above) + len(middle) + len(below) > height:
            middle = []
        return [*above, *middle, *below]
    board = (panels.sample_game(state, glyphs), panels.BOARD_WIDTH)
    rest = width - panels.BOARD_WIDTH - GAP
    if width < WIDE_FROM - 2:
        left = [
            *panels.strength(state, rest, glyphs),
            *panels.learning(state, rest, glyphs, is_brief=is_brief),
            *panels.games(state, rest, glyphs),
        ]
        upper = side_by_side([(left, rest), board], GAP)
        return upper + panels.system(state, width, glyphs)
    half = (rest - GAP) // 2
    first = rest - GAP - half
    middle = [
        *panels.games(state, half, glyphs),
        Text(),
        *panels.system(state, half, glyphs),
    ]
    left = [
        *panels.strength(state, first, glyphs),
        *panels.learning(state, first, glyphs, is_brief=False),
    ]
    columns = [(left, first), (middle, half), board]
    return side_by_side(columns, GAP)
