"""The children of a process that dies are ended. No Ray is started."""

import os
import signal
import subprocess
import sys

from keisei_ray.distributed.orphans import children_ended
from tests.helpers.program import session_members

PARENT = """
import subprocess, time
children = [subprocess.Popen(["sleep", "600"]) for _ in range(2)]
print("up", flush=True)
time.sleep(600)
"""


def test_children_are_ended_after_the_block_also_without_their_parent() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PARENT], stdout=subprocess.PIPE, start_new_session=True
    ) as parent:
        assert parent.stdout is not None
        parent.stdout.readline()
        with children_ended(parent.pid):
            os.kill(parent.pid, signal.SIGKILL)
            parent.wait()
            assert len(session_members(parent.pid)) == 2
        parent.stdout.read()  # It ends when the last of them has.
    # A process that is just ending may still be listed, without a command line.
    assert not any(session_members(parent.pid).values())
