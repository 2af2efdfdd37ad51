"""Ends the agents of a Ray that was started here, should this process die without ending it.

Ray's servers die with the process that started them. Its two agents notice that within two seconds,
and then try for 60 more to tell a server that is dead too (`publish_error_to_driver` in Ray 2.60,
whose time limit cannot be set). So a small process waits for the end of this one and kills agents
of the same session whose raylet is gone. It can be left out as soon as Ray's agents end by
themselves within seconds.

As a program this file loads nothing but the standard library, so that it starts within 20 ms.
"""

import contextlib
import functools
import os
import re
import signal
import sys
import time
from pathlib import Path
from typing import Final

WATCH_S: Final = 10.0
"""Seconds after the end of the watched process in which agents are looked for."""
POLL_S: Final = 0.2
_AGENT: Final = re.compile(
    rb"ray::(Dashboard|RuntimeEnv)Agent\b"
    rb"|[^\0]+\0(-u\0)?[^\0]+/(ray/dashboard/agent|runtime_env/agent/main)\.py\0"
)
"""Beginning of an agent's command line, with the name that it gives itself and before that."""
_RAYLET: Final = re.compile(rb"[^\0]+/raylet/raylet\0")


@functools.cache
def end_agents_with_this_process() -> None:
    """Sees to it that Ray's agents of this session outlive this process by seconds only.

    Starts the process that watches, once. The pipe to it is open as long as this process lives, and
    its end is not waited for: `subprocess` would warn of both when this process ends. On systems
    without /proc nothing is started.
    """
    if not Path("/proc/self/stat").exists():
        return
    reader, _ = os.pipe()  # The watching process does not inherit the other end.
    os.posix_spawn(
        sys.executable,
        [sys.executable, "-I", "-S", __file__],
        os.environ,
        file_actions=[(os.POSIX_SPAWN_DUP2, reader, 0)],
        setpgroup=0,  # Its own, so that Ctrl-C does not reach it.
    )
    os.close(reader)


def agents_of(session: int) -> tuple[list[int], list[int]]:
    """Returns the process ids of a session's agents, and of those whose parent is no raylet."""
    lines: dict[int, bytes] = {}
    parents: dict[int, int] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # It has ended meanwhile.
            state, parent, _, sid = (entry / "stat").read_bytes().rpartition(b")")[2].split()[:4]
            if int(sid) == session and state != b"Z":
                parents[int(entry.name)] = int(parent)
                lines[int(entry.name)] = (entry / "cmdline").read_bytes()
    agents = [pid for pid, line in lines.items() if _AGENT.match(line)]
    return agents, [pid for pid in agents if not _RAYLET.match(lines.get(parents[pid], b""))]


def _main() -> None:
    """Waits for the end of the standard input, which its writer's end is, and then for agents."""
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, signal.SIG_IGN)
    os.read(0, 1)
    deadline = time.monotonic() + WATCH_S
    while time.monotonic() < deadline:
        agents, orphaned = agents_of(os.getsid(0))
        if not agents:
            return
        for pid in orphaned:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(POLL_S)


if __name__ == "__main__":
    _main()
