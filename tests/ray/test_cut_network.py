"""A node that the network cuts off and that comes back, at addresses of its own.

Head and node live in two network namespaces with one cable between them, so that pulling the
cable cuts the node off as in a data center: no side closes its connections.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.subscribers import BRAKE
from tests.helpers.watched_training import NOTICES_DEATHS_SOON, WatchedTraining, ended_after

pytestmark = [pytest.mark.ray, pytest.mark.long]

HEAD, NODE = "keisei-head", "keisei-node"
ADDRESS = {HEAD: "10.77.0.1", NODE: "10.77.0.2"}
START_TIMEOUT_S = 120.0


def ip(*arguments: str) -> int:
    return subprocess.run(["ip", *arguments], capture_output=True, check=False).returncode


def pull_namespaces_down() -> None:
    for name in (HEAD, NODE):
        ip("netns", "del", name)


@pytest.fixture
def network() -> Iterator[None]:
    """Two namespaces with a cable; gone again afterwards."""
    if os.name != "posix" or shutil.which("ip") is None or os.geteuid() != 0:
        pytest.skip("network namespaces need Linux, ip and root")
    pull_namespaces_down()
    try:
        if ip("netns", "add", HEAD) or ip("netns", "add", NODE):
            pytest.skip("this system does not let us make network namespaces")
        if ip("-n", HEAD, "link", "add", "cable", "type", "veth", "peer", "cable", "netns", NODE):
            pytest.skip("this system has no veth links")
        for name in (HEAD, NODE):
            assert ip("-n", name, "addr", "add", f"{ADDRESS[name]}/24", "dev", "cable") == 0
            for device in ("lo", "cable"):
                assert ip("-n", name, "link", "set", device, "up") == 0
        yield
    finally:
        pull_namespaces_down()


class Nodes:
    """Ray on both sides."""

    def __init__(self) -> None:
        self.temp_dir = tempfile.mkdtemp(prefix="kr")  # Sockets allow for short paths only.
        self.processes: list[subprocess.Popen[bytes]] = []

    def start_head(self) -> None:
        """Starts the head, and waits until it can be joined."""
        self.start(
            HEAD, "--head", "--port=6379", "--include-dashboard=false",
            f"--temp-dir={self.temp_dir}",
        )  # fmt: skip
        self._wait_for_head()

    def _wait_for_head(self) -> None:
        """Waits until the head accepts connections: a run waits only ten seconds for that."""
        connect = f"import socket; socket.create_connection(({ADDRESS[HEAD]!r}, 6379), 1)"
        deadline = time.monotonic() + START_TIMEOUT_S
        while ip("netns", "exec", HEAD, sys.executable, "-c", connect):
            assert self.processes[0].poll() is None, "the head has ended"
            assert time.monotonic() < deadline, "the head does not come up"

    def start(self, name: str, *arguments: str) -> "subprocess.Popen[bytes]":
        ray = Path(sys.executable).with_name("ray")
        process = subprocess.Popen(
            [
                *("ip", "netns", "exec", name, str(ray), "start", "--block", "--num-cpus=2"),
                *("--object-store-memory=100000000", "--disable-usage-stats"),
                *(f"--node-ip-address={ADDRESS[name]}", *arguments),
            ],
            env=os.environ | NOTICES_DEATHS_SOON | {"RAY_AUTH_MODE": "disabled"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self.processes.append(process)
        return process

    def join(self) -> "subprocess.Popen[bytes]":
        return self.start(NODE, f"--address={ADDRESS[HEAD]}:6379")

    def end(self) -> None:
        for process in self.processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        shutil.rmtree(self.temp_dir, ignore_errors=True)


@pytest.fixture
def ray_nodes(network: None) -> Iterator[Nodes]:
    nodes = Nodes()
    try:
        nodes.start_head()
        yield nodes
    finally:
        nodes.end()


def test_a_node_that_is_cut_off_costs_its_work_in_flight_and_is_used_again_when_it_returns(
    ray_nodes: Nodes, tmp_path: Path
) -> None:
    with ended_after(
        WatchedTraining(
            f"{ADDRESS[HEAD]}:6379", tmp_path / "run", "--num-actors", "auto",
            "--set", f"tracking.subscribers=[{BRAKE}]",
            before=("ip", "netns", "exec", HEAD),
        )
    ) as run:  # fmt: skip
        run.wait_until(lambda r: r["update"] >= 2)
        node = ray_nodes.join()
        run.wait_until(lambda r: r["actors_alive"] == 3)
        nodes_of_actors = {e["node"] for e in run.events("actor_ready")}
        assert nodes_of_actors == set(ADDRESS.values())
        assert ip("-n", NODE, "link", "set", "cable", "down") == 0
        run.wait_until(lambda r: r["actors_alive"] == 1 and run.sizes()[-1] == (2, 1))
        assert ip("-n", NODE, "link", "set", "cable", "up") == 0
        # Ray has declared it dead: it ends when it learns so, and must be started again.
        node.wait(timeout=180)
        ray_nodes.join()
        run.wait_until(lambda r: r["actors_alive"] == 3)
        assert run.sizes() == [(2, 1), (4, 3), (2, 1), (4, 3)]
