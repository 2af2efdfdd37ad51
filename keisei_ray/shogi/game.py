"""One game in play: what the rules must remember from ply to ply.

A `Game` knows its legal moves, how often each position occurred, and who has been giving
check for how long; `play` applies one move and says whether, and how, that ended the game.
It keeps no boards in arrays: `vector_games.py` does that part, for N games at once.

Moves are 16-bit integers here (`actions`), packed as soon as the library has made them. Its
move objects would be cold memory by the time all lanes' moves are gathered, and again when
they are freed: keeping them made the whole of `VectorGames` a third slower.
"""

import struct
from array import array
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from rsshogi.core import Board, Move

from keisei_ray.shogi.observation import MAX_COUNT, Observation, observe
from keisei_ray.shogi.rules import (
    CAMPS,
    COLORS,
    DECLARATION,
    FOURFOLD,
    MATE,
    PLY_CAP,
    Verdict,
    can_declare,
    repetition_verdict,
)

STANDARD_SFEN = "lnsgkgsnl/1r5b1/ppppppppp/9/9/9/PPPPPPPPP/1B5R1/LNSGKGSNL b - 1"
"""The usual start of a game."""


_MAX_LEGAL_MOVES = 593
"""The most legal moves that a position of shogi has."""
_DROP_BIT = 1 << 14
_PACK = tuple(struct.Struct(f"{n}H").pack for n in range(_MAX_LEGAL_MOVES + 1))
"""n 16-bit integers to bytes, by n; three times faster than numpy reads a list of them."""


class Opening(NamedTuple):
    """How a game starts, before anybody is asked for a move."""

    sfen: str
    """A position that `check_start` accepts."""
    moves: str = ""
    """Plies from there as USI, space separated."""


class Game:
    """One game in play.

    Attributes:
        index: which game of its `VectorGames` this is, in order of starting.
        sfen: the start position.
        board: the position now. To be read; moves go through `play`.
        legal: the side to move's legal 16-bit moves as bytes, in native byte order and in the
            order of `board.legal_moves()`. Empty only after mate.
        moves: every ply from the start, opening included, as 16-bit moves.
        opening_plies: plies at the start that nobody chose.
        turn: the side to move, 0 black, 1 white.
        earlier: how often the present position occurred before in this game, 0..3.
        own_checks: latest consecutive moves of the side to move that gave check.
        opponent_checks: the same for the other side; > 0 exactly if the mover is in check.
    """

    __slots__ = (
        "_kings",
        "_max_plies",
        "_seen",
        "board",
        "earlier",
        "index",
        "legal",
        "moves",
        "opening_plies",
        "opponent_checks",
        "own_checks",
        "sfen",
        "turn",
    )

    def __init__(self, sfen: str, *, max_plies: int, index: int = 0) -> None:
        """A game before its first ply.

        Args:
            sfen: start position; one that `check_start` accepts.
            max_plies: plies after which the game is cut.
            index: the game's number.
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
        self._max_plies = max_plies
        # Squares of the black and the white king, as the moves tell.
        self._kings = [self.board.king_square(color).value for color in COLORS]
        # Position key (board, hands, side to move) -> ply of its first occurrence * 4 + how
        # often it recurred: one lookup a ply tells all that the repetition rule asks.
        self._seen = {self.board.zobrist_hash(): 0}

    def play(self, value: int) -> Verdict | None:
        """Plays a 16-bit move.

        Returns:
            How the ply ended the game, or None if the game goes on. After an end the
            attributes describe the final position.

        Raises:
            ValueError: the move is not legal. Nothing was played.
        """
        board = self.board
        board.apply_move(Move(value))
        moves = self.moves
        moves.append(value)
        legal = [move.value for move in board.legal_moves()]
        self.legal = _PACK[len(legal)](*legal)
        mover_checks = self.own_checks + 1 if board.is_in_check() else 0
        self.own_checks = self.opponent_checks
        self.opponent_checks = mover_checks
        mover = self.turn
        turn = self.turn = 1 - mover
        kings = self._kings
        if (value >> 7) & 127 == kings[mover] and not value & _DROP_BIT:
            kings[mover] = value & 127
        key = board.zobrist_hash()
        seen = self._seen.get(key)
        if seen is None:
            self._seen[key] = len(moves) << 2
            earlier = self.earlier = 0
        else:
            self._seen[key] = seen + 1
            earlier = self.earlier = (seen & 3) + 1

        if not legal:
            return MATE
        if earlier == FOURFOLD:
            return repetition_verdict(
                len(moves) - (self._seen[key] >> 2),
                mover_checks=mover_checks,
                opponent_checks=self.own_checks,
            )
        if kings[turn] in CAMPS[turn] and can_declare(board, turn):
            return DECLARATION
        if len(moves) >= self._max_plies:
            return PLY_CAP
        return None

    def observe(self) -> Observation:
        """The present position from the mover's side."""
        return observe(
            self.board,
            earlier=self.earlier,
            own_checks=self.own_checks,
            opponent_checks=self.opponent_checks,
        )

    def scalars(self) -> bytes:
        """What `Observation.scalars` holds, three bytes."""
        own, opponent = self.own_checks, self.opponent_checks
        if own > MAX_COUNT or opponent > MAX_COUNT:
            own, opponent = min(own, MAX_COUNT), min(opponent, MAX_COUNT)
        return bytes((self.earlier, own, opponent))

    def moves_usi(self) -> str:
        """Every ply from the start as USI, space separated."""
        return " ".join([Move(value).to_usi() for value in self.moves])


def open_game(
    sfen: str,
    rng: np.random.Generator,
    *,
    random_opening_plies: int,
    max_plies: int,
    index: int = 0,
) -> Game:
    """A game after 0..`random_opening_plies` uniformly random plies.

    An opening that would end the game is drawn again; one of no plies never does.
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
    """One ply, uniform over the legal moves."""
    values = array("H", game.legal)
    return game.play(values[int(rng.integers(len(values)))])


def play_opening(opening: Opening, *, max_plies: int, index: int = 0) -> Game:
    """A game after an opening.

    Raises:
        ValueError: a move is illegal, or there is no game left to play.
    """
    game = Game(opening.sfen, max_plies=max_plies, index=index)
    verdict = _play_all(game, opening.moves.split())
    if verdict is not None:
        raise ValueError(
            f"the opening ends the game: {verdict.reason} at ply {len(game.moves)}. Expected a "
            "game still to be played."
        )
    game.opening_plies = len(game.moves)
    return game


def replay_game(sfen: str, usi_moves: Iterable[str], *, max_plies: int, index: int = 0) -> Game:
    """A game after these moves.

    Raises:
        ValueError: a move is illegal, or a move before the last ended the game.
    """
    game = Game(sfen, max_plies=max_plies, index=index)
    _play_all(game, usi_moves)
    return game


def _play_all(game: Game, usi_moves: Iterable[str]) -> Verdict | None:
    """Plays these moves; returns how the last one ended the game, if it did."""
    verdict = None
    for usi in usi_moves:
        if verdict is not None:
            raise ValueError(
                f"move {usi!r} (ply {len(game.moves) + 1}) comes after the end of the game: "
                f"{verdict.reason}. Expected moves of a game that goes on."
            )
        legal = {move.to_usi(): move.value for move in game.board.legal_moves()}
        if usi not in legal:
            raise ValueError(
                f"move {usi!r} (ply {len(game.moves) + 1}) cannot be played in "
                f"'{game.board.to_sfen()}'. Expected a legal move."
            )
        verdict = game.play(legal[usi])
    return verdict


def check_start(sfen: str) -> None:
    """Refuses a start position from which no game can be played.

    Raises:
        ValueError: not an SFEN, an impossible position (a king or pieces missing or too many,
            the side to move could take the king), or a game that is already over.
    """
    try:
        board = Board(sfen)
    except ValueError as error:
        raise ValueError(f"start position '{sfen}' is not an SFEN: {error}.") from error
    turn = 0 if board.turn.is_black() else 1
    fault = "; ".join(issue.message for issue in board.validate_all().issues)
    if not fault and board.is_attacked_by(board.king_square(COLORS[1 - turn]), COLORS[turn]):
        fault = "the side to move could take the king"
    if not fault and not board.legal_moves():
        fault = "the side to move is mated"
    if not fault and can_declare(board, turn):
        fault = "the side to move has won by declaration"
    if fault:
        raise ValueError(f"start position '{sfen}': {fault}. Expected a game still to be played.")
