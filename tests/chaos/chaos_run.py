"""A run of `run.py` that faults are injected into: its process, its directory, its output."""

import contextlib
import fcntl
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from keisei_ray.storage.run_layout import EVENTS_FILE, METRICS_FILE
from tests.chaos.processes import end_session, members
from tests.helpers.program import DEBUG_CONFIG, ROOT, environment, json_records, session_members
from tests.helpers.subscribers import BRAKE

PATIENCE_S: Final = 240.0
"""Longest wait for what has to happen, far more than it needs on a machine with other work."""
ORPHANS_S: Final = 30.0
"""Seconds after the end of the driver within which all of the run's processes must have ended."""
NOT_OURS: Final = re.compile(r"\[ray_log_sink\]|nohup: |^\[[-0-9:, ]+ [EC] \d+ \d+\] \w+\.cc:\d+:")
"""Lines on standard error that Ray's C++ core or nohup writes."""
ENDLESS: Final = 100_000_000
NUM_ACTORS: Final = 2
SETTINGS: Final = (
    "cluster.num_cpus=2",
    f"cluster.object_store_bytes={75 * 2**20}",
    # A campaign kills more processes than a run should be left alone with.
    "cluster.max_actor_deaths=1000",
    # What is halted for good counts as dead after this.
    "cluster.call_timeout_s=10",
    # Given, since a run of which it was taken beyond all bounds is resumed too.
    "learner.learning_rate=0.0005",
    f"self_play.num_actors={NUM_ACTORS}",
    "self_play.games_per_actor=8",
    "pool.share=0.0",
    "schedule.mode=overlap",
    "checkpoint.interval_timesteps=1024",
    "evaluation.interval_timesteps=2048",
    "evaluation.opponents=[random]",
    "evaluation.finish_timeout_s=1",
    "evaluation.max_cpu_share=1.0",
    "tracking.view=lines",
    "tracking.close_timeout_s=5",
)
"""Settings of every run of a campaign, besides `configs/debug.yaml`."""


class HasEnded(Exception):
    """The run ended while something else was waited for."""


class ChaosRun:
    """One process of a run, from its start to its end. Only one at a time has a directory.

    Args:
        run_dir: the run's directory; its parent takes the output.
        arguments: further arguments of `run.py`.
        settings: further settings.
        subscribers: of the run, besides the one that holds it to a few updates a second.
        before: a command that runs it, for instance `nohup`.
        closed: numbers of the standard streams that are closed.
        is_read: whether its standard output is read.
    """

    def __init__(
        self,
        run_dir: Path,
        *arguments: str,
        settings: Sequence[str] = (),
        subscribers: Sequence[str] = (),
        before: Sequence[str] = (),
        closed: Sequence[int] = (),
        is_read: bool = True,
    ) -> None:
        self.run_dir = run_dir
        # Ray's sockets lie below it, and their paths must be short.
        self.ray_dir = Path(tempfile.mkdtemp(prefix="chaos-"))
        self.stopped: set[int] = set()
        """Processes that were halted and must have been replaced."""
        self.said = b""
        """End of its standard output, where errors go if standard error is closed."""
        number = len(list(run_dir.parent.glob("stderr-*")))
        self._errors = run_dir.parent / f"stderr-{number}"
        self._reader, writer = os.pipe()
        fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
        everyone = ",".join((BRAKE, *subscribers))
        values = (*SETTINGS, f"tracking.subscribers=[{everyone}]", *settings)
        with self._errors.open("wb") as errors:
            self.process = subprocess.Popen(
                [
                    *before, sys.executable, str(ROOT / "run.py"), "--run-dir", str(run_dir),
                    *arguments, *(word for value in values for word in ("--set", value)),
                ],
                cwd=run_dir.parent,
                env=environment(PYTHONPATH=str(ROOT), RAY_TMPDIR=str(self.ray_dir)),
                stdin=subprocess.DEVNULL,
                stdout=writer,
                stderr=errors,
                start_new_session=True,
                preexec_fn=lambda: _prepare(closed),
            )  # fmt: skip
        os.close(writer)
        self.pid = self.process.pid
        self._is_read = is_read
        if is_read:
            threading.Thread(target=self._read, daemon=True).start()

    @classmethod
    def fresh(cls, run_dir: Path, **options: Any) -> "ChaosRun":
        """Starts a run that has no end."""
        return cls(run_dir, "--config", DEBUG_CONFIG, "--total-timesteps", str(ENDLESS), **options)

    @classmethod
    def resumed(cls, run_dir: Path, *arguments: str, **options: Any) -> "ChaosRun":
        """Goes on with a run from its latest checkpoint."""
        return cls(run_dir, "--resume", "latest", *arguments, **options)

    def _read(self) -> None:
        with contextlib.suppress(OSError):
            while said := os.read(self._reader, 1 << 16):
                self.said = (self.said + said)[-1000:]

    def leave(self) -> None:
        """Closes the reading end of the run's standard output."""
        with contextlib.suppress(OSError):
            os.close(self._reader)

    # ---- what it does ----

    def updates(self) -> int:
        """Returns the number of updates on record."""
        with contextlib.suppress(FileNotFoundError):
            return (self.run_dir / METRICS_FILE).read_bytes().count(b"\n")
        return 0

    def events(self, kind: str) -> list[dict[str, Any]]:
        """Returns the events of one kind of all sessions of the run."""
        return [e for e in json_records(self.run_dir / EVENTS_FILE) if e["kind"] == kind]

    def pids(self, role: str) -> list[int]:
        """Returns the run's processes of one role."""
        return members(self.pid, role)

    def wait_for(self, condition: Callable[[], Any], what: str, *, every_s: float = 0.05) -> Any:
        """Waits until a condition is true and returns its value.

        Args:
            condition: asked again and again.
            what: its name for messages.
            every_s: seconds between two questions.

        Raises:
            HasEnded: the run ended before.
            AssertionError: it took longer than anything should.
        """
        deadline = time.monotonic() + PATIENCE_S
        while True:
            code = self.process.poll()
            if found := condition():
                return found
            if code is not None:
                raise HasEnded(f"exit code {code} while waiting for {what}")
            assert time.monotonic() < deadline, f"{PATIENCE_S:g} s without {what}"
            time.sleep(every_s)

    def wait_updates(self, number: int) -> None:
        """Waits until a number of further updates is on record."""
        target = self.updates() + number
        self.wait_for(lambda: self.updates() >= target, f"{number} more updates")

    def a(self, role: str) -> list[int]:
        """Waits for processes of a role and returns them."""
        found: list[int] = self.wait_for(lambda: self.pids(role), f"a process: {role}")
        return found

    # ---- its end ----

    def wait_end(self) -> int:
        """Waits for the end of the driver and returns its exit code; minus a signal's number."""
        try:
            code = self.process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{PATIENCE_S:g} s without an end") from None
        self.leave()
        return code

    def errors(self) -> str:
        """Returns what it has written to its standard error, without Ray's own lines."""
        lines = self._errors.read_text(errors="replace").splitlines()
        return "\n".join(line for line in lines if not NOT_OURS.search(line))

    def orphans(self) -> list[str]:
        """Returns what still lives of the run `ORPHANS_S` after its driver has ended."""
        deadline = time.monotonic() + ORPHANS_S
        while (left := session_members(self.pid)) and time.monotonic() < deadline:
            time.sleep(0.1)
        return [line[:60].strip() for line in left.values()]

    def destroy(self) -> None:
        """Kills whatever is left of it and removes the files of its Ray."""
        for pid in self.stopped:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        end_session(self.pid)
        self.process.wait()
        self.leave()
        shutil.rmtree(self.ray_dir, ignore_errors=True)


def _prepare(closed: Sequence[int]) -> None:
    """Closes streams; signals that a campaign in the background ignores have their effect."""
    for signum in (signal.SIGINT, signal.SIGHUP):
        signal.signal(signum, signal.SIG_DFL)
    for number in closed:
        os.close(number)
