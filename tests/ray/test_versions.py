"""Nodes and clusters that run another program: refused by name, after saving what there is."""

import importlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
from ray._common.usage.usage_constants import CLUSTER_METADATA_KEY
from ray._private.ray_constants import KV_NAMESPACE_CLUSTER
from ray._raylet import GcsClient  # type: ignore[attr-defined]  # Compiled.

import keisei_ray
from keisei_ray.config.schema import Config
from keisei_ray.distributed import fleet, learner_handle
from keisei_ray.distributed.actors import LearnerShell, SelfPlayShell, remote_learner
from keisei_ray.distributed.cluster import Cluster
from keisei_ray.distributed.versions import own_versions
from keisei_ray.errors import ClusterError
from keisei_ray.telemetry.reports import ProcessInfo
from tests.helpers.program import run_program
from tests.helpers.training_run import overlap_config, self_play_actors, train

pytestmark = pytest.mark.ray


class OtherProgram(SelfPlayShell):
    """The process finds another version of the package on its node."""

    def start(self, *arguments: Any) -> ProcessInfo:
        keisei_ray.__version__ = "0.0.1"
        return super().start(*arguments)


class LacksAPackage(SelfPlayShell):
    """The node has Keisei Ray, but not all that it needs."""

    def start(self, *arguments: Any) -> ProcessInfo:
        importlib.import_module("not_installed_here")
        return super().start(*arguments)


@pytest.mark.parametrize(
    ("shell", "named"),
    [
        (OtherProgram, f"runs Keisei Ray 0.0.1, Ray {ray.__version__}"),
        (LacksAPackage, "cannot start an actor: No module named 'not_installed_here'"),
    ],
)
def test_an_actor_that_runs_another_program_ends_the_run_by_name_at_once(
    shell: type[SelfPlayShell],
    named: str,
    cluster: Cluster,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fleet, "new_self_play_actor", self_play_actors(shell))
    run = train(
        overlap_config(self_play={"num_actors": 1}),
        cluster,
        tmp_path / "run",
        fails_with=(ClusterError,),
    )
    assert isinstance(run.error, ClusterError)
    message = str(run.error)
    assert "\n" not in message
    assert message.startswith(f"node {ray.util.get_node_ip_address()} {named}")
    assert str(own_versions()) in message
    assert run.driver.progress.actor_restarts == 0
    assert len(list((tmp_path / "run" / "checkpoints").glob("step-*"))) == 1


def test_a_node_without_the_package_ends_the_run_by_name(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The learner's arguments cannot be read there: its first call says so, once."""
    (tmp_path / "only_with_the_driver.py").write_text("class Thing: pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    thing = importlib.import_module("only_with_the_driver").Thing()

    def new(config: Config, rank: int, *, num_cpus: float, scheduling_strategy: Any) -> Any:
        return remote_learner(LearnerShell).options(num_cpus=num_cpus).remote(config, thing)

    monkeypatch.setattr(learner_handle, "new_learner_actor", new)
    run = train(
        overlap_config(self_play={"num_actors": 1}),
        cluster,
        tmp_path / "run",
        fails_with=(ClusterError,),
    )
    assert str(run.error).startswith(
        f"node {ray.util.get_node_ip_address()} cannot start an actor: "
        "No module named 'only_with_the_driver'"
    )


@pytest.fixture
def older_cluster(cluster: Cluster) -> Iterator[Cluster]:
    """A cluster whose own records say that an older Ray has started it."""
    key, space = CLUSTER_METADATA_KEY, KV_NAMESPACE_CLUSTER
    gcs = GcsClient(address=cluster.address)
    noted = gcs.internal_kv_get(key, space)
    assert noted is not None
    changed = json.loads(noted) | {"ray_version": "2.1.0", "python_version": "3.9.1"}
    gcs.internal_kv_put(key, json.dumps(changed).encode(), True, space)
    yield cluster
    gcs.internal_kv_put(key, noted, True, space)


def test_a_cluster_of_an_older_ray_is_refused(older_cluster: Cluster, tmp_path: Path) -> None:
    # The cluster has a token; for an explicit address Ray uses one only if told to.
    done = run_program("--address", older_cluster.address, cwd=tmp_path, RAY_AUTH_MODE="token")
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"ClusterError: the cluster at {older_cluster.address} runs Ray 2.1.0 ")
    assert f"Ray {ray.__version__}, Python " in line
    assert not any((tmp_path / "runs").iterdir())
