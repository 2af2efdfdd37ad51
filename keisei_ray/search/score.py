"""Values as the scores that shogi programs show.

A value V in [-1, 1] is P(win) - P(loss), so the side to move scores w = (1 + V) / 2 on average, a
draw counted as half. Shogi programs show centipawns, and take them for a chance of winning by
w = 1 / (1 + exp(-cp / 600)), the constant of Ponanza that most GUIs use. Solved for cp:

    cp = 600 * ln((1 + V) / (1 - V))

V = 0.2 is 243, V = 0.5 is 659, V = 0.9 is 1767. What is proven is a mate in N plies instead: N > 0
for a win, N < 0 for a loss.
"""

import math
from typing import Final

from keisei_ray.search.forest import LOST, UNPROVEN, WON

SCALE: Final = 600.0
"""Centipawns at which the chance of winning is 1 / (1 + 1 / e) = 0.73."""
MAX_CENTIPAWNS: Final = 9_999
"""Largest score of what is not proven."""


def centipawns(value: float) -> int:
    """Score of a value in [-1, 1]; at most `MAX_CENTIPAWNS` either way."""
    if not -1 < value < 1:
        return int(math.copysign(MAX_CENTIPAWNS, value))
    score = round(SCALE * (math.log1p(value) - math.log1p(-value)))
    return max(-MAX_CENTIPAWNS, min(MAX_CENTIPAWNS, score))


def score_text(value: float, proof: int, plies: int) -> str:
    """Score as in an `info` line.

    Args:
        value: for the side to move, in [-1, 1].
        proof: for the side to move, see `search/forest.py`.
        plies: length of the line, of which a proven result is the end.
    """
    if proof == WON:
        return f"mate {max(1, plies)}"
    if proof == LOST:
        return f"mate -{max(1, plies)}"
    return f"cp {centipawns(value)}"


def chance(value: float) -> float:
    """Chance of winning, a draw counted as half."""
    return (1 + value) / 2


def less_draws(value: float, draw_prob: float, proof: int, draw_value: float) -> float:
    """P(win) - P(loss), from the value that a search found.

    Args:
        value: for the side to move at the root; what is not proven counts a draw as `draw_value`.
        draw_prob: probability of a draw.
        proof: what is proven, see `search/forest.py`.
        draw_value: see `SearchSettings`.
    """
    if proof != UNPROVEN:
        return value
    return max(-1.0, min(1.0, value - draw_value * draw_prob))
