"""Findings as JSON, in the form that docs/analyze.md describes."""

from collections.abc import Sequence
from typing import Any, Final

from keisei_ray.analysis.findings import Findings, MoveFindings
from keisei_ray.analysis.source import Source
from keisei_ray.analysis.turning_points import TurningPoint, cost_of_move

SCHEMA: Final = 1
"""Number of the form; it grows when a key changes its meaning or goes."""


def position_json(findings: Findings) -> dict[str, Any]:
    """Returns findings about a position. Values are those of the side to move."""
    return {
        "ply": findings.ply,
        "sfen": findings.sfen,
        "side_to_move": findings.color,
        "value": _rounded(findings.value),
        "win": _rounded(findings.win_prob),
        "draw": _rounded(findings.draw_prob),
        "loss": _rounded(findings.loss_prob),
        "black_chance": _rounded(findings.black_chance),
        "proof": findings.proof,
        "over": findings.over,
        "visits": findings.visits,
        "moves": [_move_json(move) for move in findings.moves],
    }


def game_json(
    source: Source, findings: Sequence[Findings], points: Sequence[TurningPoint]
) -> dict[str, Any]:
    """Returns a game: what is known of it, its positions, its turning points."""
    positions = [position_json(f) for f in findings]
    for ply, position in enumerate(positions):
        is_last = ply == len(source.moves)
        position["played"] = None if is_last else source.moves[ply]
        cost = None if is_last else _rounded(cost_of_move(findings, source.moves, ply))
        position["cost"] = cost
    return {
        "file": source.name,
        "start_sfen": source.start_sfen,
        "moves": list(source.moves),
        "black": source.black,
        "white": source.white,
        "end": source.end or None,
        "fault": source.fault or None,
        "positions": positions,
        "turning_points": [
            {
                "move": point.ply,
                "side": point.color,
                "played": point.played,
                "better": point.better[0],
                "line": list(point.better),
                "chance_before": _rounded(point.before),
                "chance_after": _rounded(point.after),
            }
            for point in points
        ],
    }


def _move_json(move: MoveFindings) -> dict[str, Any]:
    return {
        "move": move.move,
        "prob": _rounded(move.prob),
        "visits": move.visits,
        "value": None if move.value is None else _rounded(move.value),
        "draw": None if move.draw_prob is None else _rounded(move.draw_prob),
        "proof": move.proof,
        "line": list(move.line),
    }


def _rounded(value: float) -> float:
    """A number with the digits that mean something."""
    return round(value, 6) + 0.0
