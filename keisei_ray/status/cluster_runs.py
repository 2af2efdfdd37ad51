"""The runs on a Ray cluster, seen from any of its nodes: `status` and `watch` by address.

A run's driver writes where it lies into the metadata of its Ray job (`cluster.connect`); Ray
keeps the table of jobs as long as its head lives, ended ones too. Files are read by an actor on
the driver's node that reserves nothing and ends with this process. The run does not notice.
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
    remote_cause,
)
from keisei_ray.distributed.cluster import RUN_DIR_KEY, Cluster, connect
from keisei_ray.errors import ClusterError, ConfigError, UserError
from keisei_ray.status.command import draw, watch_reader
from keisei_ray.status.follow import Happened
from keisei_ray.status.life import Life
from keisei_ray.status.on_cluster import ClusterRun, OnCluster, choose, choose_one, newest_sessions
from keisei_ray.status.reader import RunReader, StatusReader
from keisei_ray.status.show import table
from keisei_ray.status.state import Status, as_json, with_cluster
from keisei_ray.tracking.terminal.view_state import ViewState

ANSWER_S: Final = 60.0
"""In which a node must answer; a process that reads must be started there first."""
MAX_READ: Final = 20
"""Rows of a table whose files are read; those of runs that go on are in any case."""
NAMESPACE: Final = "keisei_ray_status"


def show_status(address: str, named: str | None, console: Console) -> dict[str, object]:
    """Draws one screen about a run on a cluster, or a table where several may be meant.

    Args:
        address: of the cluster.
        named: the end of the path of the run's directory; None: any.
        console: where to draw.

    Returns:
        What was drawn, as JSON's types: a status, or `runs`, a list of them.

    Raises:
        UserError: the cluster, the run or its files are out of reach, or there is none.
    """
    with _joined(address) as cluster:
        return draw_runs(choose(all_runs(), named, cluster.address), cluster, console)


def draw_runs(runs: Sequence[ClusterRun], cluster: Cluster, console: Console) -> dict[str, object]:
    """`show_status` of these runs, on a cluster that has been joined."""
    if len(runs) == 1:
        status = with_cluster(RemoteRun(runs[0]).status(), on_cluster(cluster, runs[0]))
        draw(status, console)
        return as_json(status)
    rows = [
        (run, with_cluster(status, on_cluster(cluster, run)) if status else None)
        for run, status in zip(runs, _statuses(runs), strict=True)
    ]
    for line in table(rows, time.time()):
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
        address: of the cluster.
        named: the end of the path of the run's directory; None: the only one.
        console: where to draw.

    Raises:
        UserError: as `show_status`; also if a node goes away meanwhile.
    """
    with _joined(address) as cluster:
        run = choose_one(all_runs(), named, cluster.address)
        watch_reader(RemoteRun(run), console)


def all_runs() -> list[ClusterRun]:
    """Every run that was started on the cluster that this process has joined; alive ones first.

    Ray's public `list_jobs` asks the dashboard, which a cluster need not have, and leaves out the
    metadata of drivers that `ray job submit` started; so the table itself is read.
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


def on_cluster(cluster: Cluster, run: ClusterRun) -> OnCluster:
    """What the cluster says of a run."""
    job_id = ray.JobID(bytes.fromhex(run.job_id))
    alive = ray_state.actors(job_id=job_id, actor_state_name="ALIVE")
    kinds = Counter(actor["ActorClassName"] for actor in alive.values())
    return OnCluster(
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


class Guest:
    """An object at work on a node of the cluster; it ends with this process's connection."""

    def __init__(self, guest: type, *arguments: object, run: ClusterRun) -> None:
        """Asks for it, and does not wait.

        Args:
            guest: its class.
            arguments: of its constructor.
            run: on whose driver's node.
        """
        self._run = run
        self._handle = new_pinned_actor(guest, *arguments, node_id=run.node_id)

    def ask(self, method: str, *arguments: object) -> Any:
        """What a method of it returns. Blocks for at most ANSWER_S.

        Raises:
            UserError: as the method, or the node cannot answer.
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


class RemoteRun:
    """A `status.reader.Reader` of a run whose files lie on another machine.

    Errors are those of `RunReader` and of `Guest.ask`.
    """

    def __init__(self, run: ClusterRun, reader: type = RunReader) -> None:
        """Asks for a process on the run's node.

        Args:
            run: whose files to read.
            reader: what reads them there.
        """
        self._guest = Guest(reader, run.run_dir, run=run)

    def status(self) -> Status:
        """As `RunReader.status`."""
        status: Status = self._guest.ask("status")
        return status

    def poll(self) -> list[Happened]:
        """As `RunReader.poll`."""
        happened: list[Happened] = self._guest.ask("poll")
        return happened

    def life(self, view_state: ViewState) -> Life:
        """As `RunReader.life`."""
        life: Life = self._guest.ask("life", view_state)
        return life


def _statuses(runs: Sequence[ClusterRun]) -> list[Status | None]:
    """Of each run, by one process on each node; None where it is too old or cannot be read.

    One row of a table must not hide the others.
    """
    found: dict[ClusterRun, Status | None] = {}
    by_node: dict[str, list[ClusterRun]] = {}
    for index, run in enumerate(runs):
        if run.is_alive or index < MAX_READ:
            by_node.setdefault(run.node_id, []).append(run)
    guests = {node_id: Guest(StatusReader, run=here[0]) for node_id, here in by_node.items()}
    for node_id, here in by_node.items():
        try:
            statuses = guests[node_id].ask("statuses", [run.run_dir for run in here])
        except UserError:
            continue
        found.update(zip(here, statuses, strict=True))
    return [found.get(run) for run in runs]


@contextlib.contextmanager
def _joined(address: str) -> Iterator[Cluster]:
    """The cluster at an address, which is not started if there is none."""
    if address == "local" or "://" in address:
        raise ConfigError(
            f"--address {address}: expected HOST:PORT of a cluster that this machine is a node "
            "of, or auto. `ray start --address=HOST:PORT --num-cpus=0` makes it one."
        )
    config = Config.model_validate({"cluster": {"address": address}})
    with connect(config, namespace=NAMESPACE) as cluster:
        yield cluster
