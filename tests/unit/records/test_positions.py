"""Labelled positions: what self-play would have seen, and their targets."""

import math
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rsshogi.core import Board, Move

from keisei_ray.config.sections import PretrainConfig
from keisei_ray.records.left_out import Cause, Tally
from keisei_ray.records.positions import (
    NUM_DRAWN,
    Positions,
    drawn_moves,
    joined,
    positions_of,
    targets,
)
from keisei_ray.rollouts.finished_game import GameResult
from keisei_ray.shogi.actions import LABEL_OF_MOVE
from keisei_ray.shogi.game import STANDARD_SFEN, Game
from keisei_ray.shogi.game_record import GameRecord
from tests.helpers.record_corpus import EVALS, MOVES

MATED = "4k4/9/4P4/9/9/9/9/9/4K4 b 2G2r2b2g4s4n4l17p 1"
"""Black can mate; all 40 pieces are there."""


def record(
    moves: list[str] = MOVES, result: GameResult | None = "white_win", **fields: Any
) -> GameRecord:
    values = tuple(Move.from_usi(move).value for move in moves)
    return GameRecord(fields.pop("start_sfen", STANDARD_SFEN), values, result, **fields)


def used(*games: GameRecord, **settings: Any) -> tuple[Positions | None, Tally]:
    tally = Tally()
    parts = list(positions_of(games, PretrainConfig(**settings), tally, num_lanes=3))
    return (joined(parts) if parts else None), tally


def keys(positions: Positions) -> list[bytes]:
    """Every row as bytes."""
    return [
        b"".join(np.asarray(field[row]).tobytes() for field in positions)
        for row in range(len(positions))
    ]


def test_a_position_is_what_self_play_sees() -> None:
    positions, tally = used(record())
    assert positions is not None
    game = Game(STANDARD_SFEN, max_plies=1000)
    for row, usi in enumerate(MOVES):
        seen, value = game.observe(), Move.from_usi(usi).value
        assert (positions.boards[row] == seen.board).all()
        assert (positions.hands[row] == seen.hand).all()
        assert (positions.scalars[row] == seen.scalars).all()
        assert positions.actions[row] == LABEL_OF_MOVE[game.turn, value]
        legal = np.unpackbits(positions.legal_bits[row])
        labels = [LABEL_OF_MOVE[game.turn, m] for m in np.frombuffer(game.legal, np.uint16)]
        assert sorted(np.flatnonzero(legal)) == sorted(labels)
        game.play(value)
    assert (tally.games, tally.positions) == (1, len(MOVES))
    assert positions.results.tolist() == [-1, 1] * 6


def test_games_in_other_lanes_change_nothing() -> None:
    alone, _ = used(record(MOVES[:7]))
    among, _ = used(record(MOVES[:3]), record(MOVES[:7]), record(), record(MOVES[:1]))
    assert alone is not None
    assert among is not None
    sizes = [1, 3, 7, 12]
    assert len(among) == sum(sizes)
    rows = keys(among)
    assert all(rows.count(key) >= 2 for key in keys(alone.rows(slice(0, 3))))
    assert set(keys(alone)) <= set(rows)


@pytest.mark.parametrize(("result", "first"), [("black_win", 1), ("white_win", -1), ("draw", 0)])
def test_results_are_for_the_side_to_move(result: GameResult, first: int) -> None:
    positions, _ = used(record(MOVES[:4], result))
    assert positions is not None
    assert positions.values.tolist() == [first, -first, first, -first]
    assert positions.draws.tolist() == [float(first == 0)] * 4


def test_targets_mix_results_and_evaluations() -> None:
    config = PretrainConfig(eval_weight=0.25, eval_scale=500.0)
    results = np.array([1, 0, -1, 0], np.int8)
    evals = np.array([300.0, -700.0, np.nan, np.nan])
    values, draws = targets(results, evals, config)
    for row, (result, evaluation) in enumerate(zip([1, 0, -1, 0], evals.tolist(), strict=True)):
        weight = 0.0 if math.isnan(evaluation) else 0.25
        chance = 0.0 if math.isnan(evaluation) else 1 / (1 + math.exp(-evaluation / 500))
        assert values[row] == pytest.approx((1 - weight) * result + weight * (2 * chance - 1))
        assert draws[row] == pytest.approx((1 - weight) * (result == 0))


def test_evaluations_are_for_the_mover() -> None:
    positions, _ = used(record(evals=EVALS), eval_weight=1.0, eval_scale=600.0)
    assert positions is not None
    assert positions.values == pytest.approx(np.tanh(np.array(EVALS) / 1200))


def test_a_game_with_an_illegal_move_is_left_out_and_named() -> None:
    positions, tally = used(record([*MOVES[:3], "9i9h"], place="file, line 7"), record(MOVES[:2]))
    assert positions is not None
    assert len(positions) == 2
    assert (tally.causes[Cause.ILLEGAL_MOVE], tally.games) == (1, 1)
    assert tally.examples[Cause.ILLEGAL_MOVE] == "file, line 7: move 4"


def test_without_a_result_the_end_by_the_rules_counts() -> None:
    mates = Board(MATED).solve_mate_in_one()
    assert mates is not None
    mate = mates.to_usi()
    positions, tally = used(
        record([mate], None, start_sfen=MATED), record(MOVES, None, place="open")
    )
    assert positions is not None
    assert positions.values.tolist() == [1.0]
    assert (tally.causes[Cause.NO_RESULT], tally.games) == (1, 1)


@pytest.mark.parametrize(
    ("sfen", "cause"),
    [
        ("lnsgkgsnl/1r7/ppppppppp/9/9/9/PPPPPPPPP/1B5R1/LNSGKGSNL w - 1", Cause.OTHER_RULES),
        ("4k4/9/9/9/9/9/9/9/4K4 b 2r2b4g4s4n4l18 1", Cause.OTHER_RULES),
        (STANDARD_SFEN.replace("K", "G").replace("G", "K", 2), Cause.IMPOSSIBLE_START),
        pytest.param(
            STANDARD_SFEN.replace("-", "9" * 5000 + "P"), Cause.OTHER_RULES, id="digits in hand"
        ),
    ],
)
def test_games_of_other_rules_are_left_out(sfen: str, cause: Cause) -> None:
    positions, tally = used(record(start_sfen=sfen))
    assert positions is None
    assert tally.causes[cause] == 1


def test_filters_of_positions_are_counted() -> None:
    positions, tally = used(
        record(evals=EVALS, opening_plies=2), first_ply=3, checks="none", max_eval=900
    )
    whole, _ = used(record())
    assert positions is not None
    assert whole is not None
    in_check = (whole.scalars[:, 2] > 0)[3:]
    kept = ~in_check & (np.abs(EVALS[3:]) <= 900)
    assert len(positions) == kept.sum() == tally.positions
    assert tally.causes[Cause.OPENING] == 3
    assert tally.causes[Cause.CHECK] == in_check.sum() > 0
    assert tally.causes[Cause.EVALUATION] == (~in_check & (np.abs(EVALS[3:]) > 900)).sum() > 0
    checks, _ = used(record(), checks="only")
    assert checks is not None
    assert (checks.scalars[:, 2] > 0).all()


def with_visits(moves: list[str], visits: list[dict[str, int]], **fields: Any) -> GameRecord:
    values = tuple(
        tuple((Move.from_usi(move).value, count) for move, count in of_ply.items())
        for of_ply in visits
    )
    return record(moves, visits=values, **fields)


def label(usi: str, ply: int) -> int:
    return int(LABEL_OF_MOVE[ply % 2, Move.from_usi(usi).value])


def test_the_policy_learns_moves_in_proportion_to_their_visits() -> None:
    visits = [{"7g7f": 50, "2g2f": 25, "5g5f": 25}, {"3c3d": 1}, {"8h2b+": 3, "2g2f": 1}]
    positions, _ = used(with_visits(MOVES[:3], visits))
    assert positions is not None
    assert positions.actions.tolist() == [label(usi, ply) for ply, usi in enumerate(MOVES[:3])]
    for ply, of_ply in enumerate(visits):
        learned = Counter(int(positions.with_target(n).actions[ply]) for n in range(NUM_DRAWN))
        share = NUM_DRAWN / sum(of_ply.values())
        assert learned == {label(usi, ply): count * share for usi, count in of_ply.items()}


def test_rare_moves_are_learned_as_often_as_their_share_in_many_games() -> None:
    rng = np.random.default_rng(0)
    drawn = Counter(move for _ in range(2000) for move in drawn_moves(((1, 31), (2, 1)), rng))
    assert drawn[2] / drawn.total() == pytest.approx(1 / 32, abs=0.004)


@given(
    st.lists(st.integers(0, 65535), min_size=1, max_size=30).filter(any),
    st.integers(0, 2**32),
)
def test_each_move_is_drawn_as_often_as_its_share_rounded(counts: list[int], seed: int) -> None:
    visits = tuple((100 + n, count) for n, count in enumerate(counts))
    drawn = Counter(drawn_moves(visits, np.random.default_rng(seed)))
    assert drawn.total() == NUM_DRAWN
    for move, count in visits:
        expected = NUM_DRAWN * count / sum(counts)
        assert math.floor(expected) <= drawn[move] <= math.ceil(expected)


def test_the_move_that_was_played_is_learned_if_the_settings_say_so() -> None:
    visits = [{"2g2f": 9}, {"8c8d": 9}]
    positions, _ = used(with_visits(MOVES[:2], visits), policy_target="played")
    assert positions is not None
    assert (positions.drawn == positions.actions[:, None]).all()


def test_nothing_is_learned_where_nothing_was_searched_in_a_game_with_visits() -> None:
    visits = [{"7g7f": 9}, {}, {"8h2b+": 2}]
    positions, tally = used(with_visits(MOVES[:3], visits))
    assert positions is not None
    assert positions.actions.tolist() == [label(MOVES[0], 0), label(MOVES[2], 2)]
    assert tally.causes == {Cause.NO_VISITS: 1}


def test_visits_that_no_search_can_have_are_replaced_by_the_move_that_was_played() -> None:
    """A move that is not legal, and no visits at all."""
    positions, _ = used(with_visits(MOVES[:2], [{"1a1b": 9}, {"8c8d": 0, "3c3d": 0}]))
    assert positions is not None
    assert (positions.drawn == positions.actions[:, None]).all()


def test_what_is_drawn_depends_on_the_seed_and_the_game_alone() -> None:
    game = with_visits(MOVES[:1], [{"7g7f": 50, "2g2f": 25, "5g5f": 25}])
    other = with_visits(MOVES[:2], [{"7g7f": 50, "2g2f": 50}, {"3c3d": 1}])

    def drawn(*games: GameRecord, seed: int) -> set[bytes]:
        parts = positions_of(games, PretrainConfig(), Tally(), num_lanes=2, seed=[seed])
        return {part.drawn.tobytes() for part in parts}

    assert drawn(game, seed=1) < drawn(other, game, other, seed=1)
    assert len({min(drawn(game, seed=seed)) for seed in range(20)}) > 1


def test_an_example_of_what_is_left_out_is_kept_by_its_beginning() -> None:
    _, tally = used(record(start_sfen="k" * 10**6 + " b - 1"))
    [example] = tally.examples.values()
    assert len(example) < 500
