"""Moves at which a game turned: those that cost the side that played them most.

A move costs what the mover's winning chance (its probability to win, a draw counting half) is
lower after it than before it, by the findings about the two positions. A move that was the best
by the findings about the position before it costs nothing: what it lost was not to be seen there.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from keisei_ray.analysis.findings import Findings
from keisei_ray.rollouts.finished_game import Color

MOST: Final = 5
"""Largest number of turning points of a game."""
LEAST_LOSS: Final = 0.1
"""Winning chance that a move must cost to be one."""


@dataclass(frozen=True)
class TurningPoint:
    """A move that lost much."""

    ply: int
    """Number of the move, from 1."""
    color: Color
    """The side that played it."""
    played: str
    """The move in USI notation."""
    better: tuple[str, ...]
    """The better move and what was expected after it, in USI notation."""
    before: float
    """Winning chance of that side before the move, in [0, 1]."""
    after: float
    """The same after it."""

    @property
    def loss(self) -> float:
        """Winning chance that the move cost."""
        return self.before - self.after


def turning_points(
    findings: Sequence[Findings],
    played: Sequence[str],
    *,
    first_ply: int = 0,
    most: int = MOST,
    least_loss: float = LEAST_LOSS,
) -> list[TurningPoint]:
    """Returns the moves that cost most, the costliest first, equal ones in order of the game.

    Args:
        findings: about every position of a game, one more than moves.
        played: moves of the game in USI notation.
        first_ply: moves at the start that no player chose, which are left out.
        most: largest number of turning points.
        least_loss: winning chance that each must cost.
    """
    costs = [
        (cost, -ply)
        for ply in range(first_ply, len(played))
        if (cost := cost_of_move(findings, played, ply)) >= least_loss
    ]
    costs.sort(reverse=True)
    return [_turning_point(findings, played, -minus_ply) for _, minus_ply in costs[:most]]


def cost_of_move(findings: Sequence[Findings], played: Sequence[str], ply: int) -> float:
    """Returns the winning chance that a move cost its side; 0 for the best move, never less.

    Args:
        findings: about the positions before and after it, at least.
        played: moves of the game in USI notation.
        ply: moves played before it.
    """
    here = findings[ply]
    if not here.moves or here.moves[0].move == played[ply]:
        return 0.0
    return max(0.0, _chance(here, here.color) - _chance(findings[ply + 1], here.color))


def _turning_point(findings: Sequence[Findings], played: Sequence[str], ply: int) -> TurningPoint:
    here = findings[ply]
    return TurningPoint(
        ply=ply + 1,
        color=here.color,
        played=played[ply],
        better=here.moves[0].line,
        before=_chance(here, here.color),
        after=_chance(findings[ply + 1], here.color),
    )


def _chance(findings: Findings, color: Color) -> float:
    """Winning chance of one side."""
    return findings.black_chance if color == "black" else 1 - findings.black_chance
