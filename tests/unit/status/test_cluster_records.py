"""Which of a cluster's runs is meant, and how what the cluster knows is shown. No Ray."""

from dataclasses import replace
from pathlib import Path

import pytest

from keisei_ray.cli import main
from keisei_ray.errors import RunDirError
from keisei_ray.status.cluster_records import (
    ClusterRun,
    ClusterState,
    matching_runs,
    newest_sessions,
    one_run,
)
from keisei_ray.status.reader import LocalRunReader
from keisei_ray.status.run_status import Status, as_json, with_cluster
from keisei_ray.status.screen import runs_table, status_lines
from tests.helpers.report_runs import write_run


def run(run_dir: str, *, node: str = "10.0.0.1", at_s: float, ended: bool = False) -> ClusterRun:
    return ClusterRun(run_dir, "01", "ab", node, 7, not ended, at_s, at_s + 5 if ended else None)


OLD = run("/runs/old", at_s=10, ended=True)
NEW = run("/home/a/runs/new", at_s=20)
OTHER = run("/home/b/runs/new", at_s=30, ended=True)
KNOWN = ClusterState("10.0.0.9:6379", 3, 64, 1, "10.0.0.1", 7, True, 62, 1, 0)


@pytest.fixture
def status(tmp_path: Path) -> Status:
    """Of a run that was written to just now."""
    return LocalRunReader(write_run(tmp_path / "run", updates=3)).status()


def test_only_the_newest_session_of_a_directory_counts_and_live_runs_come_first() -> None:
    resumed = run("/runs/old", at_s=25, ended=True)
    elsewhere = run("/runs/old", node="10.0.0.2", at_s=5, ended=True)
    assert newest_sessions([OLD, NEW, resumed, elsewhere]) == [NEW, resumed, elsewhere]


@pytest.mark.parametrize("named", ["old", "/runs/old", "runs/old", "./runs/old/"])
def test_a_run_is_named_by_the_end_of_its_path(named: str) -> None:
    assert matching_runs([NEW, OLD], named, "x") == [OLD]


def test_of_several_runs_with_a_name_the_live_one_is_chosen() -> None:
    assert matching_runs([NEW, OTHER], "new", "x") == [NEW]
    assert matching_runs([NEW, OTHER], "b/runs/new", "x") == [OTHER]
    assert matching_runs([NEW, OTHER, OLD], None, "x") == [NEW, OTHER, OLD]
    assert one_run([NEW, OTHER, OLD], None, "x") == NEW


def test_no_run_and_no_run_of_that_name_are_refused() -> None:
    with pytest.raises(RunDirError, match=r"no run has been started on the cluster at h:1"):
        matching_runs([], None, "h:1")
    for named in ("ld", ".", "/"):
        with pytest.raises(RunDirError, match="expected one of new, old"):
            matching_runs([NEW, OTHER, OLD], named, "x")


def test_a_run_to_be_watched_must_be_named_if_there_are_several() -> None:
    assert one_run([OLD], None, "x") == OLD
    with pytest.raises(RunDirError, match=r"/home/b/runs/new on 10\.0\.0\.1, /runs/old on"):
        one_run([OTHER, OLD], None, "x")


def test_a_table_has_a_line_for_each_run(status: Status) -> None:
    shown = [line.plain for line in runs_table([(NEW, status), (replace(NEW, pid=8), None)], 80.0)]
    shown += [line.plain for line in runs_table([(OLD, None)], 75.0)][1:]
    assert len(shown) == 4
    assert shown[0].split() == ["RUN", "STATE", "SINCE", "TIMESTEP", "OF", "SPS", "DRIVER"]
    assert "0:01:00 ago  3,000" in shown[1]
    assert shown[1].index("3,000") == shown[0].index("TIMESTEP")
    assert "running, not readable" in shown[2]
    assert "/runs/old  driver has left  0:01:00 ago  -" in shown[3]


def test_the_state_on_the_cluster_is_part_of_the_status(status: Status) -> None:
    assert as_json(status)["cluster"] is None
    seen = with_cluster(status, KNOWN)
    assert seen.state == status.state == "running"
    text = "\n".join(line.plain for line in status_lines(seen))
    assert "3 nodes, 64 CPUs, 1 GPU at 10.0.0.9:6379" in text
    assert "process 7 on 10.0.0.1, connected; up for it: 62 self-play actors" in text
    assert as_json(seen)["cluster"] == {
        "address": "10.0.0.9:6379", "num_nodes": 3, "num_cpus": 64, "num_gpus": 1,
        "driver_node": "10.0.0.1", "driver_pid": 7, "driver_alive": True,
        "self_play_actors": 62, "learners": 1, "evaluators": 0,
    }  # fmt: skip


def test_a_run_whose_driver_left_without_an_end_is_silent_at_once(status: Status) -> None:
    left = replace(KNOWN, driver_alive=False)
    seen = with_cluster(status, left)
    assert (seen.state, seen.remaining_s, seen.actors_alive) == ("silent", None, None)
    assert "has left the cluster" in "\n".join(line.plain for line in status_lines(seen))
    ended = replace(status, state="finished")
    assert with_cluster(ended, left).state == "finished"


@pytest.mark.parametrize("command", ["status", "watch"])
@pytest.mark.parametrize("address", ["local", "ray://h:10001"])
def test_an_address_that_is_not_a_cluster_to_join_is_refused(
    command: str, address: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([command, "--address", address]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"ConfigError: --address {address}: expected HOST:PORT")
