"""Games replayed from their moves."""

from collections.abc import Iterable

from rsshogi.core import Move

from keisei_ray.shogi.game import Game


def replay_game(sfen: str, usi_moves: Iterable[str], *, max_plies: int) -> Game:
    """Returns the game after these moves, which are legal; the last one may end it."""
    game = Game(sfen, max_plies=max_plies)
    for usi in usi_moves:
        game.play(Move.from_usi(usi).value)
    return game
