"""Why a cluster cannot be started or joined, in one line with what to do."""

import os
import re
import socket
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from keisei_ray.config.checks import without_effect_when_joining
from keisei_ray.config.sections import ClusterConfig
from keisei_ray.distributed.versions import own_versions
from keisei_ray.errors import ClusterError
from keisei_ray.storage.run_dirs import RAY_JOB

CONNECT_TIMEOUT_S = 10.0
"""In which a cluster must accept a connection."""
_RECORDED = re.compile(r"Ray: (\S+)\s+Python: (\S+)")


def choose_address(c: ClusterConfig, environ: Mapping[str, str]) -> str:
    """The cluster to join, `auto` to find one, or `local` to start one.

    Raises:
        ClusterError: a second cluster would be started inside a Ray job, or settings of a cluster
            to start would be ignored because one is joined.
    """
    address = c.address or environ.get("RAY_ADDRESS") or "local"
    if address == "local":
        if RAY_JOB in environ:
            raise ClusterError(
                "cluster.address = local would start a second Ray cluster inside a Ray job, "
                "expected to join the job's own. Leave it out, or run without `ray job submit`."
            )
        return address
    if ignored := without_effect_when_joining(c, f"RAY_ADDRESS = {address}"):
        raise ClusterError(ignored)
    return address


def running_here(environ: Mapping[str, str] = os.environ) -> str | None:
    """Address of the cluster that `ray start` noted last on this machine, running or not."""
    # As in ray._common.utils.get_ray_address_file, which is private.
    temp = environ.get("RAY_TMPDIR") or environ.get("TMPDIR") or "/tmp"
    try:
        noted = Path(temp, "ray", "ray_current_cluster").read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return None
    return noted or None


def is_answered(address: str, timeout_s: float) -> bool:
    """Whether somebody accepts a connection at host:port; blocks no longer than `timeout_s`."""
    try:
        _connect(address, timeout_s)
    except (OSError, ValueError, OverflowError):
        return False
    return True


def check_reachable(
    address: str, environ: Mapping[str, str], find_processes: Callable[[], Collection[str]]
) -> None:
    """Refuses an address where nobody listens; Ray itself would try for minutes, then exit.

    Blocks for at most `CONNECT_TIMEOUT_S` for each address that the host's name has.

    Args:
        address: host:port, `auto` or `local`.
        environ: the process's environment.
        find_processes: addresses of the clusters whose processes run on this machine, asked only
            for `auto`: Ray joins one of them whatever `ray start` has noted.

    Raises:
        ClusterError: it is not host:port, or no connection can be made.
    """
    if address == "local":
        return
    what = f"cluster.address (or RAY_ADDRESS) = {address}"
    if address == "auto":
        noted = environ.get("RAY_ADDRESS") or running_here(environ)
        if noted in (None, "auto", "local") or find_processes():
            return  # Ray says so itself if there is none.
        address = str(noted)
        what = f"{address}, where cluster.address = auto expects a cluster"
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal() or "/" in host:
        raise ClusterError(
            f"cluster.address (or RAY_ADDRESS) = {address!r}, expected host:port, auto or local. "
            "`ray start --head` prints it."
        )
    try:
        _connect(address, CONNECT_TIMEOUT_S)
    except (OSError, OverflowError) as error:
        raise ClusterError(
            f"nobody answers at {what}: {error}. Check it, and that the cluster is up."
        ) from error


def refusal(address: str, error: BaseException, said: str) -> str:
    """Ray's refusal as one line with what to do.

    Args:
        address: that was to be joined, or `local`.
        error: what `ray.init` raised.
        said: what Ray wrote to the standard error meanwhile.
    """
    what = " ".join(str(error).split()) or type(error).__name__
    if (recorded := _RECORDED.search(what)) and "Version mismatch" in what:
        own = own_versions()
        return (
            f"the cluster at {address} runs Ray {recorded[1]} on Python {recorded[2]}, expected "
            f"what this process runs: Ray {own.ray}, Python {own.python}. Install the same in both "
            "places; where only the last number of Python differs, "
            "RAY_DEFAULT_PYTHON_VERSION_MATCH_LEVEL=minor lets it pass."
        )
    if "InvalidAuthToken" in said:
        what = "Authentication token is missing or incorrect."
    text = what.lower()
    if "token" in text or "authentication" in text:
        what = what.partition(" Ensure that")[0]
        todo = (
            "Set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH to the cluster's "
            "token."
        )
    elif "dashboard" in text:
        todo = "Set cluster.dashboard_port to a free port, or cluster.dashboard=false."
    elif "timed out" in text:
        todo = "The machine may be overloaded: try again when it has less to do."
    elif address == "local":
        todo = (
            "If an earlier Ray was killed here, run `ray stop`; to join a running cluster set "
            "cluster.address."
        )
    else:
        todo = "Check cluster.address (or RAY_ADDRESS), and that the cluster is up."
    where = "start here" if address == "local" else f"join the cluster at {address}"
    return f"Ray did not {where}: {what[:400]} {todo}"


def foreign_token(error: BaseException) -> ClusterError | None:
    """What Ray makes of a token on a cluster that uses none, or None if `error` is about something
    else: it lets the driver join, cannot ask it for its actors, and takes them for given up."""
    text = str(error)
    if "all references to the actor were removed" not in text or "never ran" not in text:
        return None
    return ClusterError(
        "the cluster has given up an actor that this process still wants, as it does where a token "
        "is used against a cluster without token authentication. Start the cluster with "
        "RAY_AUTH_MODE=token and the same token, or set RAY_AUTH_MODE=disabled here."
    )


def _connect(address: str, timeout_s: float) -> None:
    host, _, port = address.removeprefix("ray://").rpartition(":")
    socket.create_connection((host.strip("[]"), int(port)), timeout_s).close()
