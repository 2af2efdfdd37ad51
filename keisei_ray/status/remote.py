"""The `status` and `watch` commands for a run on a Ray cluster, from any of its nodes.

A run's driver writes its directory into the metadata of its Ray job (`cluster.connect`). Ray keeps
the table of jobs, ended ones included, as long as its head node is up. The files are read by an
actor on the driver's node, which reserves nothing and ends with this process. The run is not
affected.
"""

import contextlib
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, Final

import ray
from ray._private import state as ray_state
from ray._private import worker as ray_worker
from ray.exceptions import GetTimeoutError, RayError
from rich.console import Console

from keisei_ray.config.schema import Config
from keisei_ray.distributed.actors import (
    EvaluationShell,
    LearnerShell,
    SelfPlayShell,
    new_pinned_actor,
)
from keisei_ray.distributed.cluster import RUN_DIR_KEY, Cluster, connect
from keisei_ray.distributed.ray_errors import remote_cause
from keisei_ray.errors import ClusterError, ConfigError, UserError
from keisei_ray.status.cluster_records import (
    ClusterRun,
    ClusterState,
    matching_runs,
    newest_sessions,
    one_run,
)
from keisei_ray.status.command import draw_status, watch_reader
from keisei_ray.status.follow import TimedEvent
from keisei_ray.status.liveness import Liveness
from keisei_ray.status.reader import LocalRunReader, StatusReader
from keisei_ray.status.run_status import Status, as_json, with_cluster
from keisei_ray.status.screen import runs_table
from keisei_ray.tracking.terminal.view_state import ViewState

ANSWER_S: Final = 60.0
"""Time limit for an answer of a node, where a reading process must be started first."""
MAX_READ: Final = 20
"""Rows of a table for which ended runs' files are read; those of live runs always are."""
NAMESPACE: Final = "keisei_ray_status"


def show_status(address: str, named: str | None, console: Console) -> dict[str, object]:
    """Draws the status of a run on a cluster, or a table where the name fits several runs.

    Args:
        address: the cluster's.
        named: the end of the path of a run's directory; None: all runs.
        console: where to draw.

    Returns:
        The same as JSON types: a status, or `runs`, a list of them.

    Raises:
        UserError: there is no such run, or the cluster, the run or its files cannot be reached.
    """
    with _joined(address) as cluster:
        return draw_runs(matching_runs(all_runs(), named, cluster.address), cluster, console)


def draw_runs(runs: Sequence[ClusterRun], cluster: Cluster, console: Console) -> dict[str, object]:
    """Draws these runs of a cluster that this process has joined; see `show_status`."""
    if len(runs) == 1:
        status = with_cluster(RemoteRunReader(runs[0]).status(), cluster_state(cluster, runs[0]))
        draw_status(status, console)
        return as_json(status)
    rows = [
        (run, with_cluster(status, cluster_state(cluster, run)) if status else None)
        for run, status in zip(runs, _statuses(runs), strict=True)
    ]
    for line in runs_table(rows, time.time()):
        console.print(line, soft_wrap=True)
    return {
        "runs": [
            {
                "run_dir": run.run_dir,
                "driver_node": run.node,
                "driver_pid": run.pid,
                "driver_alive": run.is_alive,
                "status": as_json(status) if status else None,
            }
            for run, status in rows
        ]
    }


def watch(address: str, named: str | None, console: Console) -> None:
    """Shows a run on a cluster as its own terminal does. Blocks until it ends, or until Ctrl-C.

    Args:
        address: the cluster's.
        named: the end of the path of the run's directory; None: the only run.
        console: where to draw.

    Raises:
        UserError: as for `show_status`; also if the run's node leaves the cluster meanwhile.
    """
    with _joined(address) as cluster:
        run = one_run(all_runs(), named, cluster.address)
        watch_reader(RemoteRunReader(run), console)


def all_runs() -> list[ClusterRun]:
    """Returns every run that was started on the cluster that this process has joined.

    Runs that are alive come first. Ray's public `list_jobs` asks the dashboard, which a cluster
    need not have, and leaves out the metadata of drivers that `ray job submit` started; so the
    table of jobs itself is read.
    """
    worker: Any = ray_worker.global_worker
    jobs = worker.gcs_client.get_all_job_info(
        skip_submission_job_info_field=True, skip_is_running_tasks_field=True
    )
    return newest_sessions(
        [
            ClusterRun(
                run_dir=run_dir,
                job_id=job.job_id.hex(),
                node_id=job.driver_address.node_id.hex(),
                node=job.driver_address.ip_address,
                pid=job.driver_pid,
                is_alive=not job.is_dead,
                started_s=job.start_time / 1000,
                ended_s=job.end_time / 1000 if job.is_dead else None,
            )
            for job in jobs.values()
            if (run_dir := job.config.metadata.get(RUN_DIR_KEY))
        ]
    )


def cluster_state(cluster: Cluster, run: ClusterRun) -> ClusterState:
    """Returns the state of a run on the cluster that this process has joined."""
    job_id = ray.JobID(bytes.fromhex(run.job_id))
    alive = ray_state.actors(job_id=job_id, actor_state_name="ALIVE")
    kinds = Counter(actor["ActorClassName"] for actor in alive.values())
    return ClusterState(
        address=cluster.address,
        num_nodes=cluster.num_nodes,
        num_cpus=int(cluster.num_cpus),
        num_gpus=cluster.num_gpus,
        driver_node=run.node,
        driver_pid=run.pid,
        driver_alive=run.is_alive,
        self_play_actors=kinds[SelfPlayShell.__name__],
        learners=kinds[LearnerShell.__name__],
        evaluators=kinds[EvaluationShell.__name__],
    )


class NodeReader:
    """Handle of an actor that reads files on a run's node; it ends with this process."""

    def __init__(self, reader: type, *arguments: object, run: ClusterRun) -> None:
        """Starts the actor and does not wait for it.

        Args:
            reader: class of the object that the actor holds.
            arguments: arguments of its constructor.
            run: run on whose driver's node the actor is placed.
        """
        self._run = run
        self._handle = new_pinned_actor(reader, *arguments, node_id=run.node_id)

    def ask(self, method: str, *arguments: object) -> Any:
        """Returns the result of a method of the reader. Blocks for at most ANSWER_S.

        Raises:
            UserError: the method raised it, or the node cannot answer.
        """
        run = self._run
        try:
            return ray.get(getattr(self._handle, method).remote(*arguments), timeout=ANSWER_S)
        except GetTimeoutError as error:
            raise ClusterError(
                f"node {run.node} did not answer within {ANSWER_S:g} s, expected what is in "
                f"{run.run_dir}. It may be overloaded: try again."
            ) from error
        except RayError as error:
            cause = remote_cause(error)
            if isinstance(cause, UserError):
                raise type(cause)(f"on node {run.node}: {cause}") from error
            nodes = ray.nodes()
            if not any(node["Alive"] and node["NodeID"] == run.node_id for node in nodes):
                raise ClusterError(
                    f"node {run.node} has left the cluster, expected {run.run_dir} on it. "
                    "If its disk is still there, look at the directory without --address."
                ) from error
            what = " ".join(str(cause).split()) or type(cause).__name__
            raise ClusterError(
                f"node {run.node} cannot read {run.run_dir}: {what[-400:]} "
                "Install this version of Keisei Ray there too."
            ) from error


class RemoteRunReader:
    """A `RunReader` of a run on a cluster, whose files are on another machine.

    It raises the errors of `LocalRunReader` and of `NodeReader.ask`.
    """

    def __init__(self, run: ClusterRun, reader: type = LocalRunReader) -> None:
        """Starts an actor on the run's node.

        Args:
            run: the run to read.
            reader: class of the object that reads its files there.
        """
        self._reader = NodeReader(reader, run.run_dir, run=run)

    def status(self) -> Status:
        """Returns the state of the run at this moment."""
        status: Status = self._reader.ask("status")
        return status

    def poll(self) -> list[TimedEvent]:
        """Returns the events since the last call, oldest first."""
        events: list[TimedEvent] = self._reader.ask("poll")
        return events

    def liveness(self, view_state: ViewState) -> Liveness:
        """Returns the signs of life of a run whose view state is `view_state`."""
        liveness: Liveness = self._reader.ask("liveness", view_state)
        return liveness


def _statuses(runs: Sequence[ClusterRun]) -> list[Status | None]:
    """Returns the status of each run; None where it is old or cannot be read.

    One actor on each node reads all its runs. A node that cannot answer does not hide the others.
    """
    found: dict[ClusterRun, Status | None] = {}
    by_node: dict[str, list[ClusterRun]] = {}
    for index, run in enumerate(runs):
        if run.is_alive or index < MAX_READ:
            by_node.setdefault(run.node_id, []).append(run)
    readers = {node: NodeReader(StatusReader, run=here[0]) for node, here in by_node.items()}
    for node, here in by_node.items():
        try:
            statuses = readers[node].ask("statuses", [run.run_dir for run in here])
        except UserError:
            continue
        found.update(zip(here, statuses, strict=True))
    return [found.get(run) for run in runs]


@contextlib.contextmanager
def _joined(address: str) -> Iterator[Cluster]:
    """Joins the cluster at an address; none is started."""
    if address == "local" or "://" in address:
        raise ConfigError(
            f"--address {address}: expected HOST:PORT of a cluster that this machine is a node "
            "of, or auto. `ray start --address=HOST:PORT --num-cpus=0` makes it one."
        )
    config = Config.model_validate({"cluster": {"address": address}})
    with connect(config, namespace=NAMESPACE) as cluster:
        yield cluster
