"""The opponent pool's table: how often each member is drawn, and which members stay."""

import json
from dataclasses import replace
from typing import Any

import pytest

from keisei_ray.errors import CheckpointError
from keisei_ray.rollouts.finished_game import Color, FinishedGame, GameResult
from keisei_ray.selfplay.pool import HALF_LIFE_GAMES, Pool
from tests.helpers.pools import BEATEN, EVEN, FEARED, pool_config, pool_with

GAME = FinishedGame("0-0-0", 0, 0, 0, 0, "draw", "repetition", 20, 0, "")


def game(opponent: str, result: GameResult, color: Color = "black") -> FinishedGame:
    return replace(GAME, opponent=opponent, result=result, learner_color=color)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, (1 / 14, 9 / 14, 4 / 14)),
        ({"pfsp_power": 1}, (1 / 6, 3 / 6, 2 / 6)),
        ({"pfsp_power": 0}, (1 / 3, 1 / 3, 1 / 3)),
        ({"pfsp": "even", "pfsp_power": 1}, (3 / 10, 3 / 10, 4 / 10)),
        ({"pfsp": "even"}, (9 / 34, 9 / 34, 16 / 34)),
        # The first is the scripted one; the others share what it leaves as 9 : 4.
        ({"scripted_share": 0.25}, (0.25, 0.75 * 9 / 13, 0.75 * 4 / 13)),
        ({"scripted_share": 1}, (1, 0, 0)),
    ],
)
def test_probabilities_follow_the_learners_scores(
    settings: dict[str, Any], expected: tuple[float, float, float]
) -> None:
    pool = pool_with({"greedy": BEATEN, "v3": FEARED, "v7": EVEN}, **settings)
    probabilities = pool.probabilities()
    assert list(probabilities) == ["greedy", "v3", "v7"]
    assert list(probabilities.values()) == pytest.approx(expected)


def test_a_scripted_share_has_no_effect_where_one_kind_of_member_is_missing() -> None:
    alone = pool_with({"greedy": BEATEN, "random": FEARED}, scripted_share=0.0)
    assert list(alone.probabilities().values()) == pytest.approx([0.1, 0.9])
    assert pool_with({"v1": EVEN}, scripted_share=1.0).probabilities() == {"v1": 1.0}
    assert Pool(pool_config()).probabilities() == {}


@pytest.mark.parametrize(
    ("result", "color", "points"),
    [
        ("black_win", "black", 1),
        ("black_win", "white", 0),
        ("white_win", "black", 0),
        ("white_win", "white", 1),
        ("draw", "white", 0.5),
        ("truncated", "black", 0.5),
    ],
)
def test_a_result_counts_for_the_learner(result: GameResult, color: Color, points: float) -> None:
    pool = Pool(pool_config(members=("greedy", "random")))
    pool.count([game("greedy", result, color), GAME])
    greedy, other = pool.members
    assert (greedy.games, greedy.points, greedy.games_total) == (1, points, 1)
    assert (other.games, other.points, other.games_total) == (0, 0, 0)


def test_old_results_fade_with_every_game_against_the_pool() -> None:
    pool = Pool(pool_config(members=("greedy", "random")))
    pool.count([game("greedy", "black_win")])
    pool.count([game("random", "draw")] * HALF_LIFE_GAMES + [GAME] * 50)
    greedy, other = pool.members
    assert (greedy.games, greedy.points) == pytest.approx((0.5, 0.5))
    keep = 0.5 ** (1 / HALF_LIFE_GAMES)
    assert other.games == pytest.approx(sum(keep**age for age in range(HALF_LIFE_GAMES)))
    assert (greedy.games_total, other.games_total) == (1, HALF_LIFE_GAMES)
    # What is not heard of for long is as good as new.
    pool.count([game("random", "draw")] * 20 * HALF_LIFE_GAMES)
    assert pool.members[0].score == pytest.approx(0.5, abs=1e-5)


def test_a_result_against_a_removed_member_adds_no_member() -> None:
    pool = pool_with({"v1": EVEN})
    pool.count([game("v0", "black_win")])
    assert [(m.name, m.games_total) for m in pool.members] == [("v1", 6)]


def test_a_full_pool_loses_the_snapshot_with_the_highest_score() -> None:
    pool = pool_with({"v1": FEARED, "v2": BEATEN, "v3": EVEN, "greedy": (90, 90)}, max_snapshots=3)
    gone = pool.add_snapshot(9, "d" * 64)
    assert gone is not None
    assert gone.name == "v2"
    assert {m.name for m in pool.members} == {"greedy", "v1", "v3", "v9"}
    assert pool.add_snapshot(10, "d" * 64).name == "v3"  # type: ignore[union-attr]
    # All three are at a half or below: v9 and v10 are equals, the older one goes.
    assert pool.add_snapshot(11, "d" * 64).name == "v9"  # type: ignore[union-attr]
    assert [m.name for m in pool.snapshots] == ["v1", "v10", "v11"]


def test_the_newest_snapshot_enters_a_pool_of_one() -> None:
    pool = Pool(pool_config(max_snapshots=1))
    assert pool.add_snapshot(1, "a") is None
    pool.count([game("v1", "white_win")] * 9)
    pool.add_snapshot(2, "b")
    assert [m.name for m in pool.members] == ["v2"]


def test_a_benched_member_gets_no_games_and_keeps_its_results() -> None:
    pool = pool_with({"greedy": FEARED, "random": EVEN, "v3": BEATEN})
    before = pool.to_json()
    assert [pool.bench("random"), pool.bench("random")] == [True, False]
    assert pool.probabilities().keys() == {"greedy", "v3"}
    assert sum(pool.probabilities().values()) == pytest.approx(1)
    assert pool.to_json() == before
    pool.bench("greedy")
    assert pool.probabilities() == {"v3": 1.0}


def test_a_pool_of_benched_members_is_as_good_as_empty() -> None:
    pool = pool_with({"greedy": FEARED})
    pool.bench("greedy")
    assert pool.probabilities() == {}


def test_the_table_survives_a_resume() -> None:
    config = pool_config(members=("greedy",))
    pool = Pool(config)
    pool.add_snapshot(4, "e" * 64)
    pool.count([game("greedy", "black_win"), game("v4", "draw"), game("v4", "white_win")])
    resumed = Pool(config)
    resumed.restore(pool.to_json())
    assert resumed.members == pool.members
    assert resumed.probabilities() == pool.probabilities()


def test_a_resume_keeps_the_members_of_its_own_configuration() -> None:
    saved = pool_with({"greedy": FEARED, "v1": FEARED, "v2": BEATEN, "v3": EVEN}).to_json()
    pool = Pool(pool_config(members=("random",), max_snapshots=2))
    pool.restore(saved)
    assert [m.name for m in pool.members] == ["random", "v1", "v3"]


@pytest.mark.parametrize(
    "change",
    [
        {"games": -1},
        {"points": 3},
        {"games": float("nan")},
        {"games_total": 1.5},
        {"weights_version": "7"},
        {"name": None},
        {"elo": 7},
        {"name": "../../x"},
        {"name": "v8"},
        {"digest": "../../../x/" + "d" * 53},
        {"digest": "d" * 63},
        {"digest": ""},
        {"weights_version": None},
        {"games": 10**400},
        {"games_total": 1 << 63},
    ],
)
def test_a_damaged_table_is_refused(change: dict[str, Any]) -> None:
    table = json.loads(pool_with({"v7": BEATEN}).to_json())
    table["members"][0] |= change
    with pytest.raises(CheckpointError, match="pool"):
        Pool(pool_config()).restore(json.dumps(table))


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", "[" * 100_000, '{"members": [3]}', '{"members": 3}']
)
def test_text_that_is_no_table_is_refused(text: str) -> None:
    with pytest.raises(CheckpointError, match="pool"):
        Pool(pool_config()).restore(text)
