"""Opinions of a network about positions: values, moves and lines, alone and with a search."""

import re
from array import array

import numpy as np
import pytest

from keisei_ray.analysis.findings import NUM_MOVES, Findings, Position, find, positions_of
from keisei_ray.search.search import Search, best_move
from keisei_ray.search.settings import SearchSettings
from keisei_ray.shogi.actions import LABEL_OF_MOVE
from keisei_ray.shogi.game import STANDARD_SFEN, Game, usi_text
from tests.helpers.analyses import evaluate

MATE_IN_ONE = "4k4/9/4P4/9/9/9/9/9/4K4 b G 1"


def positions(moves: str = "", sfen: str = STANDARD_SFEN) -> list[Position]:
    return list(positions_of(Game(sfen, max_plies=500), moves.split()))


def only(position: Position, simulations: int) -> Findings:
    (found,) = find([position], evaluate, simulations)
    return found


def test_the_network_alone_gives_its_value_and_its_policy() -> None:
    position = positions("7g7f 3c3d 2g2f")[-1]
    found = only(position, 0)
    board, hand, scalars = position.game.observe()
    logits, values, draws = evaluate(board[None], hand[None], scalars[None])
    assert (found.value, found.draw_prob) == pytest.approx((values[0], draws[0]))
    legal = array("H", position.game.legal)
    policy = np.exp(logits[0][LABEL_OF_MOVE[position.game.turn, legal]])
    policy /= policy.sum()
    best = np.argsort(-policy)[:NUM_MOVES]
    assert [move.move for move in found.moves] == [usi_text(legal[i]) for i in best]
    assert [move.prob for move in found.moves] == pytest.approx(policy[best].tolist())
    assert (found.visits, found.moves[0].visits, found.moves[0].value) == (0, 0, None)


def test_the_network_alone_does_not_know_the_rules_of_mate() -> None:
    found = only(positions(sfen=MATE_IN_ONE)[0], 0)
    assert found.proof is None
    assert abs(found.value) < 1


def test_a_search_gives_what_the_search_has_found() -> None:
    group = positions("7g7f 3c3d")
    found = list(find(group, evaluate, 40))
    search = Search(evaluate, SearchSettings(40, leaves_per_step=2))
    search.start([position.game for position in group])
    search.run(range(3))
    for slot, here in enumerate(found):
        moves = search.root_moves(slot)
        best = moves[best_move(moves)]
        assert (here.value, here.draw_prob) == search.root_value(slot)[:2]
        assert (here.moves[0].move, here.moves[0].visits) == (usi_text(best.move), best.visits)
        assert list(here.moves[0].line) == list(map(usi_text, search.best_line(slot)))
        assert here.moves[0].value == best.value
        assert all(move.visits for move in here.moves)
    assert [here.ply for here in found] == [0, 1, 2]
    assert [here.color for here in found] == ["black", "white", "black"]


def test_chances_add_up_and_black_s_is_that_of_white_turned_round() -> None:
    for here in find(positions("7g7f 3c3d"), evaluate, 20):
        assert here.win_prob + here.draw_prob + here.loss_prob == pytest.approx(1)
        assert here.win_prob - here.loss_prob == pytest.approx(here.value)
        mover = here.win_prob + here.draw_prob / 2
        assert here.black_chance == pytest.approx(mover if here.color == "black" else 1 - mover)


def test_a_mate_is_proven_and_the_mated_position_is_over() -> None:
    found = list(find(positions("G*5b", MATE_IN_ONE), evaluate, 8))
    assert (found[0].proof, found[0].value, found[0].moves[0].move) == ("won", 1.0, "G*5b")
    assert (found[1].over, found[1].proof, found[1].value) == ("mate", "lost", -1.0)
    assert found[1].moves == ()
    assert found[1].black_chance == 1.0


def test_a_game_goes_on_after_a_repetition() -> None:
    group = positions("2h3h 8b7b 3h2h 7b8b " * 6)
    found = list(find(group, evaluate, 0))
    assert [here.ply for here in found if here.over == "repetition"] == [12, 24]
    assert (found[12].value, found[12].draw_prob, found[12].proof) == (0.0, 1.0, "drawn")
    assert [here.ply for here in found] == list(range(25))


def test_positions_are_independent_of_each_other() -> None:
    group = positions("7g7f 3c3d 8h2b+")
    assert [len(position.game.moves) for position in group] == [0, 1, 2, 3]
    assert len({position.game.board.to_sfen() for position in group}) == 4


@pytest.mark.parametrize("bad", ["7g7d", "hello", "7g7f+"])
def test_a_move_that_is_not_legal_ends_the_positions(bad: str) -> None:
    found = positions_of(Game(STANDARD_SFEN, max_plies=500), ["7g7f", bad])
    assert [len(next(found).game.moves) for _ in range(2)] == [0, 1]
    with pytest.raises(ValueError, match=re.escape(f"move 2 '{bad}' is not legal")):
        next(found)


def test_many_positions_are_searched_in_groups_and_progress_is_told() -> None:
    group = positions("2h3h 8b7b 3h2h 7b8b " * 2) * 9
    assert len(group) > 64
    told: list[float] = []
    found = list(find(group, evaluate, 2, told.append))
    assert [here.sfen for here in found] == [p.game.board.to_sfen() for p in group]
    assert told == sorted(told)
    assert told[-1] == len(group)
