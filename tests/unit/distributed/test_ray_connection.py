"""Connections by which the end of a process is noticed. No Ray is started."""

import socket
from collections.abc import Iterator

import pytest

from keisei_ray.distributed.ray_connection import RETRY_S, HeldConnection, RayConnection
from keisei_ray.errors import ClusterError, RunDirError


class Process:
    """A process that listens, as far as a connection shows it, and a clock."""

    def __init__(self) -> None:
        self.now = 0.0
        self._accepted: list[socket.socket] = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self._address = self.listener.getsockname()

    def hold(self, patience_s: float = 0.0) -> HeldConnection:
        held = HeldConnection(
            "its raylet",
            lambda: socket.create_connection(self._address, 5),
            patience_s=patience_s,
            clock=lambda: self.now,
        )
        self._accepted.append(self.listener.accept()[0])
        return held

    def say(self, content: bytes) -> None:
        self._accepted[-1].sendall(content)

    def hang_up(self) -> None:
        for connection in self._accepted:
            connection.close()

    def end(self) -> None:
        self.listener.close()
        self.hang_up()

    def begin_again(self) -> None:
        self.listener = socket.create_server(self._address)


@pytest.fixture
def process() -> Iterator[Process]:
    found = Process()
    yield found
    found.end()


def test_the_end_of_a_process_is_noticed_at_once(process: Process) -> None:
    held = process.hold()
    process.say(b"settings")
    assert held.is_there()
    assert not held.has_ended()
    process.end()
    assert not held.is_there()
    assert held.has_ended()
    held.close()


def test_a_process_that_only_closes_the_connection_has_not_ended(process: Process) -> None:
    held = process.hold()
    process.hang_up()
    assert held.is_there()
    assert not held.has_ended()
    held.close()


def test_a_process_may_be_away_for_a_while(process: Process) -> None:
    held = process.hold(patience_s=30)
    process.end()
    assert not held.is_there()
    assert not held.has_ended()
    process.now = 29
    assert not held.has_ended()
    process.begin_again()
    assert not held.is_there(), "it is not tried again so soon"
    process.now += RETRY_S
    assert held.is_there()
    process.end()
    process.now += 60
    assert not held.has_ended()
    process.now += 30
    assert held.has_ended()
    held.close()


def test_the_message_names_the_process_and_what_to_do(process: Process) -> None:
    connection = RayConnection([process.hold()], "Go on.")
    connection.check()
    process.end()
    with pytest.raises(ClusterError, match=r"its raylet has ended.* Go on\."):
        connection.check()
    connection.close()


def test_errors_that_follow_from_the_end_of_ray_are_explained_by_it(process: Process) -> None:
    connection = RayConnection([process.hold()])
    with pytest.raises(ValueError, match="a bug"), connection.explaining_errors():
        raise ValueError("a bug")
    process.end()
    with pytest.raises(ClusterError, match="Ray is gone") as gone, connection.explaining_errors():
        raise ValueError("the actor died")
    assert isinstance(gone.value.__cause__, ValueError)
    with pytest.raises(RunDirError), connection.explaining_errors():
        raise RunDirError("the disk is full")
    connection.close()
