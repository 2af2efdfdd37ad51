"""The fast lane keeps what it promises, and every test of the other lane is marked."""

import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.program import environment

TESTS = Path(__file__).parents[1]


def test_the_fast_lane_reaches_no_other_machine(refused_connections: list[Any]) -> None:
    with (
        socket.socket() as connection,
        pytest.raises(ConnectionRefusedError, match="no network in the fast lane"),
    ):
        connection.connect(("192.0.2.1", 9))
    assert refused_connections.pop() == ("192.0.2.1", 9)


def test_a_test_of_the_fast_lane_gets_no_cluster(request: pytest.FixtureRequest) -> None:
    with pytest.raises(pytest.fail.Exception, match="move it to tests/ray"):
        request.getfixturevalue("cluster")


def test_no_test_of_the_fast_lane_is_marked_as_starting_ray() -> None:
    marked = [p.name for p in (TESTS / "unit").rglob("test_*.py") if "mark.ray" in p.read_text()]
    assert [name for name in marked if name != Path(__file__).name] == []


@pytest.mark.parametrize(
    "path", sorted([*TESTS.glob("ray/test_*.py"), *TESTS.glob("learning/test_*.py")]), ids=str
)
def test_every_file_that_starts_ray_is_marked(path: Path) -> None:
    assert "\npytestmark = " in path.read_text()
    assert "pytest.mark.ray" in path.read_text()


@pytest.mark.slow
def test_tests_that_share_a_ray_run_in_one_process(tmp_path: Path) -> None:
    """Otherwise, as with versions that do not fit, each process makes every fixture anew."""
    shutil.copy(TESTS / "conftest.py", tmp_path)
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = ray\n")
    (tmp_path / "test_group.py").write_text(
        "import pytest\n"
        "@pytest.mark.ray\n"
        "@pytest.mark.parametrize('i', range(4))\n"
        "def test_of_one_file(i, worker_id):\n"
        "    open(f'seen-{worker_id}', 'w').close()\n"
    )
    options = ["-q", "-n", "2", "--dist=loadgroup", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, str(tmp_path)],
        cwd=tmp_path,
        env=environment(PYTHONPATH=str(TESTS.parent)),
        capture_output=True,
        text=True,
    )
    assert "4 passed" in done.stdout, done.stdout
    assert len(list(tmp_path.glob("seen-*"))) == 1
