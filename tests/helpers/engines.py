"""USI engines for tests: one that plays by a rule that a test can follow, and bad ones."""

import shlex
import shutil
import sys
import time
import zlib
from pathlib import Path

import numpy as np
import pytest

from keisei_ray.players.policies import Ints, Uniforms
from keisei_ray.shogi.vector_games import VectorGames

RULE_ENGINE = Path(__file__).with_name("rule_engine.py")


def rule_spec(query: str = "", program: Path = RULE_ENGINE) -> str:
    """Returns the spec of an engine whose move depends on the position and nothing else.

    Args:
        query: further settings of the spec, for instance `processes=1`.
        program: a copy of the engine, whose processes can be told from those of other tests.
    """
    command = shlex.join([sys.executable, str(program)])
    return f"usi:{command}?timeout-s=60" + (f"&{query}" if query else "")


def choose_by_rule(games: VectorGames, lanes: Ints, uniforms: Uniforms) -> Ints:
    """Returns the choices of that engine, without starting it."""
    sizes = np.diff(games.legal_offsets)
    sfens = [games.current_sfen(lane).encode() for lane in lanes.tolist()]
    return np.array([zlib.crc32(s) for s in sfens], dtype=np.int64) % sizes[lanes]


def fake_spec(
    tmp_path: Path,
    *,
    usi: str = "echo usiok",
    isready: str = "echo readyok",
    go: str = "echo bestmove 7g7f",
    start: str = ":",
    stop: str = "exit",
    query: str = "processes=1&timeout-s=2",
) -> str:
    """Returns the spec of an engine that answers each command by a line of shell script.

    `$n` counts its `go`s. What it is told goes to the file `$told` if `start` sets that.
    """
    script = tmp_path / "engine.sh"
    script.write_text(
        f"""n=0
{start}
while read -r line; do
  [ -z "$told" ] || echo "$line" >> "$told"
  case "$line" in
    usi) {usi};;
    isready) {isready};;
    go*) n=$((n + 1)); {go};;
    quit) {stop};;
  esac
done
"""
    )
    return f"usi:sh {shlex.quote(str(script))}?{query}"


def find_engine(name: str) -> str:
    """Returns the path of a real engine; skips the test if it is not installed."""
    found = shutil.which(name) or shutil.which(name, path="/usr/games")
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def living_members(group: int) -> list[int]:
    """Returns the processes of a group that are not zombies."""
    members = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, pgrp = stat.read_text().rpartition(")")[2].split()[:3]
        except OSError:
            continue  # It has ended meanwhile.
        if int(pgrp) == group and state != "Z":
            members.append(int(stat.parent.name))
    return members


def assert_all_ended(pids: Path) -> None:
    """Checks that every process whose id an engine wrote to the file has ended, with its group."""
    for pid in map(int, pids.read_text().split()):
        deadline = time.monotonic() + 20
        while living_members(pid):
            assert time.monotonic() < deadline, f"{pid} lives"
            time.sleep(0.01)
        assert not Path(f"/proc/{pid}").exists(), f"{pid} was not reaped"
