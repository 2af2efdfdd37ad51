"""Which matches an evaluation consists of, and which earlier versions are kept for it."""

from pathlib import Path

import numpy as np
import pytest

from keisei_ray.config.sections import EvaluationConfig
from keisei_ray.evaluation.earlier_versions import (
    load_versions,
    next_opponents,
    numbers_to_keep,
    save_version,
)
from keisei_ray.evaluation.plan import PlannedMatch, plan_matches
from keisei_ray.rollouts import packed_buffer


def plan(version: int = 9, earlier: tuple[int, ...] = (), **settings: object) -> list[PlannedMatch]:
    return plan_matches(
        EvaluationConfig.model_validate(settings),
        run_seed=5,
        timestep=900,
        run_time_s=1.5,
        weights_version=version,
        earlier_versions=earlier,
    )


def test_every_opponent_is_met_bare_and_finishing_and_own_versions_alike() -> None:
    assert [(m.player, m.opponent, m.opponent_version, m.finishing) for m in plan(9, (8, 4))] == [
        ("v9", "random", None, False),
        ("v9+mate1", "random", None, True),
        ("v9", "greedy", None, False),
        ("v9+mate1", "greedy", None, True),
        ("v9", "v8", 8, False),
        ("v9+mate1", "v8+mate1", 8, True),
        ("v9", "v4", 4, False),
        ("v9+mate1", "v4+mate1", 4, True),
    ]


def test_without_finishing_only_the_bare_policy_plays() -> None:
    matches = plan(9, (8,), finishing=False, opponents=["greedy", "snapshots"])
    assert [(m.player, m.opponent) for m in matches] == [("v9", "greedy"), ("v9", "v8")]


def test_no_two_evaluations_share_openings() -> None:
    seeds = [{match.seed for match in plan(version, (1,))} for version in (2, 3, 4)]
    assert [len(seed) for seed in seeds] == [1, 1, 1]
    assert len(set.union(*seeds)) == 3


def test_the_next_evaluation_always_has_whom_it_plays() -> None:
    """What is kept after each evaluation serves as well as everything would."""
    everything: list[int] = []
    few: set[int] = set()
    for number in range(1, 200):
        opponents = next_opponents(few)
        assert opponents == next_opponents(everything)
        if number > 2:
            newest, older = opponents
            assert newest == number - 1
            assert (number - 1) / 4 <= older < newest
        everything.append(number)
        few = numbers_to_keep({*few, number})
        assert len(few) <= 3


def buffer(version: int) -> memoryview:
    arrays = {"w": np.arange(version, dtype=np.float32)}
    return packed_buffer.pack("weights", {"version": version}, arrays, zstd_level=1).data


def test_files_of_versions_that_are_trained_anew_are_removed(tmp_path: Path) -> None:
    for number, version in ((1, 10), (2, 20), (3, 30)):
        save_version(tmp_path, number, buffer(version), {1, 2, 3})
    found = load_versions(tmp_path, newest_version=20)
    assert [(s.number, s.version, s.buffer) for s in found] == [
        (1, 10, bytes(buffer(10))),
        (2, 20, bytes(buffer(20))),
    ]
    assert load_versions(tmp_path, newest_version=99) == found


def test_files_that_are_not_kept_are_removed(tmp_path: Path) -> None:
    save_version(tmp_path, 1, buffer(10), {1})
    save_version(tmp_path, 2, buffer(20), {2})
    assert [s.number for s in load_versions(tmp_path, 99)] == [2]


def test_a_damaged_file_is_left_out(tmp_path: Path) -> None:
    for number in (1, 2):
        save_version(tmp_path, number, buffer(number), {1, 2})
    path = next((tmp_path / "evaluated").glob("*1.weights"))
    path.write_bytes(path.read_bytes()[:10])
    assert [s.number for s in load_versions(tmp_path, 99)] == [2]
    assert load_versions(tmp_path / "nowhere", 99) == []


@pytest.mark.parametrize("numbers", [[], [1], [5]])
def test_few_versions_give_few_opponents(numbers: list[int]) -> None:
    assert next_opponents(numbers) == numbers[:1]
    assert numbers_to_keep(numbers) == set(numbers)
