"""Earlier versions as opponents: which are kept, and their files."""

from pathlib import Path

import numpy as np
import pytest

from keisei_ray.evaluation.earlier_versions import (
    load_versions,
    next_opponents,
    numbers_to_keep,
    save_version,
)
from keisei_ray.rollouts import packed_buffer


def test_the_next_evaluation_always_has_its_opponents() -> None:
    """The versions that are kept give the same opponents as all versions would."""
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
    return packed_buffer.pack(
        "weights",
        {"version": version, "digest": "d" * 64, "architecture": "x", "format": "lossless"},
        arrays,
        zstd_level=1,
    ).data


def test_files_of_versions_that_are_trained_again_are_removed(tmp_path: Path) -> None:
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
    headless = packed_buffer.pack("weights", {"version": "two"}, {}, zstd_level=1)
    next((tmp_path / "evaluated").glob("*2.weights")).write_bytes(bytes(headless))
    assert load_versions(tmp_path, 99) == []
    assert load_versions(tmp_path / "nowhere", 99) == []


@pytest.mark.parametrize("numbers", [[], [1], [5]])
def test_few_versions_give_few_opponents(numbers: list[int]) -> None:
    assert next_opponents(numbers) == numbers[:1]
    assert numbers_to_keep(numbers) == set(numbers)
