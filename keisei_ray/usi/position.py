"""The game that a client describes by `position`, as the rules need it."""

from array import array
from typing import Final, Literal, NamedTuple, Self

from keisei_ray.errors import PositionError
from keisei_ray.shogi.game import NO_PLY_CAP, Game, check_position, usi_text
from keisei_ray.shogi.line import mate_index
from keisei_ray.shogi.rules import can_declare
from keisei_ray.telemetry.visible_text import shortened
from keisei_ray.usi.protocol import Position

_REPETITIONS: Final = ("repetition", "perpetual_check")


def described_game(position: Position, max_plies: int = 0) -> Game:
    """Returns the game of a `position`.

    A client may go on after a fourth repetition. The game then starts anew there, without the
    positions before: for the rules of `shogi/` it was over.

    Args:
        position: start and moves.
        max_plies: plies after which the game is drawn, counted from the first ply of the start's
            SFEN; 0: there is no such rule.

    Raises:
        PositionError: the start is impossible, or a move is not legal.
    """
    try:
        first_ply = check_position(position.sfen).game_ply
    except ValueError as error:
        raise PositionError(f"position: {shortened(str(error), 400)}") from error
    game = _started(position.sfen, first_ply, max_plies)
    for number, usi in enumerate(position.moves, 1):
        try:
            found = game.find_move(usi)
        except ValueError:
            found = None
        if found is None:
            raise PositionError(
                f"position: move {number}, '{shortened(usi)}', is not legal in "
                f"'{game.board.to_sfen()}'"
            )
        verdict = game.play(array("H", game.legal)[found])
        if verdict is not None and verdict.reason in _REPETITIONS:
            game = _started(game.board.to_sfen(), game.board.game_ply, max_plies)
    return game


def _started(sfen: str, first_ply: int, max_plies: int) -> Game:
    cap = max_plies - max(0, first_ply - 1) if max_plies else NO_PLY_CAP
    return Game(sfen, max_plies=cap)


class Plies(NamedTuple):
    """A game as it passes from thread to thread; a `Game` must stay in the one that made it."""

    sfen: str
    """Start position."""
    moves: tuple[int, ...]
    """Moves from there, 16 bits each, legal."""
    max_plies: int
    """Plies after which the game is drawn."""

    @classmethod
    def of(cls, game: Game) -> Self:
        """Takes them from a game."""
        return cls(game.sfen, tuple(game.moves), game.max_plies)


def continued(old: Game | None, plies: Plies) -> Game:
    """Returns a game after these plies: the old one if it leads there, else a new one.

    Args:
        old: of the calling thread; changed if it is returned.
        plies: what has been played.
    """
    game = old
    if (
        game is None
        or (game.sfen, game.max_plies) != (plies.sfen, plies.max_plies)
        or plies.moves[: len(game.moves)] != tuple(game.moves)
    ):
        game = Game(plies.sfen, max_plies=plies.max_plies)
    for move in plies.moves[len(game.moves) :]:
        game.play(move)
    return game


def decided(game: Game) -> Literal["resign", "win"] | None:
    """Answer that the rules demand: a mated side resigns, one that may declare a win does so."""
    if not game.legal:
        return "resign"
    return "win" if can_declare(game.board, game.turn) else None


def any_move(game: Game) -> str:
    """A legal move that takes no time to find: a mate in one, else the first; there is one."""
    return usi_text(array("H", game.legal)[max(0, mate_index(game))])
