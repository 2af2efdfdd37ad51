"""Runs on a cluster seen by its address alone, from other processes than the run's own."""

import io
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import ray
from rich.console import Console

from keisei_ray.distributed.cluster import Cluster
from keisei_ray.errors import ClusterError, RunDirError
from keisei_ray.status.cluster_records import ClusterRun
from keisei_ray.status.command import watch_reader
from keisei_ray.status.reader import LocalRunReader, RunReader
from keisei_ray.status.remote import RemoteRunReader, all_runs, draw_runs
from tests.helpers.program import DEBUG_CONFIG, PATIENCE_S, start_program
from tests.helpers.subscribers import BRAKE

pytestmark = pytest.mark.ray


class Seen:
    """A run that trained on the session's cluster until Ctrl-C, and what was seen meanwhile."""

    def __init__(self, cluster: Cluster, cwd: Path) -> None:
        self.run_dir = cwd / "first"
        elsewhere = cwd / "elsewhere"
        elsewhere.mkdir()
        trainer = start_program(
            "--config", DEBUG_CONFIG, "--run-dir", "first",
            "--set", "run.total_timesteps=1000000", "--set", "evaluation.interval_timesteps=null",
            "--num-actors", "1", "--set", f"tracking.subscribers=[{BRAKE}]",
            cwd=cwd, cluster=cluster,
            # As `ray job submit` gives it to the program that it starts.
            RAY_JOB_CONFIG_JSON_ENV_VAR=json.dumps(
                {"runtime_env": {}, "metadata": {"job_submission_id": "first"}}
            ),
        )  # fmt: skip
        self.trainer = trainer
        assert trainer.stdout is not None
        if not any(line.startswith("update=1 ") for line in trainer.stdout):
            raise AssertionError(trainer.communicate()[1])

        def look(*words: str) -> "subprocess.Popen[str]":
            by_address = ("--address", cluster.address)
            return start_program(*words, *by_address, cwd=elsewhere, RAY_AUTH_MODE="token")

        lookers = [
            look("status", "first", "--json", "-"),
            look("status", "--run-dir", "nowhere"),
            look("watch"),  # The only one alive.
        ]
        self.running = lookers[0].communicate(timeout=PATIENCE_S), lookers[0].returncode
        self.nowhere = lookers[1].communicate(timeout=PATIENCE_S), lookers[1].returncode
        shown, errors = lookers[2].stdout, lookers[2].stderr
        assert shown is not None
        assert errors is not None
        self.watched = next(line for line in shown if line.startswith("update="))
        self.waiting, self.waiting_code = self._try_second(cluster, cwd)
        trainer.send_signal(signal.SIGINT)
        trainer.communicate(timeout=PATIENCE_S)
        # Not by `communicate`, which would leave out what has been read ahead.
        self.watched += shown.read()
        self.watch_end = errors.read(), lookers[2].wait(PATIENCE_S)
        (self.run,) = (r for r in all_runs() if r.run_dir == str(self.run_dir))

    def _try_second(self, cluster: Cluster, cwd: Path) -> tuple[str, int]:
        """Starts a second run on the full cluster; returns its notice and its code after Ctrl-C."""
        second = start_program(
            "--config", DEBUG_CONFIG, "--run-dir", "second", "--num-actors", "1",
            cwd=cwd, cluster=cluster,
        )  # fmt: skip
        assert second.stdout is not None
        said = next((line for line in second.stdout if "waiting for room" in line), "")
        second.send_signal(signal.SIGINT)
        second.communicate(timeout=PATIENCE_S)
        return said, second.returncode


@pytest.fixture(scope="module")
def seen(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Seen:
    return Seen(cluster, tmp_path_factory.mktemp("seen").resolve())


@pytest.fixture
def gone_module(tmp_path: Path) -> Iterator[type]:
    """A reader that no other process can import."""
    (tmp_path / "only_here.py").write_text(
        "class Reader:\n    def __init__(self, run_dir): pass\n    def status(self): pass\n"
    )
    sys.path.insert(0, str(tmp_path))
    import only_here  # type: ignore[import-not-found]

    yield only_here.Reader
    sys.path.remove(str(tmp_path))
    del sys.modules["only_here"]


def test_a_run_is_found_and_read_by_the_clusters_address(seen: Seen, cluster: Cluster) -> None:
    (output, errors), code = seen.running
    assert (errors, code) == ("", 0)
    status: dict[str, Any] = json.loads(output)
    assert (status["run_dir"], status["state"]) == (str(seen.run_dir), "running")
    assert status["pid"] == seen.trainer.pid
    assert status["timestep"] == 256 * status["update"] >= 256
    told = status["cluster"]
    assert (told["driver_pid"], told["driver_alive"]) == (seen.trainer.pid, True)
    assert (told["address"], told["num_nodes"], told["num_cpus"]) == (cluster.address, 1, 2)
    assert (told["self_play_actors"], told["learners"], told["evaluators"]) == (1, 1, 0)


def test_a_run_without_room_says_what_it_asks_for_and_who_holds_it(seen: Seen) -> None:
    assert seen.waiting_code == 130
    assert "the learner asks for 1 CPU; free are 0 of 2 CPUs" in seen.waiting
    held = f"run {seen.run_dir} on "
    assert f"On the cluster: {held}" in seen.waiting
    assert f"process {seen.trainer.pid} (1 learner, 1 self-play actor)" in seen.waiting


def test_a_name_that_no_run_has_is_one_line(seen: Seen) -> None:
    (output, errors), code = seen.nowhere
    assert (output, code) == ("", 2)
    (line,) = errors.splitlines()
    assert line.startswith("RunDirError: ")
    _, expected = line.split("no run nowhere, expected one of ")
    assert "first" in expected.split(". ")[0].split(", ")


def test_a_run_is_watched_by_the_clusters_address_until_it_ends(seen: Seen) -> None:
    assert seen.watch_end == ("", 0)
    last = json.loads((seen.run_dir / "metrics.jsonl").read_text().splitlines()[-1])["update"]
    assert f"update={last} " in seen.watched
    assert "Keisei Ray interrupted" in seen.watched


def test_a_run_that_has_ended_is_still_found_and_says_how(seen: Seen) -> None:
    assert not seen.run.is_alive
    assert seen.run.ended_s is not None
    assert seen.run.ended_s > seen.run.started_s
    status = RemoteRunReader(seen.run).status()
    here = LocalRunReader(seen.run_dir).status()
    assert status.state == "interrupted"
    assert replace(status, checkpoint=None, warnings=()) == replace(
        here, checkpoint=None, warnings=()
    )


def drawn(run: RunReader) -> str:
    """Returns the last frame that `watch` draws of a run that has ended."""
    screen = io.StringIO()
    watch_reader(run, Console(file=screen, width=100), wait=lambda _: pytest.fail("it waits"))
    return screen.getvalue()


def test_watch_draws_by_address_what_it_draws_by_directory(seen: Seen) -> None:
    by_address = drawn(RemoteRunReader(seen.run))
    assert "\nupdate=1 " in by_address
    assert by_address == drawn(LocalRunReader(seen.run_dir))


def test_of_several_runs_there_is_a_table_in_which_none_hides_the_others(
    seen: Seen, cluster: Cluster
) -> None:
    screen = io.StringIO()
    gone, lost = replace(seen.run, run_dir="/gone"), replace(seen.run, node_id="0" * 56)
    result: dict[str, Any] = draw_runs(
        [seen.run, gone, lost], cluster, Console(file=screen, width=100)
    )
    _, first, second, third = screen.getvalue().splitlines()
    assert first.split()[:2] == [str(seen.run_dir), "interrupted"]
    assert second.startswith("/gone")
    assert "driver has left" in second
    assert "driver has left" in third
    assert [bool(run["status"]) for run in result["runs"]] == [True, False, False]
    assert result["runs"][0]["status"]["state"] == "interrupted"


def test_whoever_looks_reserves_nothing(seen: Seen) -> None:
    reader = RemoteRunReader(seen.run)
    reader.status()
    free: dict[str, float] = ray.available_resources()
    assert free["CPU"] == ray.cluster_resources()["CPU"]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"run_dir": "/nowhere/at/all"}, "/nowhere/at/all is gone"),
        ({"node_id": "0" * 56}, "has left the cluster"),
    ],
)
def test_what_cannot_be_read_is_one_line_that_names_the_node(
    changed: dict[str, str], said: str, seen: Seen
) -> None:
    run: ClusterRun = replace(seen.run, **changed)  # type: ignore[arg-type]
    with pytest.raises((ClusterError, RunDirError), match=said) as caught:
        RemoteRunReader(run).status()
    assert run.node in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_node_with_other_code_is_one_line_that_says_so(seen: Seen, gone_module: type) -> None:
    with pytest.raises(ClusterError, match="Install the same on every node") as caught:
        RemoteRunReader(seen.run, gone_module).status()
    assert "only_here" in str(caught.value)
    assert "\n" not in str(caught.value)
