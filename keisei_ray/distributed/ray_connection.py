"""Notices that the two Ray processes without which a driver cannot go on have ended.

They are the raylet of the driver's node, with the object store, and the cluster's control service
(GCS). Left to itself, Ray reports the end of a raylet after 15 s, as the death of every actor. It
does not report the end of the control service: calls of it do not return, and after 60 s Ray ends
the driver's process with all that has not been saved.

So a connection to each of the two is held open. The kernel closes it when the process at its other
end dies. Closed connections are opened again: the control service closes them every two minutes,
since nothing is ever sent on them, and one that has ended may be restarted (fault tolerance of the
control service, of clusters that are joined).
"""

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Final

import ray

from keisei_ray.distributed.address import open_connection
from keisei_ray.errors import ClusterError, UserError

CONNECT_TIMEOUT_S: Final = 1.0
RETRY_S: Final = 1.0
"""Seconds between two attempts to open a connection again."""
RAY_PATIENCE_S: Final = 60.0
"""Seconds after which Ray ends a driver that does not reach the control service, if the environment
does not say otherwise."""


class HeldConnection:
    """A connection that is held open only to notice the end of the process at its other end."""

    def __init__(
        self,
        what: str,
        connect: Callable[[], socket.socket],
        *,
        patience_s: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Opens the connection.

        Args:
            what: name of the process for messages.
            connect: opens a connection.
            patience_s: seconds for which the process may be away.
            clock: monotonic seconds.

        Raises:
            OSError: it cannot be opened.
        """
        self.what = what
        self._connect = connect
        self._patience_s = patience_s
        self._clock = clock
        self._lost_at: float | None = None
        """Time at which the process was found away; None while it is there."""
        self._retry_at = 0.0
        self._socket = connect()
        self._socket.setblocking(False)

    def is_there(self) -> bool:
        """Returns whether the process is there. Costs a system call."""
        if self._lost_at is None and _is_open(self._socket):
            return True
        now = self._clock()
        if self._lost_at is None:
            self._lost_at = now
        elif now < self._retry_at:
            return False
        self._retry_at = now + RETRY_S
        self._socket.close()
        try:
            self._socket = self._connect()
        except OSError:
            return False
        self._socket.setblocking(False)
        self._lost_at = None
        return True

    def has_ended(self) -> bool:
        """Returns whether the process has been away for too long."""
        if self.is_there() or self._lost_at is None:
            return False
        return self._clock() - self._lost_at >= self._patience_s

    def close(self) -> None:
        """Closes the connection."""
        self._socket.close()


class RayConnection:
    """The connections of a driver to Ray's processes. For several threads."""

    def __init__(self, held: Sequence[HeldConnection] = (), remedy: str = "") -> None:
        """Takes over the connections.

        Args:
            held: one for each process; none: nothing is noticed.
            remedy: what to do when one has ended, as a sentence.
        """
        self._held = held
        self._remedy = remedy
        self._lock = threading.Lock()

    def is_there(self) -> bool:
        """Returns whether all processes are there, so that calls of the control service return."""
        with self._lock:
            return all(connection.is_there() for connection in self._held)

    def check(self) -> None:
        """Checks that Ray is still there.

        Raises:
            ClusterError: a process has ended.
        """
        with self._lock:
            ended = [connection.what for connection in self._held if connection.has_ended()]
        if ended:
            raise ClusterError(
                f"Ray is gone: {ended[0]} has ended, killed or out of memory. What was learned up "
                f"to the last finished update is saved. {self._remedy}"
            )

    @contextlib.contextmanager
    def explaining_errors(self) -> Iterator[None]:
        """Replaces an error inside the block by that of `check` where Ray is gone."""
        try:
            yield
        except UserError:
            raise
        except Exception as error:
            try:
                self.check()
            except ClusterError as gone:
                raise gone from error
            raise

    def close(self) -> None:
        """Closes the connections."""
        for connection in self._held:
            connection.close()


def connection_to_ray(
    *, is_started_here: bool, environ: Mapping[str, str] = os.environ
) -> RayConnection:
    """Opens connections to the Ray that this process is connected to.

    Args:
        is_started_here: whether this process has started it. The control service of one that was
            joined may be away for half of the time after which Ray gives up.
        environ: the process's environment, which Ray's processes have too.
    """
    node: Any = ray._private.worker._global_node  # Ray has no public name for the addresses.
    if node is None:  # Ray's client: its server, elsewhere, is connected to Ray.
        return RayConnection()
    ray_s = float(environ.get("RAY_gcs_rpc_server_reconnect_timeout_s", RAY_PATIENCE_S))
    held = []
    with contextlib.suppress(OSError):
        held.append(
            HeldConnection(
                "its raylet on this machine", partial(_open_local, str(node.raylet_socket_name))
            )
        )
    with contextlib.suppress(OSError):
        held.append(
            HeldConnection(
                f"its control service at {node.gcs_address}",
                partial(_open_kept_alive, str(node.gcs_address)),
                patience_s=0.0 if is_started_here else ray_s / 2,
            )
        )
    remedy = "Go on with --resume latest."
    if not is_started_here:
        remedy = "Start Ray again, then go on with --resume latest."
    return RayConnection(held, remedy)


def _is_open(connection: socket.socket) -> bool:
    """Returns whether the other end has not closed a connection; drops what it sent."""
    try:
        while connection.recv(4096):
            pass
    except BlockingIOError:
        return True
    except OSError:
        pass
    return False


def _open_local(path: str) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.settimeout(CONNECT_TIMEOUT_S)
        connection.connect(path)
    except OSError:
        connection.close()
        raise
    return connection


def _open_kept_alive(address: str) -> socket.socket:
    """Opens a connection that the kernel closes within 20 s if the other machine is out of reach.

    Raises:
        OSError: it cannot be opened.
    """
    connection = open_connection(address, CONNECT_TIMEOUT_S)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if hasattr(socket, "TCP_KEEPIDLE"):
        for option, value in (
            (socket.TCP_KEEPIDLE, 5),
            (socket.TCP_KEEPINTVL, 5),
            (socket.TCP_KEEPCNT, 3),
        ):
            connection.setsockopt(socket.IPPROTO_TCP, option, value)
    return connection
