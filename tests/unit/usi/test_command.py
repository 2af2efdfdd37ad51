"""The engine as a process: a whole conversation with a real network, and its ends."""

import contextlib
import subprocess
import sys
import threading
from pathlib import Path
from queue import SimpleQueue

import pytest

from keisei_ray.errors import ConfigError
from keisei_ray.usi import command
from keisei_ray.usi.command import Event, converse, typed_options
from keisei_ray.usi.options import Options
from tests.helpers.program import PATIENCE_S, ROOT, environment
from tests.helpers.saved_runs import save_untrained
from tests.helpers.usi_talk import Talk
from tests.helpers.waiting import wait_until


class Process:
    """`run.py usi` and its client's side."""

    def __init__(self, *arguments: str, cwd: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(ROOT / "run.py"), "usi", *arguments],
            cwd=cwd,
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        # Whatever goes wrong, the test ends.
        self.alarm = threading.Timer(PATIENCE_S, self.process.kill)
        self.alarm.start()

    def say(self, text: str | bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write((text if isinstance(text, bytes) else text.encode()) + b"\n")
        self.process.stdin.flush()

    def hear(self, word: str) -> str:
        """Returns the next line that begins with a word; lines before it are dropped."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.split()[:1] == [word.encode()]:
                return line.decode().strip()
        raise AssertionError(f"no {word}: {self.end()}")

    def end(self) -> tuple[int, list[str]]:
        """Waits for the end; returns exit code and lines on standard error."""
        _, errors = self.process.communicate()
        self.alarm.cancel()
        return self.process.returncode, errors.decode().splitlines()


@pytest.mark.slow
def test_a_conversation_with_a_process(tmp_path: Path) -> None:
    save_untrained(tmp_path / "a run", timestep=7)
    engine = Process("--checkpoint", "a run", "--option", "USI_Hash=64", cwd=tmp_path)
    engine.say("usi")
    engine.hear("usiok")
    engine.say(b"garbage \xff\x00")
    engine.say("isready")
    engine.hear("readyok")
    for file in (tmp_path / "a run").rglob("*.safetensors"):
        file.unlink()  # What is loaded is not read again.
    engine.say("usinewgame\nisready")
    engine.hear("readyok")
    engine.say("position startpos moves 7g7f\ngo btime 0 wtime 0 byoyomi 300")
    assert engine.hear("bestmove") != "bestmove resign"
    engine.say("go infinite")
    engine.hear("info")
    engine.say("stop")
    engine.hear("bestmove")
    engine.say("go infinite")
    engine.hear("info")
    engine.say("quit")  # In the middle of a search.
    code, errors = engine.end()
    assert code == 0
    assert errors == ["unknown command 'garbage \\udcff\\x00'"]


@pytest.mark.slow
def test_a_client_that_hangs_up_ends_the_process(tmp_path: Path) -> None:
    engine = Process("--checkpoint", "no/such", cwd=tmp_path)
    engine.say("isready")
    line = engine.hear("info")
    assert line.startswith("info string Error: CheckpointError: no checkpoint at no/such")
    code, errors = engine.end()
    assert code == 2
    assert len(errors) == 1


def test_the_input_ends() -> None:
    talk = Talk()
    events: SimpleQueue[Event] = SimpleQueue()
    for event in ("usi", "go infinite", None):
        events.put(event)
    assert converse(talk.engine, events) == 0
    assert talk.sent[-1] == "usiok"


def test_a_line_that_is_too_long_is_left_out_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    chunks = [b"usi\nposition ", b"startpos move", b"s ", b"7g7f\nquit", b"\nlong", b" enough", b""]
    monkeypatch.setattr(command, "_read_chunk", lambda: chunks.pop(0))
    monkeypatch.setattr(command, "_MAX_LINE_BYTES", 10)
    lines: list[str | None] = []
    complaints: list[str] = []
    command._read_lines(lines.append, complaints.append)
    assert lines == ["usi", "quit", None]
    assert complaints == ["a line of more than 10 bytes is left out"] * 2


def test_an_answer_is_given_when_it_is_due_though_no_line_comes() -> None:
    talk = Talk()
    events: SimpleQueue[Event] = SimpleQueue()
    events.put("go btime 0 wtime 0 byoyomi 2")

    def hang_up_when_answered() -> None:
        with contextlib.suppress(AssertionError):  # The test then fails without it.
            wait_until(talk.answers, PATIENCE_S)
        events.put(None)

    client = threading.Thread(target=hang_up_when_answered)
    client.start()
    assert converse(talk.engine, events) == 0
    client.join()
    assert len(talk.answers()) == 1


def test_options_are_typed_as_name_and_value() -> None:
    assert typed_options("x", ["MultiPV=3", "simulations=5"]) == Options(
        checkpoint="x", multi_pv=3, simulations=5
    )
    assert typed_options(None, []) == Options()
    with pytest.raises(ConfigError, match="expected NAME=VALUE"):
        typed_options(None, ["MultiPV"])
    with pytest.raises(ConfigError, match="from 1 to 593"):
        typed_options(None, ["MultiPV=0"])
