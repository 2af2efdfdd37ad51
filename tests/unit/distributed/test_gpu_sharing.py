"""Which runs are told that MPS is missing. No GPU and no MPS is needed: a file stands for it."""

import socket
from pathlib import Path

import pytest

from keisei_ray.distributed import gpu_sharing
from keisei_ray.distributed.gpu_sharing import describe_missing_mps
from tests.helpers.setting_values import make_config

SHARED = make_config(
    self_play={"device": "cuda", "num_gpus": 0.08}, learner={"device": "cuda", "num_gpus": 0.5}
)


def environ(directory: Path) -> dict[str, str]:
    return {"CUDA_MPS_PIPE_DIRECTORY": str(directory)}


def test_a_run_that_shares_a_gpu_without_mps_is_told_so(tmp_path: Path) -> None:
    told = describe_missing_mps(SHARED, environ(tmp_path))
    assert told is not None
    assert f"(no daemon in {tmp_path})" in told
    assert describe_missing_mps(SHARED, environ(tmp_path / "gone")) is not None


def test_nothing_is_said_where_the_control_daemon_has_its_socket(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as daemon:
        daemon.bind(str(tmp_path / "control"))
        assert describe_missing_mps(SHARED, environ(tmp_path)) is None


def test_the_default_directory_is_looked_at_where_none_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu_sharing, "DEFAULT_PIPE_DIRECTORY", str(tmp_path))
    assert describe_missing_mps(SHARED, {}) is not None
    (tmp_path / "control").touch()
    assert describe_missing_mps(SHARED, {}) is None
    assert describe_missing_mps(SHARED, environ(tmp_path / "another")) is not None


@pytest.mark.parametrize(
    ("playing", "learning"),
    [
        ({"device": "cpu"}, {"device": "cuda", "num_gpus": 0.5}),
        ({"device": "cuda", "num_gpus": 0.25}, {"device": "cpu"}),
        ({"device": "cpu"}, {"device": "cpu"}),
        # Of several GPUs the learner has one to itself.
        ({"device": "cuda", "num_gpus": 0.25}, {"device": "cuda", "num_gpus": 1}),
    ],
)
def test_nothing_is_said_where_no_gpu_is_shared(
    playing: dict[str, object], learning: dict[str, object], tmp_path: Path
) -> None:
    config = make_config(self_play=playing, learner=learning)
    assert describe_missing_mps(config, environ(tmp_path)) is None
