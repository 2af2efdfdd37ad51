"""Addresses of clusters that are refused before Ray is asked; no cluster is started."""

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from keisei_ray.config.sections import ClusterConfig
from keisei_ray.distributed import address
from keisei_ray.distributed.address import check_reachable, choose_address, recorded_address
from keisei_ray.errors import ClusterError
from keisei_ray.storage.run_dirs import RAY_JOB

IN_JOB = {RAY_JOB: "{}", "RAY_ADDRESS": "192.0.2.1:6379"}


def nowhere() -> list[str]:
    """No cluster's process on this machine."""
    return []


def test_a_job_joins_its_own_cluster_whatever_the_preset_leaves_out() -> None:
    assert choose_address(ClusterConfig(), IN_JOB) == "192.0.2.1:6379"
    assert choose_address(ClusterConfig(), {}) == "local"
    assert choose_address(ClusterConfig(address="local"), {"RAY_ADDRESS": "x:1"}) == "local"


@pytest.mark.parametrize("environ", [IN_JOB, IN_JOB | {"RAY_ADDRESS": "local"}])
def test_a_job_starts_no_second_cluster(environ: dict[str, str]) -> None:
    c = ClusterConfig(address=None if environ["RAY_ADDRESS"] == "local" else "local")
    with pytest.raises(ClusterError, match="second Ray cluster inside a Ray job"):
        choose_address(c, environ)


@pytest.mark.parametrize("key", ["num_cpus", "num_gpus", "object_store_bytes"])
def test_a_setting_of_a_cluster_to_start_is_refused_where_one_is_joined(key: str) -> None:
    c = ClusterConfig.model_validate({key: 2**28})
    assert choose_address(c, {}) == "local"
    with pytest.raises(ClusterError, match=rf"cluster\.{key} = .*RAY_ADDRESS = x:1 joins"):
        choose_address(c, {"RAY_ADDRESS": "x:1"})


@pytest.fixture
def deaf() -> Iterator[str]:
    """Address of a host that drops packets: its queue of connections is full."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server:
        bound = server.getsockname()
        queued = []
        for _ in range(20):
            waiting = socket.socket()
            waiting.settimeout(0.05)
            queued.append(waiting)
            try:
                waiting.connect(bound)
            except TimeoutError:
                break
        yield f"{bound[0]}:{bound[1]}"
        for waiting in queued:
            waiting.close()


def test_a_host_that_drops_packets_is_given_up_in_bounded_time(
    deaf: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(address, "CONNECT_TIMEOUT_S", 0.3)
    started = time.monotonic()
    with pytest.raises(
        ClusterError, match=f"no cluster answers at .* = {deaf}: timed out"
    ) as caught:
        check_reachable(deaf, {}, nowhere)
    assert 0.3 <= time.monotonic() - started < 3
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("127.0.0.1:1", "no cluster answers at .* = 127.0.0.1:1: .*Connection refused"),
        ("nonsense", "= 'nonsense', expected host:port, auto or local"),
        ("10.0.0..1:6379", r"no cluster answers at .* = 10\.0\.0\.\.1:6379"),
        (f"{'x' * 64}:6379", "no cluster answers at .* = x+:6379"),
    ],
)
def test_an_address_where_no_cluster_is_is_refused_in_one_line(given: str, expected: str) -> None:
    with pytest.raises(ClusterError, match=expected) as caught:
        check_reachable(given, {}, nowhere)
    assert "\n" not in str(caught.value)


def test_auto_refuses_what_a_dead_head_has_left_unless_another_cluster_runs(tmp_path: Path) -> None:
    noted = tmp_path / "ray" / "ray_current_cluster"
    noted.parent.mkdir()
    noted.write_text("127.0.0.1:1\n")
    environ = {"RAY_TMPDIR": str(tmp_path)}
    assert recorded_address(environ) == "127.0.0.1:1"
    assert not address.accepts_connection("127.0.0.1:1", 0.5)
    with pytest.raises(ClusterError, match=r"127\.0\.0\.1:1, where .* = auto expects"):
        check_reachable("auto", environ, nowhere)
    check_reachable("auto", environ, lambda: ["127.0.0.1:6379"])
    noted.unlink()
    assert recorded_address(environ) is None
    check_reachable("auto", environ, nowhere)
