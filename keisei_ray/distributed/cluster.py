"""The cluster: starts or joins a Ray cluster, describes what it offers, leaves nothing behind."""

import contextlib
import dataclasses
import logging
import math
import os
import secrets
import signal
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ray
from ray._private.ray_constants import PROCESS_TYPE_RAYLET
from ray._private.services import find_gcs_addresses  # Ray has no public function for it.
from ray.job_config import JobConfig
from ray.util.placement_group import PlacementGroup, placement_group

from keisei_ray.config.autosize import learner_cpus, learner_gpus
from keisei_ray.config.schema import Config
from keisei_ray.config.sections import ClusterConfig
from keisei_ray.distributed.address import (
    accepts_connection,
    check_reachable,
    choose_address,
    recorded_address,
)
from keisei_ray.distributed.agent_watch import end_agents_with_this_process
from keisei_ray.distributed.orphans import children_ended
from keisei_ray.distributed.ray_connection import RayConnection, connection_to_ray
from keisei_ray.distributed.ray_errors import explain_refusal
from keisei_ray.errors import ClusterError

logger = logging.getLogger(__name__)

STDERR = 2
NOTICE_TIMEOUT_S = 0.5
"""Seconds within which another cluster on this machine must answer to be mentioned."""
RUN_DIR_KEY = "keisei_ray_run_dir"
"""Key in the metadata of a run's Ray job: absolute path of the run on the driver's node."""


@dataclass(frozen=True)
class Cluster:
    """The resources that Ray offers a run."""

    address: str
    num_nodes: int
    num_cpus: float
    """Whole CPUs of a cluster; a placement group may have less than one."""
    num_gpus: int
    memory_bytes: int
    """Physical memory of all nodes, as Ray reports it; 0 if unknown."""
    dashboard_url: str
    is_fixed: bool = False
    """Whether this is a placement group, such as a Tune trial's, whose size does not change."""
    is_started_here: bool = False
    """Whether this run has started the cluster, for itself alone."""
    other_address: str | None = None
    """Address of a cluster that runs on this machine besides the one started here."""
    connection: RayConnection = field(default_factory=RayConnection, compare=False, repr=False)
    """Connections by which the end of Ray's own processes is noticed."""

    @property
    def may_grow(self) -> bool:
        """Whether nodes may join while the run goes on."""
        return not (self.is_fixed or self.is_started_here)

    def describe(self) -> Mapping[str, int | float | str]:
        """Returns the fields of the `run_started` event."""
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
    """Connects to a cluster for the length of the block.

    The cluster is joined if an address is given, else started here. However the block ends, the
    actors that it created are gone afterwards; a cluster that was started here is stopped, one
    that was joined is left.

    Args:
        config: its `cluster` section has the address, or the size.
        environ: may hold RAY_ADDRESS.
        run_dir: directory of a run, by which `status --address` finds it; None: no run.
        namespace: Ray's namespace for the names of actors.

    Raises:
        ClusterError: Ray refused the address, port, token or resources, in one line.
    """
    address = choose_address(config.cluster, environ)
    if ray.is_initialized():
        raise ClusterError(
            "this process is connected to a Ray cluster already, expected none. Leave it by "
            "ray.shutdown() first."
        )
    check_reachable(address, environ, find_gcs_addresses)
    dashboard_url = _init(address, _init_options(config.cluster, address, run_dir, namespace))
    connection = RayConnection()
    try:
        connection = connection_to_ray(is_started_here=address == "local", environ=environ)
        other = None
        if address == "local" and config.cluster.address is None:  # Not asked for by name.
            other = _other_cluster(environ)
        yield dataclasses.replace(
            _current(address, dashboard_url),
            is_started_here=address == "local",
            other_address=other,
            connection=connection,
        )
    finally:
        is_orphaning = address == "local" and not connection.is_there()
        connection.close()
        # Actors are owned by this driver: they end with its connection. A cluster that was
        # started here ends too; without its control service, by force.
        with children_ended(_raylet_pid()) if is_orphaning else contextlib.nullcontext():
            ray.shutdown()


def _raylet_pid() -> int:
    """Returns the process id of the raylet that this process has started."""
    node: Any = ray._private.worker._global_node
    return int(node.all_processes[PROCESS_TYPE_RAYLET][0].process.pid)


def _init_options(
    c: ClusterConfig, address: str, run_dir: Path | None, namespace: str
) -> dict[str, object]:
    """Returns the arguments of `ray.init`."""
    options: dict[str, object] = {
        "address": address,
        "log_to_driver": False,
        "logging_level": logging.WARNING,
        "configure_logging": False,
        "namespace": namespace,
    }
    if run_dir is not None and "://" not in address:  # Ray's client accepts no job config.
        # Ray adds what `ray job submit` injects.
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
    return options


def _init(address: str, options: Mapping[str, object]) -> str:
    """Calls `ray.init` and returns the dashboard's URL, "" without one.

    Raises:
        ClusterError: Ray refused.
    """
    if address == "local":
        keep_token_private(os.environ)
        end_agents_with_this_process()
    # Token authentication is on by default and wanted: no warning on each start.
    logging.getLogger("ray._private.authentication.authentication_token_setup").setLevel(
        logging.ERROR
    )
    # Ray shows an actor with a part of a GPU that GPU alone. Actors without any hide all of them
    # by themselves (`distributed/actors.py`): Ray need not.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    stderr: list[str] = []
    try:
        with _captured_stderr(stderr), _kept_through_hangup():
            context = ray.init(**options)  # type: ignore[arg-type]
    except Exception as error:
        ray.shutdown()
        raise ClusterError(explain_refusal(address, error, " ".join(stderr))) from error
    return str(context.dashboard_url or "")


@contextlib.contextmanager
def _kept_through_hangup() -> Iterator[None]:
    """Blocks SIGHUP for the processes that are started inside the block, for their whole life.

    The end of a terminal reaches all processes of its job. The driver, which handles it, needs Ray
    to save the run.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def keep_token_private(environ: Mapping[str, str]) -> None:
    """Keeps Ray's token from other users: makes it, or its file, readable by this user only.

    A process that has the token runs anything as this user. Nothing is done where the environment
    names another token or turns tokens off, or where the home cannot be written: Ray then says so
    itself.

    Args:
        environ: the process's environment.
    """
    if environ.get("RAY_AUTH_MODE", "token").lower() != "token":
        return
    if environ.get("RAY_AUTH_TOKEN") or environ.get("RAY_AUTH_TOKEN_PATH"):
        return
    path = Path.home() / ".ray" / "auth_token"  # As in ray._private.authentication.
    try:
        path.parent.mkdir(exist_ok=True)
        with contextlib.suppress(FileExistsError):
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with open(descriptor, "w", encoding="ascii") as file:
                file.write(secrets.token_hex(32))
        if path.stat().st_mode & 0o077:
            path.chmod(0o600)
    except OSError as error:
        logger.info("%s: its mode is left as it is: %s", path, error)


def _other_cluster(environ: Mapping[str, str]) -> str | None:
    """Returns the address of a cluster that runs on this machine, or None."""
    address = recorded_address(environ)
    return address if address and accepts_connection(address, NOTICE_TIMEOUT_S) else None


def refreshed(cluster: Cluster) -> Cluster:
    """Returns the same cluster as it is now: nodes may have come or gone.

    Where Ray's control service does not answer, it is returned as it was.
    """
    if cluster.is_fixed or not cluster.connection.is_there():
        return cluster
    return dataclasses.replace(
        _current(cluster.address, cluster.dashboard_url),
        is_started_here=cluster.is_started_here,
        other_address=cluster.other_address,
        connection=cluster.connection,
    )


def placement_group_cluster(num_cpus: float) -> Cluster:
    """Returns what the placement group that this process runs in offers to a run.

    For a run inside a Ray that is already initialized, in an actor whose group captures its
    children, such as a trial of Ray Tune: Ray places the run's own actors in that group.

    Args:
        num_cpus: CPUs of the group that learner, self-play actors and evaluator may reserve.
    """
    group = ray.util.get_current_placement_group()
    assert group is not None, "this process runs in no placement group"
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
        connection=connection_to_ray(is_started_here=False),
    )


def learner_placement_group(config: Config, cluster: Cluster) -> PlacementGroup | None:
    """Reserves resources for the learners that no actor takes while they are restarted.

    They include each learner's part of a GPU, if that is its device. Where Ray has a choice it
    takes the driver's node for a single learner, which the run cannot lose anyway, and few nodes
    for several. Returns at once; Ray places the group, or waits until it can.

    Returns:
        A placement group with a bundle for each learner, to be removed at the end. None where the
        cluster is a placement group itself, with room for the learners.
    """
    if cluster.is_fixed:
        return None
    parts = {"CPU": learner_cpus(config, cluster.num_cpus), "GPU": learner_gpus(config)}
    bundle = {what: amount for what, amount in parts.items() if amount > 0}
    if config.learner.num_learners > 1:
        several: PlacementGroup = placement_group([bundle] * config.learner.num_learners)  # PACK.
        return several
    here = ray.get_runtime_context().get_node_id()
    # The argument is marked experimental; without it Ray chooses any node that has room.
    group: PlacementGroup = placement_group(
        [bundle],
        strategy="STRICT_PACK",
        _soft_target_node_id=here,
    )
    return group


def _current(address: str, dashboard_url: str) -> Cluster:
    """Returns the cluster that this process is connected to, as it is now."""
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


def _physical_memory(address: str, resources: Mapping[str, float]) -> int:
    """Returns the bytes of memory of this machine, or what Ray reports of a joined cluster."""
    if address == "local" and hasattr(os, "sysconf"):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return int(resources.get("memory", 0) + resources.get("object_store_memory", 0))


@contextlib.contextmanager
def _captured_stderr(lines: list[str]) -> Iterator[None]:
    """Redirects the standard error, which Ray's native part writes to, to `lines` and the log."""
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
            lines += file.read().decode(errors="replace").splitlines()
            for line in lines:
                logger.info("ray: %s", line)
