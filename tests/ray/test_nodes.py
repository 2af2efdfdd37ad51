"""A cluster whose nodes come and go, with the program on it as a user starts it."""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from ray.cluster_utils import Cluster

from tests.helpers.program import PATIENCE_S, ROOT
from tests.helpers.subscribers import BRAKE
from tests.helpers.watched_training import (
    NOTICES_DEATHS_SOON,
    STORE,
    WatchedTraining,
    ended_after,
    head,
)

pytestmark = pytest.mark.ray

BRAKED = ("--set", f"tracking.subscribers=[{BRAKE}]")


@pytest.fixture
def nodes(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """A head without CPUs; nodes are added by the tests."""
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    for name, value in NOTICES_DEATHS_SOON.items():
        monkeypatch.setenv(name, value)
    with head(num_cpus=0) as cluster:
        yield cluster


def add_node(cluster: Cluster, num_cpus: int) -> Any:
    return cluster.add_node(num_cpus=num_cpus, object_store_memory=STORE)


def pause_learner(node: Any) -> None:
    """Stops the learner's process on a node, so that no further update finishes there."""
    raylet = psutil.Process(node.all_processes["raylet"][0].process.pid)
    (learner,) = (p for p in raylet.children(recursive=True) if "LearnerShell" in p.name())
    learner.suspend()


def settled_record(run: WatchedTraining) -> dict[str, Any]:
    """Returns the last record of a run once no update comes any more.

    The driver's node has a copy of the newest weights then. Ray has no sign of that to wait for.
    """
    newest: dict[str, Any] = {}
    while newest != (newest := run.records("metrics.jsonl")[-1]):
        time.sleep(1.0)
    return newest


@pytest.mark.long
def test_an_elastic_run_uses_nodes_that_come_and_outlives_nodes_that_go(
    nodes: Cluster, tmp_path: Path
) -> None:
    add_node(nodes, 2)
    with ended_after(
        WatchedTraining(nodes.address, tmp_path / "run", "--num-actors", "auto", *BRAKED)
    ) as run:
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


@pytest.mark.long
def test_a_learner_whose_node_is_lost_goes_on_elsewhere_from_its_newest_update(
    nodes: Cluster, tmp_path: Path
) -> None:
    """Even where actors hold all the CPUs that are left."""
    first = add_node(nodes, 2)
    with ended_after(
        WatchedTraining(nodes.address, tmp_path / "run", "--num-actors", "auto", *BRAKED)
    ) as run:
        run.wait_until(lambda r: r["update"] >= 2)
        add_node(nodes, 2)
        run.wait_until(lambda r: r["actors_alive"] == 3)
        pause_learner(first)
        before = settled_record(run)
        nodes.remove_node(first)
        run.wait_until(lambda r: r["update"] > before["update"] + 5 and r["actors_alive"] == 1)
        learner_deaths = [e for e in run.events("actor_lost") if e["actor_id"] is None]
        assert len(learner_deaths) == 1


def test_a_driver_without_cpus_follows_fast_updates_of_a_learner_on_another_node(
    nodes: Cluster, tmp_path: Path
) -> None:
    """Copies of weights that are no longer the newest reach the driver's node all the time."""
    add_node(nodes, 2)
    run = WatchedTraining(nodes.address, tmp_path / "run", "--total-timesteps", str(24 * 256))
    try:
        output, errors = run.process.communicate(timeout=PATIENCE_S)
    finally:
        run.process.kill()
    assert run.process.returncode == 0, (output, errors)
    assert [r["weights_version"] for r in run.records("metrics.jsonl")] == list(range(1, 25))
    assert run.events("actor_lost") == []


PLACES = """
import sys
import time
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
    """The node that Ray chooses for it; the GPU exists by name only."""
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    with head(num_cpus=1) as cluster:
        add_node(cluster, 2)
        cluster.add_node(num_cpus=2, num_gpus=1, object_store_memory=STORE)
        done = subprocess.run(
            [sys.executable, "-c", PLACES, cluster.address],
            cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE_S, check=False,
        )  # fmt: skip
    assert done.stdout.splitlines() == ["cuda 1.0 False", "cpu 0 True"], done.stderr
