"""The rules along one line of a tree: what a move from a node leads to.

A `Line` starts at the present position of a game. It plays the moves of a path on a board of its
own, judges the position at its end by the rules of `shogi/`, and takes the moves back. The history
that counts is that of the game and then of the path, so a repetition is seen whether its earlier
positions lie in the game, in the tree, or in both.
"""

from array import array
from collections.abc import Sequence
from typing import NamedTuple

from rsshogi.core import Move

from keisei_ray.shogi.game import Game, pack_moves
from keisei_ray.shogi.rules import Verdict, verdict_after


class Arrival(NamedTuple):
    """Position at the end of a line, from the side to move there."""

    key: int
    """Key of the position: board, hands and side to move."""
    legal: bytes
    """Legal 16-bit moves, as `Game.legal`."""
    earlier: int
    """Earlier occurrences of the position in game and path, 0..3."""
    own_checks: int
    """How many of the latest moves of the side to move gave check, without a break."""
    opponent_checks: int
    """The same for the other side."""
    verdict: Verdict | None
    """How the last move of the path ended the game; None if the game goes on."""
    mate: int
    """Index in `legal` of a move that mates at once, -1 where the solver finds none."""


class Line:
    """Judges positions that follow from the present position of one game."""

    def __init__(self, game: Game) -> None:
        """Args:
        game: copied as far as it changes; play no move in it while the line is used.
        """
        self._game = game
        self._board = game.board.copy()

    def arrive(
        self, moves: Sequence[int], keys: Sequence[int], own_checks: int, opponent_checks: int
    ) -> Arrival:
        """Plays the moves of a path, describes the position there, and takes the moves back.

        Args:
            moves: 16-bit moves, legal one after the other; at least one.
            keys: keys of the positions between them, so one fewer.
            own_checks: checks in a row of the side that plays the last move, before that move.
            opponent_checks: the same for the other side.
        """
        board, game = self._board, self._game
        played = [Move(move) for move in moves]
        for move in played:
            board.apply_move(move)
        key = board.zobrist_hash()
        legal = [move.value for move in board.legal_moves()]
        mover_checks = own_checks + 1 if board.is_in_check() else 0
        first_ply, earlier = game.occurrences(key)
        in_path = keys.count(key)
        if in_path and not earlier:
            first_ply = len(game.moves) + 1 + keys.index(key)
        earlier += in_path
        ply = len(game.moves) + len(moves)
        verdict = verdict_after(
            board,
            turn=game.turn if len(moves) % 2 == 0 else 1 - game.turn,
            has_moves=bool(legal),
            earlier=earlier,
            cycle_plies=ply - first_ply,
            mover_checks=mover_checks,
            opponent_checks=opponent_checks,
            is_last_ply=ply >= game.max_plies,
        )
        mate = -1
        if verdict is None and (found := board.solve_mate_in_one()) is not None:
            mate = legal.index(found.to_move().value)
        for move in reversed(played):
            board.undo_move(move)
        return Arrival(
            key, pack_moves(legal), earlier, opponent_checks, mover_checks, verdict, mate
        )


def mate_index(game: Game) -> int:
    """Index in `game.legal` of a move that mates at once, -1 where the solver finds none."""
    found = game.board.solve_mate_in_one()
    return -1 if found is None else array("H", game.legal).index(found.to_move().value)
