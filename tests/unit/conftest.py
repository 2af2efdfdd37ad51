"""The fast lane has no Ray and no network: a test that wants either fails by name."""

import socket
from collections.abc import Iterator
from typing import Any

import pytest

LOOPBACK = ("127.", "::1", "localhost")


@pytest.fixture
def cluster() -> None:
    """Refuses a Ray cluster, which `tests/conftest.py` has for the tests in `tests/ray`."""
    pytest.fail("A test of the fast lane takes the fixture `cluster`: move it to tests/ray.")


@pytest.fixture(autouse=True)
def refused_connections(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """Addresses of other machines that the test tried to reach; servers on loopback are fine."""
    connect = socket.socket.connect
    refused: list[Any] = []

    def checked(self: socket.socket, address: Any) -> None:
        if isinstance(address, tuple) and not str(address[0]).startswith(LOOPBACK):
            refused.append(address)
            raise ConnectionRefusedError(f"no network in the fast lane: {address}")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", checked)
    yield refused
    assert refused == [], "a test of the fast lane reaches for the network"
