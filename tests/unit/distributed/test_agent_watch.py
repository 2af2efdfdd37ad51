"""Agents of Ray do not outlive the process that started it: real processes with their names."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.program import PATIENCE_S, session_members
from tests.helpers.waiting import wait_until

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")

ROOT = Path(__file__).parents[3]
RUN = """
import subprocess, time
from keisei_ray.distributed.agent_watch import end_agents_with_this_process
end_agents_with_this_process()
for line in (
    "exec -a ray::DashboardAgent sleep 99",
    "exec -a python sleep 98",
    "exec -a /x/raylet/raylet bash -c '(exec -a ray::RuntimeEnvAgent sleep 97) & wait'",
):
    subprocess.Popen(["bash", "-c", line])
time.sleep(99)
"""


def test_agents_without_a_raylet_end_after_the_kill_of_their_run_and_nothing_else_does() -> None:
    run = subprocess.Popen([sys.executable, "-c", RUN], cwd=ROOT, start_new_session=True)
    try:
        names = ("ray::DashboardAgent 99", "python 98", "/x/raylet", "ray::RuntimeEnvAgent 97")

        def living() -> list[str]:
            lines = session_members(run.pid).values()
            return [name for name in names if any(line.startswith(name) for line in lines)]

        wait_until(lambda: len(living()) == len(names), PATIENCE_S)
        run.send_signal(signal.SIGKILL)
        run.wait()
        wait_until(lambda: living() == list(names[1:]), PATIENCE_S)
        for pid, line in session_members(run.pid).items():
            if line.startswith("/x/raylet"):
                os.kill(pid, signal.SIGKILL)
        wait_until(lambda: living() == ["python 98"], PATIENCE_S)
        # Without agents to look for, the process that watches ends too.
        wait_until(lambda: len(session_members(run.pid)) == 1, PATIENCE_S)
    finally:
        for pid in session_members(run.pid):
            os.kill(pid, signal.SIGKILL)
        run.wait()


def test_a_process_that_is_watched_ends_without_a_warning() -> None:
    program = (
        "from keisei_ray.distributed.agent_watch import end_agents_with_this_process as watch;"
        "watch()"
    )
    # In a session without agents of Ray, whose end it would look for.
    done = subprocess.run(
        [sys.executable, "-W", "always", "-c", program],
        cwd=ROOT, capture_output=True, check=True, start_new_session=True,
    )  # fmt: skip
    assert done.stderr == b""
