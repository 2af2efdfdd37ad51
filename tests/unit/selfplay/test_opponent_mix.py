"""The rotation of snapshots: which opponents each actor is given, and when they change."""

import itertools
from collections import Counter
from typing import Any

import pytest

from keisei_ray.config.schema import Config
from keisei_ray.selfplay.opponent_mix import SELF_PLAY_ONLY, OpponentMix, SnapshotRotation
from keisei_ray.selfplay.pool import Pool
from tests.helpers.pools import BEATEN, EVEN, FEARED, pool_config, pool_with
from tests.helpers.tiny import tiny_config

COLLECTS_PER_REDRAW = 4
"""32 plies a game, 8 a rollout."""


def rotation_over(pool: Pool, **values: Any) -> SnapshotRotation:
    return SnapshotRotation(rotation_config(**values), pool)


def rotation_config(**values: Any) -> Config:
    return tiny_config(
        self_play={"max_plies": 32, "rollout_length": 8}, pool={"share": 0.5} | values
    )


def test_without_a_share_or_a_member_every_game_is_self_play() -> None:
    assert rotation_over(pool_with({"v1": EVEN}), share=0.0).next_mix(0, 0) == SELF_PLAY_ONLY
    assert rotation_over(Pool(pool_config())).next_mix(0, 0) == SELF_PLAY_ONLY


def test_a_mix_holds_every_scripted_member_and_a_few_snapshots() -> None:
    counts = {"greedy": BEATEN, "random": EVEN} | {f"v{i}": EVEN for i in range(9)}
    pool = pool_with(counts, max_snapshots=9)
    rotation = rotation_over(pool, networks_per_actor=3, max_snapshots=9)
    for actor in range(50):
        mix = rotation.next_mix(actor, 0)
        members = dict(mix.members)
        assert len(members) == len(mix.members)
        assert mix.pool_share == 0.5
        assert 1 <= len(mix.snapshots) <= 3
        assert set(members) == {"greedy", "random", *mix.snapshots}
        assert sum(members.values()) == pytest.approx(1)
        for name in ("greedy", "random"):
            assert members[name] == pytest.approx(pool.probabilities()[name])


def test_scripted_members_may_have_all_of_the_pools_games() -> None:
    pool = pool_with({"greedy": EVEN, "v1": EVEN}, scripted_share=1.0)
    rotation = rotation_over(pool, scripted_share=1.0)
    for actor in range(3):
        assert rotation.next_mix(actor, 0) == OpponentMix(
            pool_share=0.5, members=(("greedy", 1.0),), snapshots=(), number=0, slots=()
        )


def test_over_all_actors_a_snapshot_has_the_probability_that_the_pool_gives_it() -> None:
    pool = pool_with({"v1": FEARED, "v2": EVEN, "v3": BEATEN})
    rotation = rotation_over(pool)
    total: Counter[str] = Counter()
    actors = 2000
    for actor in range(actors):
        total.update(dict(rotation.next_mix(actor, 0).members))
    for name, probability in pool.probabilities().items():
        # Two draws an actor; four deviations.
        sigma = (probability * (1 - probability) / (2 * actors)) ** 0.5
        assert total[name] / actors == pytest.approx(probability, abs=4 * sigma)


def test_one_slot_at_a_time_is_redrawn_and_only_when_games_have_had_time_to_end() -> None:
    pool = pool_with({f"v{i}": EVEN for i in range(200)}, max_snapshots=200)
    rotation = rotation_over(pool, networks_per_actor=3, max_snapshots=200)
    made = [set(rotation.next_mix(0, 0).snapshots) for _ in range(6 * COLLECTS_PER_REDRAW)]
    for turn in range(6):
        same = made[turn * COLLECTS_PER_REDRAW : (turn + 1) * COLLECTS_PER_REDRAW]
        assert all(names == same[0] for names in same)
    turns = made[::COLLECTS_PER_REDRAW]
    for before, after in itertools.pairwise(turns):
        assert len(after - before) <= 1
    assert len(set.union(*turns)) > 4
    # The slots take turns: three turns on, nothing of the first mix is left.
    assert not turns[0] & turns[4]


def test_a_slot_whose_snapshot_has_left_the_pool_is_redrawn_at_once() -> None:
    pool = pool_with({"v1": EVEN, "v2": EVEN, "v3": EVEN})
    rotation = rotation_over(pool)
    gone = rotation.next_mix(0, 0).snapshots[0]
    pool.remove(gone)
    after = rotation.next_mix(0, 0)
    assert gone not in dict(after.members)
    assert sum(dict(after.members).values()) == pytest.approx(1)


def test_mixes_are_a_function_of_seed_actor_incarnation_and_number() -> None:
    pool = pool_with({f"v{i}": EVEN for i in range(100)}, max_snapshots=100)

    def made(actor: int, incarnation: int, earlier: int = 0) -> list[object]:
        rotation = rotation_over(pool, max_snapshots=100)
        for _ in range(earlier):
            rotation.next_mix(actor, incarnation - 1)
        return [rotation.next_mix(actor, incarnation) for _ in range(9)]

    assert made(1, 1) == made(1, 1)
    assert made(1, 1) == made(1, 1, earlier=3)  # As after a resume.
    assert made(1, 1) != made(1, 0)
    assert made(1, 1) != made(0, 1)
