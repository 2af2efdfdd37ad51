"""`run.py` as a process of its own, and what the tests ask of it."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
DEBUG_CONFIG = str(ROOT / "configs" / "debug.yaml")
PATIENCE_S = 150.0
"""Longest wait for one process, far more than any needs."""


def environment(**changes: str) -> dict[str, str]:
    """Returns this process's environment without settings of Ray and Keisei Ray."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "KEISEI_"))}
    return kept | {"PYTHONUNBUFFERED": "1"} | changes


def start_program(
    *arguments: str, cwd: Path, before: Sequence[str] = (), **env: str
) -> "subprocess.Popen[str]":
    """Starts `run.py` in a session of its own, so that its process group can get a Ctrl-C.

    Args:
        arguments: command line of `run.py`.
        cwd: its working directory.
        before: a command that runs it, for instance `ip netns exec NAME`.
        env: changes to the environment.
    """
    return subprocess.Popen(
        [*before, sys.executable, str(ROOT / "run.py"), *arguments],
        cwd=cwd,
        env=environment(**env),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def run_program(*arguments: str, cwd: Path, **env: str) -> "subprocess.CompletedProcess[str]":
    """Runs `run.py` to its end; see `start_program` for the arguments."""
    return subprocess.run(
        [sys.executable, str(ROOT / "run.py"), *arguments],
        cwd=cwd,
        env=environment(**env),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


def session_members(session: int) -> dict[int, str]:
    """Returns the living processes of a session: process id -> command line."""
    members = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            state, _, _, sid = (entry / "stat").read_text().rpartition(")")[2].split()[:4]
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue  # It has ended meanwhile.
        if int(sid) == session and state != "Z":
            members[int(entry.name)] = command
    return members


def one_line(text: str) -> str:
    """Returns the only line of a text."""
    lines = text.splitlines()
    assert len(lines) == 1, text
    return lines[0]


def json_records(file: Path) -> list[dict[str, Any]]:
    """Returns the complete records of a JSON lines file that may still be written to."""
    lines = file.read_text().splitlines(keepends=True) if file.exists() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]
