"""Results of games whose records have none: those by the rules, where a game has ended by them."""

from array import array
from dataclasses import replace

from keisei_ray.records.positions import start_fault
from keisei_ray.shogi.game import NO_PLY_CAP, Game
from keisei_ray.shogi.game_record import GameRecord
from keisei_ray.shogi.rules import result_of


def with_result(game: GameRecord) -> GameRecord | None:
    """Returns a game with a result; None if it has none, neither in its record nor by the rules.

    One without moves, or that cannot be played, is returned as it is: that is found elsewhere.
    """
    if game.result is not None or not game.moves or start_fault(game.start_sfen):
        return game
    played = Game(game.start_sfen, max_plies=NO_PLY_CAP)
    for move in game.moves:
        if move not in array("H", played.legal):
            return game
        verdict = played.play(move)
        if verdict is not None:
            return replace(game, result=result_of(verdict, played.turn))
    return None
