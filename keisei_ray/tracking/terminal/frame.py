"""The one function from a state of the run to a screen.

`render` is pure: the same state and size give the same frame, whatever the number of actors
and whoever asks. It keeps its shape while a run goes on: lines stay where they are and only
figures change.

Layout, from 76 columns on the board stands at the right, above what is known of the strength;
from 120 on games, system and strength move up between learning and the board; below 76 everything
is one column without the board.
"""

from typing import Final

from rich.console import Group
from rich.text import Text

from keisei_ray.tracking.terminal import panels
from keisei_ray.tracking.terminal.draw import pad, row, side_by_side
from keisei_ray.tracking.terminal.text import UNICODE, Glyphs
from keisei_ray.tracking.terminal.view_state import ViewState

BOARD_FROM: Final = 76
"""Columns from which the board is shown."""
WIDE_FROM: Final = 120
"""Columns from which learning and games stand side by side."""
MAX_WIDTH: Final = 150
"""A frame grows no wider than this."""
MAX_NOTICES: Final = 4
GAP: Final = 2


def render(
    state: ViewState, width: int, height: int | None = None, glyphs: Glyphs = UNICODE
) -> Group:
    """Draw a state.

    Args:
        state: what to show, time included.
        width: columns of the terminal.
        height: rows of the terminal; None: as many as wanted. Fewer rows show fewer notices;
            at least 22 are needed for everything else at 80 columns.
        glyphs: characters to draw with.

    Returns:
        A renderable of lines, none longer than `width` where that is at least 3.
    """
    inner = max(1, min(width, MAX_WIDTH) - 2)
    lines = [
        *panels.header(state, inner, glyphs),
        panels.progress(state, inner, glyphs),
        *_body(state, inner, glyphs),
    ]
    room = MAX_NOTICES if height is None else height - len(lines) - 1
    lines += panels.notices(state, min(MAX_NOTICES, max(1, room)), inner, glyphs)
    return Group(*(row(" ", pad(line, inner)) for line in lines))


def _body(state: ViewState, width: int, glyphs: Glyphs) -> list[Text]:
    """Everything between progress and notices."""
    if not state.metrics:
        return panels.starting(state, width, glyphs)
    if width < BOARD_FROM - 2:
        return [
            *panels.learning(state, width, glyphs),
            *panels.games(state, width, glyphs),
            *panels.system(state, width, glyphs),
            *panels.strength(state, width, glyphs),
        ]
    board = (panels.sample_game(state, glyphs), panels.BOARD_WIDTH)
    rest = width - panels.BOARD_WIDTH - GAP
    if width < WIDE_FROM - 2:
        # There is room for one line below the board; scores are among the notices as well.
        board[0].extend(panels.strength(state, panels.BOARD_WIDTH, glyphs)[:1])
        left = [*panels.learning(state, rest, glyphs), *panels.games(state, rest, glyphs)]
        upper = side_by_side([(left, rest), board], GAP)
        return upper + panels.system(state, width, glyphs)
    half = (rest - GAP) // 2
    first = rest - GAP - half
    middle = [
        *panels.games(state, half, glyphs),
        Text(),
        *panels.system(state, half, glyphs),
        *panels.strength(state, half, glyphs),
    ]
    columns = [(panels.learning(state, first, glyphs), first), (middle, half), board]
    return side_by_side(columns, GAP)
