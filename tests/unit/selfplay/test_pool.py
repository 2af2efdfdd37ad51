"""The opponent pool's table: who is drawn how often, who stays, what is offered to whom."""

import itertools
import json
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from keisei_ray.config.schema import Config
from keisei_ray.config.sections import PoolConfig
from keisei_ray.errors import CheckpointError
from keisei_ray.rollouts.finished_game import Color, FinishedGame, GameResult
from keisei_ray.selfplay.pool import HALF_LIFE_GAMES, SELF_PLAY, Offers, Pool
from tests.helpers.tiny import tiny_config

GAME = FinishedGame("0-0-0", 0, 0, 0, 0, "draw", "repetition", 20, 0, "")


def game(opponent: str, result: GameResult, color: Color = "black") -> FinishedGame:
    return replace(GAME, opponent=opponent, result=result, learner_color=color)


def pool_config(**values: Any) -> PoolConfig:
    return PoolConfig.model_validate({"share": 0.5} | values)


def pool_with(counts: dict[str, tuple[float, float]], **values: Any) -> Pool:
    """A pool with these (games, points) counted; names of the form v<number> are snapshots."""
    scripted = [name for name in counts if name[0] != "v"]
    pool = Pool(pool_config(members=scripted, **values))
    rows = [
        {
            "name": name,
            "weights_version": None if name in scripted else int(name[1:]),
            "digest": "" if name in scripted else "d" * 64,
            "games": games,
            "points": points,
            "games_total": int(games),
        }
        for name, (games, points) in counts.items()
    ]
    pool.restore(json.dumps({"members": rows}))
    return pool


# With the prior of 2 games at a half each, the scores are 3/4, 1/4 and 1/2.
BEATEN, FEARED, EVEN = (2, 2), (2, 0), (6, 3)


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
def test_opponents_are_drawn_by_how_the_learner_fares(
    settings: dict[str, Any], expected: tuple[float, float, float]
) -> None:
    pool = pool_with({"greedy": BEATEN, "v3": FEARED, "v7": EVEN}, **settings)
    probabilities = pool.probabilities()
    assert list(probabilities) == ["greedy", "v3", "v7"]
    assert list(probabilities.values()) == pytest.approx(expected)


def test_a_fixed_share_says_nothing_where_one_kind_is_missing() -> None:
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


def test_old_results_fade_whoever_plays() -> None:
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


def test_a_result_against_one_who_has_left_adds_nobody() -> None:
    pool = pool_with({"v1": EVEN})
    pool.count([game("v0", "black_win")])
    assert [(m.name, m.games_total) for m in pool.members] == [("v1", 6)]


def test_a_full_pool_loses_the_snapshot_that_the_learner_beats_most_surely() -> None:
    pool = pool_with({"v1": FEARED, "v2": BEATEN, "v3": EVEN, "greedy": (90, 90)}, max_snapshots=3)
    gone = pool.add_snapshot(9, "d" * 64)
    assert gone is not None
    assert gone.name == "v2"
    assert {m.name for m in pool.members} == {"greedy", "v1", "v3", "v9"}
    assert pool.add_snapshot(10, "d" * 64).name == "v3"  # type: ignore[union-attr]
    # All three are at a half or below: v9 and v10 are equals, the older one goes.
    assert pool.add_snapshot(11, "d" * 64).name == "v9"  # type: ignore[union-attr]
    assert [m.name for m in pool.snapshots] == ["v1", "v10", "v11"]


def test_the_newest_snapshot_finds_a_place_in_the_smallest_pool() -> None:
    pool = Pool(pool_config(max_snapshots=1))
    assert pool.add_snapshot(1, "a") is None
    pool.count([game("v1", "white_win")] * 9)
    pool.add_snapshot(2, "b")
    assert [m.name for m in pool.members] == ["v2"]


def test_the_table_survives_a_resume() -> None:
    config = pool_config(members=("greedy",))
    pool = Pool(config)
    pool.add_snapshot(4, "e" * 64)
    pool.count([game("greedy", "black_win"), game("v4", "draw"), game("v4", "white_win")])
    resumed = Pool(config)
    resumed.restore(pool.to_json())
    assert resumed.members == pool.members
    assert resumed.probabilities() == pool.probabilities()


def test_a_resume_goes_by_the_configuration_of_now() -> None:
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
    ],
)
def test_a_damaged_table_is_refused(change: dict[str, Any]) -> None:
    table = json.loads(pool_with({"v7": BEATEN}).to_json())
    table["members"][0] |= change
    with pytest.raises(CheckpointError, match="pool"):
        Pool(pool_config()).restore(json.dumps(table))


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"members": [3]}', '{"members": 3}'])
def test_text_that_is_no_table_is_refused(text: str) -> None:
    with pytest.raises(CheckpointError, match="pool"):
        Pool(pool_config()).restore(text)


# ---- offers ----

COLLECTS_PER_TURN = 4
"""32 plies a game, 8 a rollout."""


def offers_of(pool: Pool, **values: Any) -> Offers:
    return Offers(offer_config(**values), pool)


def offer_config(**values: Any) -> Config:
    return tiny_config(
        self_play={"max_plies": 32, "rollout_length": 8}, pool={"share": 0.5} | values
    )


def test_without_a_share_or_a_member_there_is_nobody_to_play() -> None:
    assert offers_of(pool_with({"v1": EVEN}), share=0.0).make(0, 0) == SELF_PLAY
    assert offers_of(Pool(pool_config())).make(0, 0) == SELF_PLAY


def test_an_offer_holds_every_scripted_member_and_a_few_snapshots() -> None:
    counts = {"greedy": BEATEN, "random": EVEN} | {f"v{i}": EVEN for i in range(9)}
    pool = pool_with(counts, max_snapshots=9)
    offers = offers_of(pool, networks_per_actor=3, max_snapshots=9)
    for actor in range(50):
        offer = offers.make(actor, 0)
        members = dict(offer.members)
        assert len(members) == len(offer.members)
        assert offer.share == 0.5
        assert 1 <= len(offer.networks) <= 3
        assert set(members) == {"greedy", "random", *offer.networks}
        assert sum(members.values()) == pytest.approx(1)
        for name in ("greedy", "random"):
            assert members[name] == pytest.approx(pool.probabilities()[name])


def test_over_all_actors_snapshots_are_offered_as_often_as_their_probability_says() -> None:
    pool = pool_with({"v1": FEARED, "v2": EVEN, "v3": BEATEN})
    offers = offers_of(pool)
    total: Counter[str] = Counter()
    actors = 2000
    for actor in range(actors):
        total.update(dict(offers.make(actor, 0).members))
    for name, probability in pool.probabilities().items():
        # Two draws an actor; four deviations.
        sigma = (probability * (1 - probability) / (2 * actors)) ** 0.5
        assert total[name] / actors == pytest.approx(probability, abs=4 * sigma)


def test_one_place_at_a_time_changes_hands_and_only_when_games_have_had_time_to_end() -> None:
    pool = pool_with({f"v{i}": EVEN for i in range(200)}, max_snapshots=200)
    offers = offers_of(pool, networks_per_actor=3, max_snapshots=200)
    made = [set(offers.make(0, 0).networks) for _ in range(6 * COLLECTS_PER_TURN)]
    for turn in range(6):
        same = made[turn * COLLECTS_PER_TURN : (turn + 1) * COLLECTS_PER_TURN]
        assert all(offer == same[0] for offer in same)
    turns = made[::COLLECTS_PER_TURN]
    for before, after in itertools.pairwise(turns):
        assert len(after - before) <= 1
    assert len(set.union(*turns)) > 4
    # The places take turns: three turns on, nothing of the first offer is left.
    assert not turns[0] & turns[4]


def test_a_place_whose_snapshot_has_left_is_given_away_at_once() -> None:
    pool = pool_with({"v1": EVEN, "v2": EVEN, "v3": EVEN})
    offers = offers_of(pool)
    gone = offers.make(0, 0).networks[0]
    pool.remove(gone)
    after = offers.make(0, 0)
    assert gone not in dict(after.members)
    assert sum(dict(after.members).values()) == pytest.approx(1)


def test_offers_are_a_function_of_seed_actor_incarnation_and_number() -> None:
    pool = pool_with({f"v{i}": EVEN for i in range(100)}, max_snapshots=100)

    def made(actor: int, incarnation: int, earlier: int = 0) -> list[object]:
        offers = offers_of(pool, max_snapshots=100)
        for _ in range(earlier):
            offers.make(actor, incarnation - 1)
        return [offers.make(actor, incarnation) for _ in range(9)]

    assert made(1, 1) == made(1, 1)
    assert made(1, 1) == made(1, 1, earlier=3)  # As after a resume.
    assert made(1, 1) != made(1, 0)
    assert made(1, 1) != made(0, 1)
