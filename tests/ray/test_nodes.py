"""A cluster whose nodes come and go, with the program on it as a person starts it."""

import contextlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from ray.cluster_utils import Cluster

from tests.ray.test_command_line import DEBUG, ROOT, start

pytestmark = pytest.mark.ray

PATIENCE_S = 180
STORE = 100 * 2**20


class Training:
    """`run.py` on a cluster, watched through the files of its run."""

    def __init__(
        self, address: str, run_dir: Path, *arguments: str, before: Sequence[str] = ()
    ) -> None:
        self.run_dir = run_dir
        self.process = start(
            "--config", DEBUG, "--address", address, "--run-dir", str(run_dir),
            "--total-timesteps", "100000000", "--set", "tracking.view=none",
            "--set", "evaluation.interval_timesteps=null", *arguments,
            cwd=run_dir.parent, before=before, RAY_AUTH_MODE="disabled",
        )  # fmt: skip

    def records(self, name: str) -> list[dict[str, Any]]:
        file = self.run_dir / name
        lines = file.read_text().splitlines(keepends=True) if file.exists() else []
        return [json.loads(line) for line in lines if line.endswith("\n")]

    def events(self, kind: str) -> list[dict[str, Any]]:
        return [record for record in self.records("events.jsonl") if record["kind"] == kind]

    def sizes(self) -> list[tuple[int, int]]:
        """CPUs and wanted actors, at the start and after each change."""
        return [(e["num_cpus"], e["num_actors"]) for e in self.events("cluster_changed")]

    def wait_until(self, is_so: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The first record of metrics.jsonl from now on of which it is so."""
        seen = len(self.records("metrics.jsonl"))
        deadline = time.monotonic() + PATIENCE_S
        while True:
            for record in self.records("metrics.jsonl")[seen:]:
                if is_so(record):
                    return record
            assert self.process.poll() is None, self.process.communicate()
            assert time.monotonic() < deadline, self.records("events.jsonl")[-9:]
            time.sleep(0.1)

    def end(self) -> None:
        """Asks it to stop, and checks that what it counted is one story."""
        self.process.send_signal(signal.SIGINT)
        output, errors = self.process.communicate(timeout=PATIENCE_S)
        assert self.process.returncode == 130, (output, errors)
        assert "Traceback" not in errors
        records, games = self.records("metrics.jsonl"), self.records("games.jsonl")
        progress = json.loads(
            (sorted(self.run_dir.glob("checkpoints/step-*"))[-1] / "progress.json").read_text()
        )
        assert sum(r["batch_timesteps"] for r in records) == progress["timestep"]
        assert [r["weights_version"] for r in records] == list(range(1, len(records) + 1))
        assert len({game["game_id"] for game in games}) == len(games) == progress["games_total"]
        assert max(r["policy_lag_max"] for r in records) <= 1
        assert not [e for e in self.events("notice") if e["level"] == "ERROR"]


@contextlib.contextmanager
def finish(run: Training) -> Iterator[Training]:
    """Ends the run after the block: in order if all went well, else at once."""
    try:
        yield run
        run.end()
    finally:
        run.process.kill()
        run.process.communicate()


@pytest.fixture
def nodes(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """A head without CPUs; nodes are added by the tests."""
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    cluster = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 0, "object_store_memory": STORE}
    )
    yield cluster
    cluster.shutdown()


def add_node(cluster: Cluster, num_cpus: int) -> Any:
    return cluster.add_node(num_cpus=num_cpus, object_store_memory=STORE)


def test_an_elastic_run_uses_nodes_that_come_and_outlives_nodes_that_go(
    nodes: Cluster, tmp_path: Path
) -> None:
    add_node(nodes, 2)
    with finish(Training(nodes.address, tmp_path / "run", "--num-actors", "auto")) as run:
        small = run.wait_until(lambda r: r["update"] >= 2)
        assert small["actors_alive"] == 1
        second = add_node(nodes, 2)
        run.wait_until(lambda r: r["actors_alive"] == 3)
        nodes.remove_node(second, allow_graceful=False)
        # Ray takes some seconds to believe that a node is dead.
        run.wait_until(lambda r: r["actors_alive"] == 1 and run.sizes()[-1] == (2, 1))
        add_node(nodes, 2)
        run.wait_until(lambda r: r["actors_alive"] == 3)
        assert run.sizes() == [(2, 1), (4, 3), (2, 1), (4, 3)]
        run.wait_until(lambda _: {g["actor_id"] for g in run.records("games.jsonl")} == {0, 1, 2})


def test_a_learner_whose_node_is_lost_goes_on_elsewhere_from_its_newest_update(
    nodes: Cluster, tmp_path: Path
) -> None:
    """Even where actors hold all the CPUs that are left."""
    first = add_node(nodes, 2)
    with finish(Training(nodes.address, tmp_path / "run", "--num-actors", "auto")) as run:
        run.wait_until(lambda r: r["update"] >= 2)
        add_node(nodes, 2)
        before = run.wait_until(lambda r: r["actors_alive"] == 3)
        nodes.remove_node(first)
        run.wait_until(lambda r: r["update"] > before["update"] + 5 and r["actors_alive"] == 1)
        learner_deaths = [e for e in run.events("actor_lost") if e["actor_id"] is None]
        assert len(learner_deaths) == 1


PLACES = """
import sys
from ray.util import placement_group_table, remove_placement_group
from keisei_ray.distributed.cluster import connect, learner_placement_group
from keisei_ray.config.schema import Config
from keisei_ray.config.autosize import resolve_auto
import ray

for device in ("cuda", "cpu"):
    values = {"cluster": {"address": sys.argv[1]}, "learner": {"device": device}}
    with connect(Config.model_validate(values)) as cluster:
        config = resolve_auto(Config.model_validate(values), cluster.num_cpus, cluster.num_gpus)
        group = learner_placement_group(config, cluster)
        assert group.wait(30)
        (node_id,) = placement_group_table(group)["bundles_to_node_id"].values()
        (node,) = [node for node in ray.nodes() if node["NodeID"] == node_id]
        is_here = node_id == ray.get_runtime_context().get_node_id()
        print(device, node["Resources"].get("GPU", 0), is_here)
"""


def test_the_learner_has_a_place_on_the_gpu_or_else_beside_the_driver(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where Ray puts it; the GPU is one by name only."""
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    head = {"num_cpus": 1, "object_store_memory": STORE}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        add_node(cluster, 2)
        cluster.add_node(num_cpus=2, num_gpus=1, object_store_memory=STORE)
        done = subprocess.run(
            [sys.executable, "-c", PLACES, cluster.address],
            cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE_S, check=False,
        )  # fmt: skip
    finally:
        cluster.shutdown()
    assert done.stdout.splitlines() == ["cuda 1.0 False", "cpu 0 True"], done.stderr
