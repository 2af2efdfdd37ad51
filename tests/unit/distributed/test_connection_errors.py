"""What is refused before or by Ray, in one line; no cluster is started."""

import dataclasses
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from ray._private.utils import check_version_info

from keisei_ray.config.schema import Config
from keisei_ray.config.sections import ClusterConfig
from keisei_ray.distributed import connection_errors as refusals
from keisei_ray.distributed.actors import remote_cause
from keisei_ray.distributed.connection_errors import (
    check_reachable,
    choose_address,
    refusal,
    running_here,
)
from keisei_ray.distributed.versions import Versions, check_same, own_versions, unfit_node
from keisei_ray.errors import ClusterError, RunDirError
from keisei_ray.storage import run_dirs
from keisei_ray.storage.run_dirs import RAY_JOB, RUNS_DIR
from keisei_ray.training.session import choose_run_dir
from keisei_ray.tune.command import TuneOptions
from keisei_ray.tune.command import _new as sweep_place

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
        address = server.getsockname()
        queued = []
        for _ in range(20):
            waiting = socket.socket()
            waiting.settimeout(0.05)
            queued.append(waiting)
            try:
                waiting.connect(address)
            except TimeoutError:
                break
        yield f"{address[0]}:{address[1]}"
        for waiting in queued:
            waiting.close()


def test_a_host_that_drops_packets_is_given_up_in_bounded_time(
    deaf: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refusals, "CONNECT_TIMEOUT_S", 0.3)
    started = time.monotonic()
    with pytest.raises(ClusterError, match=f"nobody answers at .* = {deaf}: timed out") as caught:
        check_reachable(deaf, {}, nowhere)
    assert 0.3 <= time.monotonic() - started < 3
    assert "\n" not in str(caught.value)


def test_auto_refuses_what_a_dead_head_has_left_unless_another_cluster_runs(tmp_path: Path) -> None:
    noted = tmp_path / "ray" / "ray_current_cluster"
    noted.parent.mkdir()
    noted.write_text("127.0.0.1:1\n")
    environ = {"RAY_TMPDIR": str(tmp_path)}
    assert running_here(environ) == "127.0.0.1:1"
    assert not refusals.is_answered("127.0.0.1:1", 0.5)
    with pytest.raises(ClusterError, match=r"127\.0\.0\.1:1, where .* = auto expects"):
        check_reachable("auto", environ, nowhere)
    check_reachable("auto", environ, lambda: ["127.0.0.1:6379"])
    noted.unlink()
    assert running_here(environ) is None
    check_reachable("auto", environ, nowhere)


def test_a_cluster_of_other_versions_is_one_line_with_both() -> None:
    """In Ray's own words, as it raises them in `ray.init`."""
    with pytest.raises(RuntimeError) as caught:
        check_version_info({"ray_version": "2.1.0", "python_version": "3.9.1"}, "node 192.0.2.2")
    assert len(str(caught.value).splitlines()) > 3
    line = refusal("192.0.2.1:6379", caught.value, "")
    own = own_versions()
    assert "\n" not in line
    assert "the cluster at 192.0.2.1:6379 runs Ray 2.1.0 on Python 3.9.1" in line
    assert f"Ray {own.ray}, Python {own.python}" in line


def test_what_ray_says_of_tokens_is_cut_to_what_is_wrong() -> None:
    said = RuntimeError("Token not found.\nEnsure that the token is in a file. To generate a token")
    line = refusal("x:1", said, "")
    assert line.startswith(
        "Ray did not join the cluster at x:1: Token not found. Set RAY_AUTH_MODE"
    )


@pytest.mark.parametrize(
    ("change", "is_same"),
    [
        ({"keisei_ray": "0.0.1"}, False),
        ({"ray": "2.59.0"}, False),
        ({"python": "3.12.7"}, False),
        ({"python": "3.11.99"}, True),
        ({}, True),
    ],
)
def test_an_actor_of_another_program_is_refused_by_name(
    change: dict[str, str], is_same: bool
) -> None:
    driver = Versions("0.1.0", "2.60.0", "3.11.7")
    there = Versions(**(vars(driver) | change))
    if is_same:
        check_same("192.0.2.3", there, driver)
        return
    with pytest.raises(ClusterError, match=r"node 192\.0\.2\.3 runs") as caught:
        check_same("192.0.2.3", there, driver)
    assert str(there) in str(caught.value)
    assert str(driver) in str(caught.value)


def test_only_what_is_missing_makes_a_node_unfit() -> None:
    error = unfit_node(Exception("died\n(pid=3, ip=192.0.2.4, x)\nNo module named 'keisei_ray'"))
    assert str(error).startswith("node 192.0.2.4 cannot start an actor: No module named 'keisei_")
    assert unfit_node(Exception("killed (pid=3, ip=192.0.2.4)")) is None


@pytest.fixture
def job_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory is one that came with a job."""
    place = tmp_path / "runtime_resources" / "working_dir_files" / "_ray_pkg_0"
    place.mkdir(parents=True)
    monkeypatch.chdir(place)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv(RAY_JOB, "{}")
    return place


def with_run_dir(run_dir: str | None) -> Config:
    return Config.model_validate({"run": {"run_dir": run_dir}})


def test_a_run_in_a_jobs_working_directory_is_refused(job_dir: Path, tmp_path: Path) -> None:
    for run_dir in ("runs/x", str(job_dir / "x")):
        with pytest.raises(RunDirError, match=f"run.run_dir = {run_dir} lies in the job's working"):
            choose_run_dir(with_run_dir(run_dir), None)
    assert choose_run_dir(with_run_dir(str(tmp_path / "x")), None) == tmp_path / "x"


def test_a_job_that_names_no_run_directory_gets_one_in_the_home(
    job_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert choose_run_dir(with_run_dir(None), None).parent == tmp_path / "home" / RUNS_DIR
    (tmp_path / "home" / RUNS_DIR / "a").mkdir(parents=True)
    (tmp_path / "home" / RUNS_DIR / "a" / "mark").touch()
    assert run_dirs.newest_run_dir(["mark"]) == tmp_path / "home" / RUNS_DIR / "a"
    monkeypatch.delenv(RAY_JOB)
    assert choose_run_dir(with_run_dir(None), None).parent == Path(RUNS_DIR)


def test_a_sweep_in_a_jobs_working_directory_is_refused(job_dir: Path, tmp_path: Path) -> None:
    sweep_file = str(Path(__file__).parents[3] / "configs" / "tune" / "random.yaml")
    given = TuneOptions(sweep_file, [], "runs/x", False, None, None)
    with pytest.raises(RunDirError, match="runs/x lies in the job's working"):
        sweep_place(given, {})
    left_out = dataclasses.replace(given, run_dir=None)
    assert sweep_place(left_out, {})[1].parent == tmp_path / "home" / RUNS_DIR


def test_a_token_that_the_cluster_does_not_use_is_told_from_other_deaths() -> None:
    """As Ray 2.60 words it where a driver with a token asks a cluster without for an actor."""
    words = [
        "The actor died unexpectedly before finishing this task.",
        "The actor is dead because all references to the actor were removed including lineage ref "
        "count.",
        "The actor never ran - it was cancelled before it started running.",
    ]
    error = remote_cause(Exception("\n".join(words)))
    assert isinstance(error, ClusterError)
    assert "RAY_AUTH_MODE=disabled" in str(error)
    assert not isinstance(remote_cause(Exception("\n".join(words[:2]))), ClusterError)
