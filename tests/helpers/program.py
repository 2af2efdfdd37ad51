"""`run.py` as a process of its own, and what the tests ask of it."""

import contextlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from keisei_ray.cli import main
from keisei_ray.distributed.cluster import Cluster

ROOT = Path(__file__).parents[2]
DEBUG_CONFIG = str(ROOT / "configs" / "debug.yaml")
PATIENCE_S = 150.0
"""Longest wait for one process, far more than any needs."""

started: "list[subprocess.Popen[str]]" = []
"""Programs that `start_program` has started."""


def environment(**changes: str) -> dict[str, str]:
    """Returns this process's environment without settings of Ray and Keisei Ray."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "KEISEI_"))}
    return kept | {"PYTHONUNBUFFERED": "1"} | changes


def joining(cluster: Cluster | None) -> tuple[list[str], dict[str, str]]:
    """Returns arguments and environment of a run that joins a cluster; None: it starts its own.

    Ray gives its token to a cluster that it has not started only if told to.
    """
    if cluster is None:
        return [], {}
    return ["--address", cluster.address], {"RAY_AUTH_MODE": "token"}


def start_program(
    *arguments: str,
    cwd: Path,
    before: Sequence[str] = (),
    cluster: Cluster | None = None,
    **env: str,
) -> "subprocess.Popen[str]":
    """Starts `run.py` in a session of its own, so that its process group can get a Ctrl-C.

    Args:
        arguments: command line of `run.py`.
        cwd: its working directory.
        before: a command that runs it, for instance `ip netns exec NAME`.
        cluster: what a training run joins; a Ray of its own takes five seconds of a core.
        env: changes to the environment.
    """
    join, token = joining(cluster)
    process = subprocess.Popen(
        [*before, sys.executable, str(ROOT / "run.py"), *arguments, *join],
        cwd=cwd,
        env=environment(**token | env),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    started.append(process)
    return process


def run_program(
    *arguments: str, cwd: Path, cluster: Cluster | None = None, **env: str
) -> "subprocess.CompletedProcess[str]":
    """Runs `run.py` to its end; see `start_program` for the arguments."""
    join, token = joining(cluster)
    return subprocess.run(
        [sys.executable, str(ROOT / "run.py"), *arguments, *join],
        cwd=cwd,
        env=environment(**token | env),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


def status_of(run_dir: Path) -> tuple[int, dict[str, Any]]:
    """Returns exit code and object of `run.py status --json -`, which this process runs itself."""
    said, errors = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(errors):
        code = main(["status", str(run_dir), "--json", "-"])
    assert errors.getvalue() == ""
    return code, json.loads(said.getvalue())


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
