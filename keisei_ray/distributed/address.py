"""The address of the cluster: which one a process joins, and whether a cluster answers there.

Ray itself tries for minutes to reach an address where nothing listens, and then ends the process.
These checks come first and take seconds.
"""

import os
import socket
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from keisei_ray.config.checks import without_effect_when_joining
from keisei_ray.config.sections import ClusterConfig
from keisei_ray.errors import ClusterError
from keisei_ray.storage.run_dirs import RAY_JOB

CONNECT_TIMEOUT_S = 10.0
"""Seconds within which a cluster must accept a connection."""


def choose_address(c: ClusterConfig, environ: Mapping[str, str]) -> str:
    """Returns the address to join, `auto` to find one, or `local` to start a cluster.

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


def recorded_address(environ: Mapping[str, str] = os.environ) -> str | None:
    """Returns the address that `ray start` recorded last on this machine.

    The cluster there may have ended since. None: no address is recorded.
    """
    # As in ray._common.utils.get_ray_address_file, which is private.
    temp = environ.get("RAY_TMPDIR") or environ.get("TMPDIR") or "/tmp"
    try:
        recorded = Path(temp, "ray", "ray_current_cluster").read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return None
    return recorded or None


def accepts_connection(address: str, timeout_s: float) -> bool:
    """Whether a process accepts a connection at host:port; blocks no longer than `timeout_s`."""
    try:
        open_connection(address, timeout_s).close()
    except (OSError, ValueError, OverflowError):
        return False
    return True


def check_reachable(
    address: str, environ: Mapping[str, str], find_clusters: Callable[[], Collection[str]]
) -> None:
    """Refuses an address where no cluster answers.

    Blocks for at most `CONNECT_TIMEOUT_S` for each address that the host's name has.

    Args:
        address: host:port, `auto` or `local`.
        environ: the process's environment.
        find_clusters: returns the addresses of the clusters whose processes run on this machine.
            Called only for `auto`: Ray joins one of them, whatever `ray start` has recorded.

    Raises:
        ClusterError: it is not host:port, or no connection can be made.
    """
    if address == "local":
        return
    what = f"cluster.address (or RAY_ADDRESS) = {address}"
    if address == "auto":
        recorded = environ.get("RAY_ADDRESS") or recorded_address(environ)
        if recorded in (None, "auto", "local") or find_clusters():
            return  # Ray says so itself if there is none.
        address = str(recorded)
        what = f"{address}, where cluster.address = auto expects a cluster"
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal() or "/" in host:
        raise ClusterError(
            f"cluster.address (or RAY_ADDRESS) = {address!r}, expected host:port, auto or local. "
            "`ray start --head` prints it."
        )
    try:
        open_connection(address, CONNECT_TIMEOUT_S).close()
    except (OSError, OverflowError, ValueError) as error:
        raise ClusterError(
            f"no cluster answers at {what}: {error}. Check the address, and that the cluster is up."
        ) from error


def open_connection(address: str, timeout_s: float) -> socket.socket:
    """Opens a connection to host:port; blocks no longer than `timeout_s`.

    Raises:
        OSError: it cannot be opened.
        ValueError, OverflowError: the port is none, or the host cannot be one.
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    return socket.create_connection((host.strip("[]"), int(port)), timeout_s)
