"""Processes of a run as the system sees them, and shared memory that no process uses.

`run.py` is started in a session of its own, and so is everything that it starts: its actors, Ray's
servers and their agents stay in that session, also after the driver has died.
"""

import contextlib
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.helpers.program import session_members

SHARED_MEMORY: Final = Path("/dev/shm")

ROLES: Final = {
    "driver": re.compile(r"/run\.py "),
    "actor": re.compile(r"ray::SelfPlayShell"),
    "learner": re.compile(r"ray::LearnerShell"),
    "evaluator": re.compile(r"ray::EvaluationShell"),
    "starting worker": re.compile(r"ray::IDLE|/default_worker\.py "),
    "standby": re.compile(r"keisei-ray standby of "),
    "raylet": re.compile(r"/raylet/raylet "),
    "gcs_server": re.compile(r"/gcs/gcs_server "),
    "agent": re.compile(r"ray::(DashboardAgent|RuntimeEnvAgent)|/agent/main\.py |/agent\.py "),
    "log monitor": re.compile(r"/log_monitor\.py "),
    "dashboard": re.compile(r"/dashboard\.py "),
    "autoscaler": re.compile(r"/monitor\.py "),
}
"""Role in a run -> what the command line of its processes has."""


def members(session: int, role: str) -> list[int]:
    """Returns the ids of a session's living processes of one role, sorted."""
    pattern = ROLES[role]
    return sorted(pid for pid, line in session_members(session).items() if pattern.search(line))


def send(pid: int, signum: int) -> bool:
    """Sends a signal; returns whether the process was still there."""
    try:
        os.kill(pid, signum)
    except ProcessLookupError:
        return False
    return True


def end_session(session: int) -> None:
    """Kills every process of a session."""
    for pid in session_members(session):
        send(pid, signal.SIGKILL)


def used_files() -> Iterator[str]:
    """Yields the files of shared memory that a living process has open or mapped."""
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            for line in (process / "maps").read_text().splitlines():
                if str(SHARED_MEMORY) in line:
                    yield line.split(maxsplit=5)[5].removesuffix(" (deleted)")
            for link in (process / "fd").iterdir():
                with contextlib.suppress(OSError):
                    yield os.readlink(link)


def shared_files() -> frozenset[str]:
    """Returns the files that are in shared memory now."""
    return frozenset(str(path) for path in SHARED_MEMORY.iterdir() if path.is_file())


def leaked_shared_memory(before: frozenset[str]) -> list[str]:
    """Returns the files of shared memory that are new and that no process uses."""
    new = shared_files() - before
    return sorted(new - set(used_files())) if new else []
