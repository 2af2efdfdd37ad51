"""A game in play: its copy."""

from keisei_ray.shogi.game import STANDARD_SFEN, Game
from tests.helpers.games import replay_game


def test_a_copy_knows_the_history_and_goes_on_by_itself() -> None:
    cycle = ["2h3h", "8b7b", "3h2h", "7b8b"]
    game = replay_game(STANDARD_SFEN, cycle * 2, max_plies=500)
    copy = game.copy()
    again = replay_game(STANDARD_SFEN, cycle * 2, max_plies=500)
    assert copy.earlier == 2
    for usi in cycle:
        index = copy.find_move(usi)
        assert index is not None
        verdict = copy.play(memoryview(copy.legal).cast("H")[index])
    assert verdict is not None
    assert verdict.reason == "repetition"
    for name in Game.__slots__:
        if name != "board":
            assert getattr(game, name) == getattr(again, name), name
    assert game.board.to_sfen() == again.board.to_sfen()
