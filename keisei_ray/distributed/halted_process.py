"""Ends the process of an actor that does not answer, through the node that it runs on.

`ray.kill` has a worker's node ask the process itself, and end it with SIGKILL if it has not gone
five seconds later. On a crowded machine a process that had been halted for two minutes (SIGSTOP, a
debugger, a frozen container) outlived that: the node took the error of its connection for an
answer (Ray 2.60, seen once; not in six tries of up to five minutes without other work). Such an
actor is dead for Ray, and its process keeps its CPU from the actor that is to follow.
"""

import contextlib
import os
import signal
from pathlib import Path
from typing import Any, Final

import ray

from keisei_ray.distributed.actors import ActorHandle, ask_node

_TITLE: Final = b"ray::"
"""Beginning of the name that Ray gives to a process of an actor."""


def kill_process(actor: ActorHandle) -> None:
    """Has the process of an actor killed by its node, soon. Does nothing if it has none yet."""
    # Ray has no public name for the process, but in its dashboard.
    known: Any = ray._private.state.actors(actor._actor_id.hex())
    node, pid = known.get("Address", {}).get("NodeID"), known.get("Pid")
    if not node or not pid:
        return
    ask_node(lambda: _kill(pid), node)


def _kill(pid: int) -> None:
    """Kills a process of Ray on this machine, if that has /proc."""
    with contextlib.suppress(OSError):  # It has ended.
        if Path(f"/proc/{pid}/cmdline").read_bytes().startswith(_TITLE):
            os.kill(pid, signal.SIGKILL)
