"""Runs on a Ray cluster as records: which there are, which one is meant. No Ray here."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath

from keisei_ray.errors import RunDirError


@dataclass(frozen=True)
class ClusterRun:
    """A run that was started on the cluster, in its newest session."""

    run_dir: str
    """Absolute, on the driver's node."""
    job_id: str
    """Ray's, in hex."""
    node_id: str
    """Of the driver's node, Ray's, in hex."""
    node: str
    """Address of that node."""
    pid: int
    """Of the driver."""
    is_alive: bool
    """Whether the driver is connected to the cluster."""
    started_s: float
    """Seconds since 1970."""
    ended_s: float | None
    """When the driver left; None while it is alive."""

    @property
    def name(self) -> str:
        """Last part of its directory."""
        return PurePath(self.run_dir).name


@dataclass(frozen=True)
class OnCluster:
    """What the cluster knows of a run and its files do not."""

    address: str
    num_nodes: int
    num_cpus: int
    num_gpus: int
    driver_node: str
    """Address of the driver's node."""
    driver_pid: int
    driver_alive: bool
    """Whether the driver is connected to the cluster."""
    self_play_actors: int
    """Processes that Ray says are alive."""
    learners: int
    evaluators: int


def newest_sessions(runs: Sequence[ClusterRun]) -> list[ClusterRun]:
    """One of each directory, the one started last; alive ones first, then by their start."""
    newest: dict[tuple[str, str], ClusterRun] = {}
    for run in sorted(runs, key=lambda r: r.started_s):
        newest[run.node, run.run_dir] = run
    return sorted(newest.values(), key=lambda r: (not r.is_alive, -r.started_s))


def choose(runs: Sequence[ClusterRun], named: str | None, address: str) -> list[ClusterRun]:
    """The runs that are meant: those of that name, or all.

    Args:
        runs: of the cluster.
        named: the end of its directory's path, one part or more; None: any.
        address: of the cluster.

    Returns:
        At least one; of several with the name the alive ones, if there are any.

    Raises:
        RunDirError: there is none.
    """
    if not runs:
        raise RunDirError(
            f"no run has been started on the cluster at {address}, expected one to look at. Start "
            "one there by `train --address`, or see a directory here without --address."
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


def choose_one(runs: Sequence[ClusterRun], named: str | None, address: str) -> ClusterRun:
    """The run that is meant; without a name the only one that is alive, or the only one.

    Raises:
        RunDirError: there is none, or more than one.
    """
    fits = choose(runs, named, address)
    fits = [r for r in fits if r.is_alive] or fits
    if len(fits) > 1:
        places = ", ".join(f"{r.run_dir} on {r.node}" for r in fits)
        raise RunDirError(
            f"the cluster at {address} has {len(fits)} runs, expected one to be named: {places}. "
            "Name one by as much of its path as tells it from the others."
        )
    return fits[0]
