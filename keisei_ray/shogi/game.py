"""One game in play, and how a game starts.

A `Game` holds what the rules must remember from ply to ply: the legal moves, how often each
position has occurred, and how long each side has been giving check. `Game.play` plays one move and
tells whether, and by which rule, the game has ended. Positions in arrays are not kept here:
`vector_games.py` keeps them for N games at once.

Moves are 16-bit integers (`actions.py`), packed as soon as the rules library has made them. By the
time that all lanes' moves are gathered its move objects would no longer be in the cache; keeping
them made `VectorGames` a third slower.
"""

import struct
from array import array
from collections.abc import Iterable, Sequence
from copy import copy
from typing import NamedTuple

import numpy as np
from rsshogi.core import Board, Move

from keisei_ray.shogi.observation import MAX_COUNT, Observation, observe
from keisei_ray.shogi.rules import COLORS, Verdict, can_declare, verdict_after

STANDARD_SFEN = "lnsgkgsnl/1r5b1/ppppppppp/9/9/9/PPPPPPPPP/1B5R1/LNSGKGSNL b - 1"
"""Standard start position."""
NO_PLY_CAP = 1 << 30
"""Ply cap of a game that is never truncated."""
MAX_START_PLY = 10_000
"""Largest move number of a start position. The rules library counts plies up to 65,535."""

_PIECES = ("pawn", "lance", "knight", "silver", "bishop", "rook", "gold", "king")
"""Pieces in the order of the rules library, whose messages have their numbers."""
_MAX_LEGAL_MOVES = 593
"""Largest number of legal moves that any position has."""
_PACK = tuple(struct.Struct(f"{n}H").pack for n in range(_MAX_LEGAL_MOVES + 1))
"""[n] packs n 16-bit integers into bytes, three times faster than numpy reads a list of them."""


def pack_moves(values: Sequence[int]) -> bytes:
    """Packs 16-bit moves as `Game.legal`."""
    return _PACK[len(values)](*values)


def usi_text(move: int) -> str:
    """A 16-bit move in USI notation."""
    return Move(move).to_usi()


class Opening(NamedTuple):
    """A start position and the plies played from it before any player is asked for a move."""

    sfen: str
    """Start position; one that `check_start` accepts."""
    moves: str = ""
    """Plies from there in USI notation, space separated."""


class Game:
    """One game in play.

    Attributes:
        index: number of the game, in order of starting.
        sfen: the start position, before the opening.
        board: the present position; read only, moves are played by `play`.
        legal: the legal 16-bit moves of the side to move as bytes, in native byte order and in
            the order of `board.legal_moves()`. Empty only after mate.
        moves: every ply from the start, opening included, as 16-bit moves.
        opening_plies: plies at the start that no player chose.
        turn: the side to move, 0 black, 1 white.
        earlier: earlier occurrences of the present position in this game, 0..3.
        own_checks: how many of the latest moves of the side to move gave check, without a break.
        opponent_checks: the same for the other side; > 0 exactly if the side to move is in check.
        max_plies: plies after which the game is truncated, opening included.
    """

    __slots__ = (
        "_seen",
        "board",
        "earlier",
        "index",
        "legal",
        "max_plies",
        "moves",
        "opening_plies",
        "opponent_checks",
        "own_checks",
        "sfen",
        "turn",
    )

    def __init__(self, sfen: str, *, max_plies: int, index: int = 0) -> None:
        """Sets up a game before its first ply.

        Args:
            sfen: start position; one that `check_start` accepts.
            max_plies: plies after which the game is truncated, opening included.
            index: number of the game.
        """
        self.board = Board(sfen)
        self.sfen = sfen
        self.index = index
        self.legal = b"".join(_PACK[1](move.value) for move in self.board.legal_moves())
        self.moves = array("H")
        self.opening_plies = 0
        self.turn = 0 if self.board.turn.is_black() else 1
        self.earlier = 0
        self.own_checks = 0
        self.opponent_checks = 1 if self.board.is_in_check() else 0
        self.max_plies = max_plies
        # Position key (board, hands, side to move) -> ply of its first occurrence * 4 + number of
        # recurrences. One lookup a ply answers all that the repetition rule asks.
        self._seen = {self.board.zobrist_hash(): 0}

    def play(self, value: int) -> Verdict | None:
        """Plays a 16-bit move and tells whether it ended the game.

        Returns:
            How the ply ended the game, or None if the game continues. After an end the
            attributes describe the final position.

        Raises:
            ValueError: the move is not legal. Nothing has changed.
        """
        board = self.board
        board.apply_move(Move(value))
        moves = self.moves
        moves.append(value)
        legal = [move.value for move in board.legal_moves()]
        self.legal = pack_moves(legal)
        mover_checks = self.own_checks + 1 if board.is_in_check() else 0
        self.own_checks = self.opponent_checks
        self.opponent_checks = mover_checks
        turn = self.turn = 1 - self.turn
        key = board.zobrist_hash()
        seen = self._seen.get(key)
        if seen is None:
            self._seen[key] = len(moves) << 2
            earlier = self.earlier = 0
        else:
            self._seen[key] = seen + 1
            earlier = self.earlier = (seen & 3) + 1

        return verdict_after(
            board,
            turn=turn,
            has_moves=bool(legal),
            earlier=earlier,
            cycle_plies=len(moves) - (self._seen[key] >> 2),
            mover_checks=mover_checks,
            opponent_checks=self.own_checks,
            is_last_ply=len(moves) >= self.max_plies,
        )

    def find_move(self, usi: str) -> int | None:
        """Index of a move among the legal ones, None if it is not legal.

        Args:
            usi: the move in USI notation.

        Raises:
            ValueError: the text is not a move in USI notation.
        """
        value = Move.from_usi(usi).value
        legal = array("H", self.legal)
        return legal.index(value) if value in legal else None

    def copy(self) -> "Game":
        """Returns a game at the same position with the same history; each goes on by itself."""
        other = copy(self)
        other.board, other.moves, other._seen = self.board.copy(), self.moves[:], self._seen.copy()
        return other

    def occurrences(self, key: int) -> tuple[int, int]:
        """Returns when a position first occurred in the game, in plies, and how often.

        Args:
            key: `board.zobrist_hash()` of the position.
        """
        seen = self._seen.get(key)
        return (0, 0) if seen is None else (seen >> 2, (seen & 3) + 1)

    def occurrences_after(self, value: int) -> int:
        """Returns how often the position after a legal move has occurred in the game.

        Args:
            value: 16-bit move; it is taken back.
        """
        move = Move(value)
        self.board.apply_move(move)
        key = self.board.zobrist_hash()
        self.board.undo_move(move)
        return self.occurrences(key)[1]

    def observe(self) -> Observation:
        """Returns the present position from the side to move."""
        return observe(
            self.board,
            earlier=self.earlier,
            own_checks=self.own_checks,
            opponent_checks=self.opponent_checks,
        )

    def scalars(self) -> bytes:
        """Returns the three bytes of `Observation.scalars`."""
        own, opponent = self.own_checks, self.opponent_checks
        if own > MAX_COUNT or opponent > MAX_COUNT:
            own, opponent = min(own, MAX_COUNT), min(opponent, MAX_COUNT)
        return bytes((self.earlier, own, opponent))

    def moves_usi(self) -> str:
        """Returns every ply from the start in USI notation, space separated."""
        return " ".join(map(usi_text, self.moves))


def open_game(
    sfen: str,
    rng: np.random.Generator,
    *,
    random_opening_plies: int,
    max_plies: int,
    index: int = 0,
) -> Game:
    """Starts a game and plays a random opening.

    The number of plies is uniform over 0..`random_opening_plies`, and each ply is uniform over the
    legal moves. An opening that ends the game is drawn again.

    Args:
        sfen: start position; one that `check_start` accepts.
        rng: the only source of chance; advanced.
        random_opening_plies: longest opening; less than `max_plies`.
        max_plies: plies after which the game is truncated, opening included.
        index: number of the game.
    """
    while True:
        game = Game(sfen, max_plies=max_plies, index=index)
        if random_opening_plies == 0:
            return game
        game.opening_plies = int(rng.integers(random_opening_plies + 1))
        plies = (_play_random(game, rng) for _ in range(game.opening_plies))
        if all(verdict is None for verdict in plies):
            return game


def _play_random(game: Game, rng: np.random.Generator) -> Verdict | None:
    """Plays one ply, uniform over the legal moves."""
    values = array("H", game.legal)
    return game.play(values[int(rng.integers(len(values)))])


def play_opening(opening: Opening, *, max_plies: int, index: int = 0) -> Game:
    """Starts a game and plays a given opening.

    Args:
        opening: start position and plies.
        max_plies: plies after which the game is truncated, opening included.
        index: number of the game.

    Raises:
        ValueError: a move is illegal, or the opening ends the game.
    """
    game = Game(opening.sfen, max_plies=max_plies, index=index)
    verdict = None
    for usi in opening.moves.split():
        if verdict is not None:
            raise ValueError(
                f"move {brief(usi)!r} (ply {len(game.moves) + 1}) comes after the end of the game: "
                f"{verdict.reason}. Expected moves of a game that goes on."
            )
        legal = {move.to_usi(): move.value for move in game.board.legal_moves()}
        if usi not in legal:
            raise ValueError(
                f"move {brief(usi)!r} (ply {len(game.moves) + 1}) cannot be played in "
                f"'{game.board.to_sfen()}'. Expected a legal move."
            )
        verdict = game.play(legal[usi])
    if verdict is not None:
        raise ValueError(
            f"these moves end the game: {verdict.reason} at ply {len(game.moves)}. Expected a "
            "game still to be played."
        )
    game.opening_plies = len(game.moves)
    return game


def replayed_game(
    sfen: str, moves: Iterable[int], *, opening_plies: int, max_plies: int, index: int
) -> Game:
    """Brings a game to where it was, with all that the rules must remember.

    Args:
        sfen: start position.
        moves: every 16-bit move, opening included.
        opening_plies: plies at the start that no player chose.
        max_plies: plies after which the game is truncated, opening included.
        index: number of the game.

    Raises:
        ValueError: no game can be played from the start position, a move is illegal, or the game
            has ended.
    """
    check_start(sfen)
    game = Game(sfen, max_plies=max_plies, index=index)
    for value in moves:
        if value not in array("H", game.legal):
            raise ValueError(f"move {value} (ply {len(game.moves) + 1}) is not legal.")
        verdict = game.play(value)
        if verdict is not None:
            raise ValueError(f"the game has ended: {verdict.reason} at ply {len(game.moves)}.")
    game.opening_plies = opening_plies
    return game


def check_start(sfen: str) -> None:
    """Refuses a start position from which no game can be played.

    Raises:
        ValueError: as `check_position`, or the game is already over.
    """
    board = check_position(sfen)
    fault = ""
    if not board.legal_moves():
        fault = "the side to move is mated"
    elif can_declare(board, 0 if board.turn.is_black() else 1):
        fault = "the side to move has won by declaration"
    if fault:
        raise _bad_start(sfen, f"{fault}. Expected a game still to be played.")


def check_position(sfen: str) -> Board:
    """Refuses a position that cannot occur or comes too late; the game may be over in it.

    Raises:
        ValueError: the text is not an SFEN, or the position is impossible (a king or pieces missing
            or too many, the side to move could take the king), or its move number is above
            `MAX_START_PLY`.
    """
    try:
        board = Board(sfen)
    except ValueError as error:
        raise ValueError(
            f"start position '{brief(sfen)}' is not an SFEN: {_in_words(str(error))}."
        ) from error
    turn = 0 if board.turn.is_black() else 1
    fault = "; ".join(_in_words(issue.message) for issue in board.validate_all().issues)
    if not fault and board.is_attacked_by(board.king_square(COLORS[1 - turn]), COLORS[turn]):
        fault = "the side to move could take the king"
    if fault:
        raise _bad_start(sfen, f"{fault}. Expected a possible position.")
    if board.game_ply > MAX_START_PLY:
        raise _bad_start(
            sfen, f"the move number is {board.game_ply}. Expected at most {MAX_START_PLY}."
        )
    return board


def _in_words(message: str) -> str:
    """Returns a message of the rules library with pieces by their names."""
    for number, name in enumerate(_PIECES):
        message = message.replace(f"PieceType({number + 1})", name)
        message = message.replace(f"HandPiece({number})", name)
    return message


def _bad_start(sfen: str, what: str) -> ValueError:
    return ValueError(f"start position '{brief(sfen)}': {what}")


def brief(text: str) -> str:
    """Returns a foreign text for a message, without its middle if it is long."""
    return text if len(text) <= 150 else f"{text[:75]}...{text[-72:]}"
