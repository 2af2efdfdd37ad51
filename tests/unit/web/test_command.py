"""The command `web`: a process that serves, and ends at once and wholly when it is told to."""

import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from keisei_ray.cli import main
from keisei_ray.web.command import access_for, address
from tests.helpers.report_runs import write_run

ROOT = Path(__file__).parents[3]


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    return write_run(tmp_path / "runs" / "first", updates=3)


@pytest.mark.slow
def test_ctrl_c_ends_it_while_clients_are_connected(run_dir: Path) -> None:
    server = subprocess.Popen(
        [sys.executable, ROOT / "run.py", "web", run_dir, "--port", "0"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        _end_while_clients_are_connected(server)
    finally:
        server.kill()
        server.communicate()


def _end_while_clients_are_connected(server: "subprocess.Popen[str]") -> None:
    assert server.stdout is not None
    url = server.stdout.readline().strip()
    assert server.stdout.readline() == "Ctrl-C ends the server; runs go on.\n"
    found = re.fullmatch(r"http://127\.0\.0\.1:(\d+)/", url)
    assert found, url
    with socket.create_connection(("127.0.0.1", int(found[1]))) as never_reads:
        never_reads.sendall(b"GET /api/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
        with urllib.request.urlopen(f"{url}api/live") as stream:
            assert stream.readline().startswith(b"retry:")
            assert os.getpriority(os.PRIO_PROCESS, server.pid) == 19
            server.send_signal(signal.SIGINT)
            _, err = server.communicate(timeout=60)
    assert server.returncode == 0
    assert err == ""


def test_a_port_that_is_taken_is_one_line(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "nice", lambda by: 0)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["web", str(run_dir), "--port", str(port)]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"ConfigError: web cannot listen at 127.0.0.1:{port}: ")
    assert "--port" in said
    assert said.count("\n") == 1


def test_elsewhere_than_on_the_loopback_interface_a_token_is_in_the_address() -> None:
    access = access_for("0.0.0.0")
    assert access.token is not None
    assert len(access.token) > 20
    assert access.hosts == frozenset()
    assert access_for("0.0.0.0").token != access.token
    assert address("::1", 80, None) == "http://[::1]:80/"
    assert address("10.0.0.1", 80, "secret") == "http://10.0.0.1:80/?token=secret"
    for host in ("127.0.0.1", "localhost", "::1"):
        assert access_for(host).token is None
