"""Runs on a Ray cluster as records, and which of them the user means. No Ray here."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath

from keisei_ray.errors import RunDirError


@dataclass(frozen=True)
class ClusterRun:
    """Newest session of a run that was started on the cluster."""

    run_dir: str
    """Absolute path on the driver's node."""
    job_id: str
    """Ray's id of the job, in hex."""
    node_id: str
    """Ray's id of the driver's node, in hex."""
    node: str
    """Address of the driver's node."""
    pid: int
    """Process id of the driver."""
    is_alive: bool
    """Whether the driver is connected to the cluster."""
    started_s: float
    """Seconds since 1970."""
    ended_s: float | None
    """When the driver left; None while it is alive."""

    @property
    def name(self) -> str:
        """Last part of the run's directory."""
        return PurePath(self.run_dir).name


@dataclass(frozen=True)
class ClusterState:
    """State of a run that its cluster knows and its files do not."""

    address: str
    """Address of the cluster."""
    num_nodes: int
    num_cpus: int
    num_gpus: int
    driver_node: str
    """Address of the driver's node."""
    driver_pid: int
    driver_alive: bool
    """Whether the driver is connected to the cluster."""
    self_play_actors: int
    """Number of self-play actors that Ray reports as alive; likewise the next two."""
    learners: int
    evaluators: int


def newest_sessions(runs: Sequence[ClusterRun]) -> list[ClusterRun]:
    """Returns one run for each directory, the one started last.

    Runs that are alive come first; within both groups the newest comes first.
    """
    newest: dict[tuple[str, str], ClusterRun] = {}
    for run in sorted(runs, key=lambda r: r.started_s):
        newest[run.node, run.run_dir] = run
    return sorted(newest.values(), key=lambda r: (not r.is_alive, -r.started_s))


def matching_runs(runs: Sequence[ClusterRun], named: str | None, address: str) -> list[ClusterRun]:
    """Returns the runs that a name means.

    Args:
        runs: all runs of the cluster.
        named: the end of the path of a run's directory, one part or more; None: all runs.
        address: the cluster's, for messages.

    Returns:
        At least one run. Of several with the name only those that are alive, if any is.

    Raises:
        RunDirError: there is no such run.
    """
    if not runs:
        raise RunDirError(
            f"no run has been started on the cluster at {address}, expected at least one. Start "
            "one by `train --address`, or leave --address out to see a directory of this machine."
        )
    if named is None:
        return list(runs)
    parts = PurePath(named).parts
    fits = [r for r in runs if parts and PurePath(r.run_dir).parts[-len(parts) :] == parts]
    if not fits:
        names = ", ".join(dict.fromkeys(r.name for r in runs))
        raise RunDirError(
            f"the cluster at {address} has no run {named}, expected one of {names}. Name one of "
            "them, or none to see all."
        )
    return [r for r in fits if r.is_alive] or fits


def one_run(runs: Sequence[ClusterRun], named: str | None, address: str) -> ClusterRun:
    """Returns the run that a name means; without a name the only one alive, or the only one.

    Raises:
        RunDirError: there is no such run, or more than one.
    """
    fits = matching_runs(runs, named, address)
    fits = [r for r in fits if r.is_alive] or fits
    if len(fits) > 1:
        places = ", ".join(f"{r.run_dir} on {r.node}" for r in fits)
        raise RunDirError(
            f"the cluster at {address} has {len(fits)} runs, expected one to be named: {places}. "
            "Name one by as much of its path as tells it from the others."
        )
    return fits[0]
