"""A network that tests analyze with, and findings about a game made without one."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from keisei_ray.analysis.findings import Findings, MoveFindings, positions_of
from keisei_ray.analysis.source import Source
from keisei_ray.rollouts.rollout import NUM_ACTIONS
from keisei_ray.search.forest import Bytes, Floats
from keisei_ray.shogi.game import STANDARD_SFEN, Game
from keisei_ray.shogi.notation import Heading, unfinished_to_kif


def evaluate(boards: Bytes, hands: Bytes, scalars: Bytes) -> tuple[Floats, Floats, Floats]:
    """A network whose outputs depend on every byte of a position, and on nothing else."""
    rngs = [np.random.default_rng(row) for row in np.concatenate([boards, hands, scalars], 1)]
    logits = np.array([rng.normal(size=NUM_ACTIONS) for rng in rngs], np.float32)
    values = np.array([rng.uniform(-0.9, 0.9) for rng in rngs], np.float32)
    return logits, values, np.array([rng.uniform(0, 0.1) for rng in rngs], np.float32)


def game_source(moves: str, sfen: str = STANDARD_SFEN, **fields: Any) -> Source:
    """A game of these moves, with names of its players and other fields of the source."""
    played = tuple(moves.split())
    positions = tuple(positions_of(Game(sfen, max_plies=500), played))
    heading = Heading(black=fields.get("black", ""), white=fields.get("white", ""))
    kif = unfinished_to_kif(sfen, played, heading)
    return Source("game.kif", positions, played, sfen, kif, **fields)


def findings_of(
    source: Source, black_chances: Sequence[float], best: Sequence[str]
) -> list[Findings]:
    """Findings with these winning chances of Black and these lines of the best move.

    Args:
        source: the game.
        black_chances: of every position.
        best: lines from each position, space separated; empty where there is no move.
    """
    found = []
    rows = zip(source.positions, black_chances, best, strict=True)
    for ply, (position, chance, line) in enumerate(rows):
        game = position.game
        value = 2 * chance - 1 if game.turn == 0 else 1 - 2 * chance
        moves = tuple(line.split())
        move = MoveFindings(moves[0], 0.5, 7, value, 0.1, None, moves) if moves else None
        found.append(
            Findings(
                ply,
                game.board.to_sfen(),
                "black" if game.turn == 0 else "white",
                value,
                draw_prob=0.0,
                proof=None,
                over=None,
                visits=9,
                moves=(move,) if move else (),
            )
        )
    return found
