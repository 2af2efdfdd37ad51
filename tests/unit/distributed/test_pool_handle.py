"""The driver's side of the opponent pool, as far as it needs no running Ray."""

import errno
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from keisei_ray.distributed import pool_handle as module
from keisei_ray.distributed.pool_handle import PoolHandle
from keisei_ray.errors import RunDirError
from keisei_ray.rollouts.actor_state import ActorState, GamesState, PairingState
from keisei_ray.storage.pool_table import PoolMember, read_table
from keisei_ray.storage.run_layout import POOL_DIR, POOL_FILE
from keisei_ray.telemetry.events import EventBus
from tests.helpers.tiny import N, tiny_config


@pytest.mark.parametrize(
    ("opponents", "networks", "missing"),
    [
        (("", "greedy"), (), []),
        (("v1", "greedy2"), ("v1",), ["greedy2", "v1"]),
        (("", "greedy"), ("greedy",), ["greedy"]),
        (("", ""), ("",), [""]),
    ],
)
def test_what_an_actors_state_names_and_the_run_lacks_is_missing(
    tmp_path: Path, opponents: tuple[str, ...], networks: tuple[str, ...], missing: list[str]
) -> None:
    """A file of another program may call a scripted member a network."""
    config = tiny_config(pool={"share": 0.5, "members": ["greedy"]})
    pool = PoolHandle(config, EventBus(), tmp_path, None)
    state = ActorState(
        0, 0, 1, 0, 60, GamesState(N, ()), PairingState(opponents=opponents, networks=networks)
    )
    assert pool.missing(state) == missing


@pytest.fixture
def pool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PoolHandle:
    """A pool of one snapshot at most, v1, whose references are the weights themselves."""
    monkeypatch.setattr(module, "ray", SimpleNamespace(get=lambda ref: ref))
    settings = {"share": 0.5, "snapshot_interval_timesteps": 10, "max_snapshots": 1}
    pool = PoolHandle(tiny_config(pool=settings), EventBus(), tmp_path, None)
    pool.add_if_due(10, 1, weights(1))
    return pool


def weights(version: int) -> Any:
    return np.full(100, version, np.uint8)


def table(pool: PoolHandle, *, with_former: bool = False) -> list[PoolMember]:
    return read_table(pool.files()[POOL_FILE], with_former=with_former)


def test_a_snapshot_whose_file_cannot_be_written_leaves_the_pool_as_it_was(
    pool: PoolHandle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, data: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    before = pool.files()
    with monkeypatch.context() as disk:
        disk.setattr(module, "write_atomically", full)
        with pytest.raises(RunDirError, match="No space left on device"):
            pool.add_if_due(20, 2, weights(2))
    assert pool.files() == before
    for member in table(pool, with_former=True):
        assert (tmp_path / POOL_DIR / member.weights_name).exists()
    pool.add_if_due(30, 3, weights(3))
    assert [member.name for member in table(pool)] == ["v3"]
    assert [member.name for member in table(pool, with_former=True)] == ["v3", "v1"]


def test_a_snapshot_that_cannot_be_removed_is_removed_later(
    pool: PoolHandle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def busy(path: Path, **_: Any) -> None:
        raise OSError(errno.EBUSY, "Device or resource busy")

    pool.add_if_due(20, 2, weights(2))
    pool.forget_former(lambda: ())
    with monkeypatch.context() as nfs:
        nfs.setattr(os, "unlink", busy)
        pool.prune(tmp_path / "checkpoints")
    assert len(list((tmp_path / POOL_DIR).iterdir())) == 2
    pool.prune(tmp_path / "checkpoints")
    (member,) = table(pool)
    assert [path.name for path in (tmp_path / POOL_DIR).iterdir()] == [member.weights_name]
