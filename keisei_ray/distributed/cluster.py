"""The Ray runtime: start or join a cluster, say what it offers, leave nothing behind."""

import contextlib
import dataclasses
import logging
import math
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import ray
from ray._private.services import find_gcs_addresses  # Nothing public tells.
from ray.autoscaler.sdk import request_resources
from ray.job_config import JobConfig
from ray.util.placement_group import PlacementGroup, placement_group

from keisei_ray.config.autosize import MIN_ACTOR_CPUS, cpus_for_actors, learner_cpus, learner_gpus
from keisei_ray.config.memory import estimate_memory_bytes
from keisei_ray.config.schema import Config
from keisei_ray.distributed.address import (
    accepts_connection,
    check_reachable,
    choose_address,
    recorded_address,
)
from keisei_ray.distributed.ray_errors import explain_refusal
from keisei_ray.errors import ClusterError

logger = logging.getLogger(__name__)

GIB = 2**30
STDERR = 2
NOTICE_TIMEOUT_S = 0.5
"""In which another cluster on this machine must answer to be mentioned."""
RUN_DIR_KEY = "keisei_ray_run_dir"
"""In the metadata of a run's Ray job: where the run lies on the driver's node, absolute."""
WAIT_FOR_NODES = "If nodes are coming, set cluster.wait_for_nodes_s."
MEMORY_SHARE = 0.9
"""Of the cluster's memory that the run's own processes may be expected to use."""


@dataclass(frozen=True)
class Cluster:
    """What Ray offers this run."""

    address: str
    num_nodes: int
    num_cpus: float
    """Whole CPUs of a cluster; a share may be less than one."""
    num_gpus: int
    memory_bytes: int
    """Physical memory of all nodes, as Ray reports it; 0 if unknown."""
    dashboard_url: str
    is_fixed: bool = False
    """A share of a larger cluster, e.g. a trial's placement group: its size does not change."""
    other: str | None = None
    """Address of a cluster that runs on this machine besides the one started here."""

    def describe(self) -> Mapping[str, int | float | str]:
        """For the `run_started` event."""
        return {
            "num_nodes": self.num_nodes,
            "num_cpus": self.num_cpus,
            "num_gpus": self.num_gpus,
            "dashboard_url": self.dashboard_url,
        }


@contextlib.contextmanager
def connect(
    config: Config,
    environ: Mapping[str, str] = os.environ,
    *,
    run_dir: Path | None = None,
    namespace: str = "keisei_ray",
) -> Iterator[Cluster]:
    """A cluster for the length of the block: joined if an address is given, else started here.

    On every way out the actors that the block created are gone; a cluster started here is
    stopped, one that was joined is left.

    Args:
        config: its `cluster` section says where and how large.
        environ: may hold RAY_ADDRESS.
        run_dir: of a run, which `status --address` finds by it; None: nothing to find.
        namespace: of the names that actors may have.

    Raises:
        ClusterError: Ray refused the address, port, token or resources, in one line.
    """
    c = config.cluster
    address = choose_address(c, environ)
    if ray.is_initialized():
        raise ClusterError(
            "this process is connected to a Ray cluster already, expected none. Leave it by "
            "ray.shutdown() first."
        )
    check_reachable(address, environ, find_gcs_addresses)
    # Token authentication is on by default and wanted: no warning on each start.
    logging.getLogger("ray._private.authentication.authentication_token_setup").setLevel(
        logging.ERROR
    )
    # Our workers need no GPU mask from Ray: the shells set their own.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    options: dict[str, object] = {
        "address": address,
        "log_to_driver": False,
        "logging_level": logging.WARNING,
        "configure_logging": False,
        "namespace": namespace,
    }
    if run_dir is not None and "://" not in address:  # Ray's client takes no job config.
        # What `ray job submit` injects is added to it by Ray.
        options["job_config"] = JobConfig(metadata={RUN_DIR_KEY: str(run_dir.resolve())})
    if address == "local":
        options |= {
            "num_cpus": c.num_cpus,
            "num_gpus": c.num_gpus,
            "object_store_memory": c.object_store_bytes,
            "include_dashboard": c.dashboard,
            "dashboard_host": "127.0.0.1",
            "dashboard_port": c.dashboard_port if c.dashboard else None,
        }
    said: list[str] = []
    try:
        with _stderr_aside(said):
            context = ray.init(**options)  # type: ignore[arg-type]
    except Exception as error:
        ray.shutdown()
        raise ClusterError(explain_refusal(address, error, " ".join(said))) from error
    try:
        # Whoever sets `local` means it.
        other = recorded_address(environ) if c.address is None and address == "local" else None
        yield dataclasses.replace(
            _offered(address, str(context.dashboard_url or "")),
            other=other if other and accepts_connection(other, NOTICE_TIMEOUT_S) else None,
        )
    finally:
        # Actors are owned by this driver: they end with its connection, the cluster with them
        # if it was started here.
        ray.shutdown()


def look_again(cluster: Cluster) -> Cluster:
    """The same cluster as it is now: nodes may have come or gone."""
    return cluster if cluster.is_fixed else _offered(cluster.address, cluster.dashboard_url)


def placement_group_cluster(num_cpus: float) -> Cluster:
    """What the placement group that this process runs in offers to a run.

    For a run inside a Ray that is already initialised, in an actor whose group captures its
    children, e.g. a trial of Ray Tune: the run's own actors find their place in that group.

    Args:
        num_cpus: of the group's CPUs, those that learner, actors and evaluator may reserve.
    """
    group = ray.util.get_current_placement_group()
    assert group is not None, "a share of a cluster is a placement group"
    nodes = ray.util.placement_group_table(group)["bundles_to_node_id"].values()
    num_gpus = sum(bundle.get("GPU", 0) for bundle in group.bundle_specs)
    return Cluster(
        address=str(ray.get_runtime_context().gcs_address),
        num_nodes=len(set(nodes)),
        num_cpus=num_cpus,
        num_gpus=math.ceil(num_gpus),
        memory_bytes=0,
        dashboard_url="",
        is_fixed=True,
    )


def ask_for_nodes(config: Config | None) -> None:
    """Tells an autoscaler, where there is one, what the run would use. Returns at once.

    The wish lasts until another is told, beyond the end of the run: None takes it back.
    """
    if config is None:
        request_resources(bundles=[])
        return
    actors = config.self_play.num_actors
    learner = {"CPU": 1, "GPU": 1} if config.learner.device == "cuda" else {"CPU": 1}
    request_resources(bundles=[learner, *[{"CPU": 1}] * (1 if actors == "auto" else actors)])


def _offered(address: str, dashboard_url: str) -> Cluster:
    resources = ray.cluster_resources()
    nodes = ray.nodes()
    return Cluster(
        address=str(ray.get_runtime_context().gcs_address),
        num_nodes=sum(bool(node["Alive"]) for node in nodes),
        num_cpus=int(resources.get("CPU", 0)),
        num_gpus=int(resources.get("GPU", 0)),
        memory_bytes=_physical_memory(address, resources),
        dashboard_url=dashboard_url,
    )


def learner_placement_group(config: Config, cluster: Cluster) -> PlacementGroup | None:
    """A place for the learner that no actor takes, not even while its process is replaced.

    A GPU, if that is its device. Where there is a choice it is the driver's node, which the run
    cannot lose anyway. Returns at once; the place is found or waited for by Ray.

    Returns:
        A placement group to be removed at the end; None where the cluster is a share that has a
        place for the learner already.
    """
    if cluster.is_fixed:
        return None
    bundle = {"CPU": learner_cpus(cluster.num_cpus), "GPU": learner_gpus(config)}
    here = ray.get_runtime_context().get_node_id()
    # The argument is marked experimental; without it Ray chooses any node that has room.
    group: PlacementGroup = placement_group(
        [{what: amount for what, amount in bundle.items() if amount > 0}],
        strategy="STRICT_PACK",
        _soft_target_node_id=here,
    )
    return group


def check_fits(config: Config, cluster: Cluster) -> None:
    """Refuses a run that the cluster cannot hold.

    Raises:
        ClusterError: says what was asked, what there is, what would fit.
    """
    if cluster.num_cpus < 1 and not cluster.is_fixed:
        raise ClusterError(
            f"the cluster at {cluster.address} offers no CPU, expected at least 1. "
            f"{WAIT_FOR_NODES} Or join another."
        )
    asked = config.self_play.num_actors
    free = cpus_for_actors(config, cluster.num_cpus)
    room = int(free / MIN_ACTOR_CPUS)
    if room < 1:
        raise ClusterError(
            f"evaluation.num_cpus = {config.evaluation.num_cpus:g} leaves no part of the "
            f"cluster's {cluster.num_cpus:g} CPUs for self-play. Use less, or 0 to reserve none."
        )
    actors = max(1, int(free)) if asked == "auto" else asked
    if actors > room:
        raise ClusterError(
            f"self_play.num_actors = {actors} needs more than the {cluster.num_cpus:g} CPUs of the "
            f"cluster can be divided into. Use at most {room}. {WAIT_FOR_NODES}"
        )
    needed = estimate_memory_bytes(config, actors)
    limit = int(cluster.memory_bytes * MEMORY_SHARE)
    if cluster.memory_bytes and needed > limit:
        raise ClusterError(
            f"these settings need about {needed / GIB:.1f} GiB of memory "
            f"(self_play.num_actors = {asked}, model {config.model.depth}x{config.model.width}), "
            f"the cluster has {cluster.memory_bytes / GIB:.1f} GiB. Use "
            f"{_fitting(config, actors, limit)}, a smaller update or a smaller model. "
            f"{WAIT_FOR_NODES}"
        )


def _fitting(config: Config, asked: int, limit: int) -> str:
    """How many actors the memory has room for, as advice."""
    fitting = [n for n in range(1, asked) if estimate_memory_bytes(config, n) <= limit]
    return f"at most {fitting[-1]} actors" if fitting else "fewer actors"


def _physical_memory(address: str, resources: Mapping[str, float]) -> int:
    """Physical memory in bytes; of this machine, or what Ray says of a joined cluster."""
    if address == "local" and hasattr(os, "sysconf"):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return int(resources.get("memory", 0) + resources.get("object_store_memory", 0))


@contextlib.contextmanager
def _stderr_aside(said: list[str]) -> Iterator[None]:
    """Ray's native part writes to the standard error itself: its lines go to `said` and the log."""
    sys.stderr.flush()
    with tempfile.TemporaryFile() as file:
        stderr = os.dup(STDERR)
        os.dup2(file.fileno(), STDERR)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(stderr, STDERR)
            os.close(stderr)
            file.seek(0)
            said += file.read().decode(errors="replace").splitlines()
            for line in said:
                logger.info("ray: %s", line)
