"""How long to think about a move: a pure function of the clocks.

    limit    when the answer must have been sent: what the rules of the clock allow, less a margin
             for everything between this process and the clock
    target   when the search ends, if nothing speaks for less: never after the limit

With time on the clock the target is a share of it, so that it lasts; in byoyomi the target is the
limit, since what is left of a byoyomi is lost.
"""

from dataclasses import dataclass
from typing import Final

from keisei_ray.usi.protocol import Limits

DEFAULT_SIMULATIONS: Final = 800
"""Simulations of a `go` that names no limit at all."""
MOVES_TO_GO: Final = 30
"""Own moves for which the time on the clock is to last, in the opening; fewer later."""
LEAST_MOVES_TO_GO: Final = 12
"""The same when a game has lasted for long."""
PATIENCE_S: Final = 0.05
"""Seconds in which a move is looked for where the clock has no time left at all."""
MOST_OF_CLOCK: Final = 0.25
"""Share of the time on the clock that one move may take at most."""
_MS = 1000.0


@dataclass(frozen=True)
class Budget:
    """Effort for one move. Seconds count from the `go`, or from the `ponderhit`."""

    target_s: float | None
    """Seconds after which the search ends; None: no matter how long it takes."""
    limit_s: float | None
    """Seconds in which the answer must have been sent; None: there is no clock."""
    simulations: int | None
    """Visits of the root at which the search ends, or positions that a search for a mate looks at;
    None: no such limit."""
    saves_time: bool = False
    """Whether time that is not used is kept for later moves."""


def budget(limits: Limits, *, turn: int, ply: int, margin_ms: int, simulations: int) -> Budget:
    """Effort for a move.

    Args:
        limits: what `go` says.
        turn: the side to move, 0 black, 1 white.
        ply: plies played so far.
        margin_ms: time kept for the way to the clock. Of a move's time half at most: with less than
            twice the margin for a move, the margin is what gives way.
        simulations: the option of that name; 0: no limit.
    """
    most = [n for n in (limits.nodes, simulations or None) if n is not None]
    visits = max(1, min(most)) if most else None
    if limits.mate is not None:
        return _timed(limits.mate, margin_ms, limits.nodes and max(1, limits.nodes))
    if limits.infinite:
        return Budget(None, None, limits.nodes and max(1, limits.nodes))
    if limits.movetime is not None:
        return _timed(limits.movetime, margin_ms, visits)
    clock = (limits.btime, limits.wtime)[turn]
    increment = (limits.binc, limits.winc)[turn] or 0
    byoyomi = limits.byoyomi or 0
    if clock is None and not (byoyomi or increment):
        return Budget(None, None, visits or DEFAULT_SIMULATIONS)
    clock = clock or 0
    if not clock:
        # Some clients send the increment with the clock, some beside it.
        return _timed(byoyomi or increment, margin_ms, visits)
    limit_ms = _less_margin(clock + byoyomi, margin_ms)
    moves_to_go = max(LEAST_MOVES_TO_GO, MOVES_TO_GO - ply // 8)
    share = clock / moves_to_go + 0.8 * increment
    target_ms = min(limit_ms, byoyomi + min(share, MOST_OF_CLOCK * clock))
    return Budget(target_ms / _MS, limit_ms / _MS, visits, saves_time=True)


def patience_s(limit_s: float, margin_ms: int) -> float:
    """Seconds that an answer may come after its limit where no move is known but the legal ones.

    Half of what has been kept of its time, so that a short time is enough for the policy's move.

    Args:
        limit_s: limit of the budget.
        margin_ms: the option TimeMargin.
    """
    return min(margin_ms / _MS, limit_s) / 2 if limit_s else PATIENCE_S


def _timed(milliseconds: int, margin_ms: int, visits: int | None) -> Budget:
    """Effort where this time is for this move alone."""
    limit = _less_margin(milliseconds, margin_ms) / _MS
    return Budget(limit, limit, visits)


def _less_margin(milliseconds: int, margin_ms: int) -> float:
    return milliseconds - min(margin_ms, milliseconds / 2)
