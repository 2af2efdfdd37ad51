"""Packed rollouts: identity round trips; what is not a valid rollout is refused by name."""

import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from keisei_ray.errors import RolloutFormatError
from keisei_ray.rollouts.packed_buffer import pack
from keisei_ray.rollouts.packed_rollout import pack_rollout, unpack_rollout
from keisei_ray.rollouts.rollout import ROLLOUT_FIELDS, RolloutHeader
from tests.helpers.arrays import assert_same
from tests.helpers.rollouts import random_rollout


def test_a_rollout_round_trips_bit_for_bit() -> None:
    for seed, (T, N) in enumerate([(1, 1), (7, 3), (16, 8)]):
        ids = {"actor_id": 4, "incarnation": 2, "sequence": 9, "weights_version": 1 << 40}
        rollout = random_rollout(T, N, seed, **ids)
        packed = pack_rollout(rollout, zstd_level=1)
        assert rollout.header == RolloutHeader(4, 2, 9, 1 << 40, T, N)
        unpacked = unpack_rollout(packed)
        assert unpacked.header == rollout.header
        assert_same(unpacked.arrays(), rollout.arrays())


def test_an_invalid_rollout_is_neither_packed_nor_unpacked() -> None:
    rollout = random_rollout(3, 2)
    rollout.values[0, 0] = 2
    with pytest.raises(RolloutFormatError, match="values"):
        pack_rollout(rollout, zstd_level=1)
    meta = {"actor_id": 0, "incarnation": 0, "sequence": 0, "weights_version": 0, "T": 3, "N": 2}
    forged = pack("rollout", meta, rollout.arrays(), zstd_level=1)
    with pytest.raises(RolloutFormatError, match="values"):
        unpack_rollout(forged)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"T": 4}, "boards has shape"),
        ({"T": 0}, "T = 0"),
        ({"N": "2"}, "N = '2'"),
        ({"actor_id": -1}, "actor_id = -1"),
        ({"weights_version": True}, "weights_version = True"),
        ({"extra": 1}, "extra"),
    ],
)
def test_a_sound_buffer_with_a_header_that_is_no_rollouts_is_refused(
    change: dict[str, Any], message: str
) -> None:
    meta = {"actor_id": 0, "incarnation": 0, "sequence": 0, "weights_version": 0, "T": 3, "N": 2}
    arrays = random_rollout(3, 2).arrays()
    forged = pack("rollout", meta | change, arrays, zstd_level=1)
    with pytest.raises(RolloutFormatError, match=message):
        unpack_rollout(forged)


def test_a_rollout_with_a_missing_field_is_refused_by_name() -> None:
    rollout = random_rollout(3, 2)
    arrays = {k: a for k, a in rollout.arrays().items() if k != "rewards"}
    meta = {"actor_id": 0, "incarnation": 0, "sequence": 0, "weights_version": 0, "T": 3, "N": 2}
    with pytest.raises(RolloutFormatError, match="'rewards'"):
        unpack_rollout(pack("rollout", meta, arrays, zstd_level=1))


def test_a_packed_rollout_is_independent_of_its_storage() -> None:
    rollout = random_rollout(3, 2)
    packed = pack_rollout(rollout, zstd_level=1)
    before = unpack_rollout(packed)
    for array in rollout.arrays().values():
        array[...] = 0
    assert_same(unpack_rollout(packed).arrays(), before.arrays())


def test_packing_and_unpacking_take_microseconds_a_ply() -> None:
    """Measured 1.1 to 1.6 us a ply on real positions; the bound is ten times that."""
    rollout = random_rollout(64, 64)
    unpack_rollout(pack_rollout(rollout, zstd_level=1))
    times = []
    for _ in range(5):
        start = time.perf_counter()
        unpack_rollout(pack_rollout(rollout, zstd_level=1))
        times.append(time.perf_counter() - start)
    assert min(times) / rollout.header.timesteps < 16e-6


def test_a_buffer_written_to_a_file_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "rollout.ksr"
    path.write_bytes(pack_rollout(random_rollout(3, 2, actor_id=5), zstd_level=1).tobytes())
    assert unpack_rollout(path.read_bytes()).header.actor_id == 5


def bomb(T: int, N: int) -> np.ndarray:
    """Returns a small sound buffer that claims a rollout of T and N, all zeros."""
    meta = {"actor_id": 7, "incarnation": 0, "sequence": 0, "weights_version": 0, "T": T, "N": N}
    arrays = {name: np.zeros((T, N, *f.trailing), f.dtype) for name, f in ROLLOUT_FIELDS.items()}
    return pack("rollout", meta, arrays, zstd_level=1)


def peak_bytes(read: Callable[[], object]) -> int:
    """Returns the most memory that numpy and Python held at a time while `read` was refused."""
    tracemalloc.start()
    try:
        with pytest.raises(RolloutFormatError):
            read()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_rollout_larger_than_the_settings_is_refused_before_it_is_decompressed() -> None:
    buffer = bomb(512, 256)
    assert len(buffer) < 10_000
    with pytest.raises(RolloutFormatError, match="131072 timesteps, expected at most 2048"):
        unpack_rollout(buffer, max_timesteps=2048)
    assert peak_bytes(lambda: unpack_rollout(buffer, max_timesteps=2048)) < 1 << 20
    fitting = pack_rollout(random_rollout(4, 2), zstd_level=1)
    assert unpack_rollout(fitting, max_timesteps=8).header.timesteps == 8


@pytest.mark.parametrize("name", ["boards", "unheard_of"])
def test_fields_of_another_size_are_refused_before_they_are_decompressed(name: str) -> None:
    arrays = random_rollout(3, 2).arrays() | {name: np.zeros((1 << 26,), np.uint8)}
    meta = {"actor_id": 7, "incarnation": 0, "sequence": 0, "weights_version": 0, "T": 3, "N": 2}
    buffer = pack("rollout", meta, arrays, zstd_level=1)
    with pytest.raises(RolloutFormatError, match=f"from actor 7 .*{name}"):
        unpack_rollout(buffer)
    assert peak_bytes(lambda: unpack_rollout(buffer)) < 1 << 20
