"""A child process that is spoken to in lines, with a deadline for every wait.

One poll loop writes its input and reads its output and its errors, so that neither side blocks on
a full pipe. The child leads a process group of its own: Ctrl-C does not reach it, and the
processes that it started end with it. A small shell in that group kills it as soon as its owner is
gone, however that died. No thread. Knows nothing about shogi.
"""

import contextlib
import os
import selectors
import signal
import subprocess
import time
import weakref
from collections import deque
from collections.abc import Sequence
from typing import IO

from keisei_ray.errors import EngineDiedError, EngineTimeoutError
from keisei_ray.telemetry.visible_text import visible

_CHUNK_BYTES = 1 << 16
_MAX_LINE_BYTES = 1 << 16
"""Bytes after which output counts as a line even without an end of line."""
_MAX_WAITING_LINES = 10_000
"""Lines kept until they are read; beyond this number the oldest are dropped."""
_TAIL_LINES = 3
"""Last lines kept for error messages."""
_TAIL_CHARS = 200
"""Characters of these lines that a message shows."""
_EXIT_S = 0.5
"""Seconds to wait for the exit of a program that has closed its output."""
_REAP_S = 5.0
"""Seconds to wait for the exit after SIGKILL."""
_GUARD = ("/bin/sh", "-c", "read -r _; kill -9 0")
"""Program that waits for the end of its input and then kills its process group. The owner holds the
other end, which the kernel closes with it."""


class EngineProcess:
    """A child process with deadlines. Not thread-safe, except for `kill`.

    It is killed, with the processes that it started, when it is closed or garbage-collected, or
    when its owner exits or is killed. Stopped processes (SIGSTOP) are killed too.
    """

    def __init__(self, command: Sequence[str]) -> None:
        """Starts the program.

        Args:
            command: the program, by name on PATH or by path, and its arguments.

        Raises:
            OSError: it cannot be started.
        """
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            process_group=0,
        )
        self._finalizer = weakref.finalize(
            self, _end, self._process, _start_guard(self._process.pid)
        )
        self._input, self._output, errors = _streams(self._process)
        self._partial = {self._output: b"", errors: b""}
        self._selector = selectors.DefaultSelector()
        for stream in self._partial:
            os.set_blocking(stream.fileno(), False)
            self._selector.register(stream, selectors.EVENT_READ)
        os.set_blocking(self._input.fileno(), False)
        self._lines: deque[str] = deque(maxlen=_MAX_WAITING_LINES)
        self._tail: deque[str] = deque(maxlen=_TAIL_LINES)

    def send(self, line: str, *, timeout_s: float) -> None:
        """Writes a line.

        Raises:
            EngineDiedError: the program has ended.
            EngineTimeoutError: it does not read its input.
        """
        deadline = time.monotonic() + timeout_s
        left = memoryview(f"{line}\n".encode())
        self._selector.register(self._input, selectors.EVENT_WRITE)
        try:
            while left:
                for stream in self._wait(deadline, f"did not read {line[:40]!r}"):
                    if stream is self._input:
                        left = left[os.write(self._input.fileno(), left) :]
                    else:
                        self._drain(stream)
        except BrokenPipeError:
            raise self._death() from None
        finally:
            self._selector.unregister(self._input)

    def read_line(self, *, deadline: float, awaited: str) -> str:
        """Returns the next line of the program's output, without the end of the line.

        Args:
            deadline: on the clock of `time.monotonic`.
            awaited: the expected answer, named in error messages.

        Raises:
            EngineDiedError: the program has ended.
            EngineTimeoutError: the deadline has passed.
        """
        while not self._lines:
            if self._output not in self._partial:
                raise self._death()
            for stream in self._wait(deadline, f"gave no {awaited}"):
                self._drain(stream)
        return self._lines.popleft()

    def forget_lines(self) -> None:
        """Drops the lines that were received and not yet returned by `read_line`."""
        self._lines.clear()

    @property
    def last_words(self) -> str:
        """Last lines that the program printed, output and errors, for error messages."""
        text = " / ".join(self._tail) or "nothing"
        return visible(text if len(text) <= _TAIL_CHARS else f"...{text[-_TAIL_CHARS:]}")

    def kill(self) -> None:
        """Ends the program and its children at once. May be called from another thread."""
        if self._finalizer.alive:
            _kill_group(self._process)

    def close(self, *, last_line: str = "", grace_s: float = 1.0) -> None:
        """Ends the program, after time to end by itself if asked. May be called again.

        Args:
            last_line: line that asks the program to end; empty: it is ended at once.
            grace_s: seconds that the program has for that.
        """
        if not self._finalizer.alive:
            return
        with contextlib.suppress(EngineDiedError, EngineTimeoutError):
            if last_line:
                self.send(last_line, timeout_s=grace_s)
                deadline = time.monotonic() + grace_s
                while True:
                    self.read_line(deadline=deadline, awaited="end")
        self._selector.close()
        self._finalizer()

    def _wait(self, deadline: float, complaint: str) -> list[IO[bytes]]:
        """Returns the streams that are ready, at least one; raises when the deadline passes."""
        ready = self._selector.select(max(0.0, deadline - time.monotonic()))
        if not ready or time.monotonic() > deadline:
            raise self._timeout(complaint)
        return [key.fileobj for key, _ in ready]  # type: ignore[misc]

    def _drain(self, stream: IO[bytes]) -> None:
        """Reads what a stream has and splits it into lines."""
        chunk = os.read(stream.fileno(), _CHUNK_BYTES)
        *whole, rest = (self._partial[stream] + chunk).split(b"\n")
        if len(rest) > _MAX_LINE_BYTES or (rest and not chunk):
            whole, rest = [*whole, rest], b""
        self._partial[stream] = rest
        lines = [line.decode("utf-8", errors="replace").rstrip("\r") for line in whole]
        self._tail.extend(line for line in lines if line.strip())
        if stream is self._output:
            self._lines.extend(lines)
        if not chunk:
            self._selector.unregister(stream)
            del self._partial[stream]

    def _death(self) -> EngineDiedError:
        """Returns the error for a program that has ended, or closed its output, which is as bad."""
        for stream in list(self._partial):
            with contextlib.suppress(BlockingIOError):
                self._drain(stream)
        deadline = time.monotonic() + _EXIT_S
        while (state := _exit_state(self._process)) is None and time.monotonic() < deadline:
            time.sleep(0.01)
        how = "closed its output" if state is None else "ended"
        if state is not None:
            by_itself = state.si_code == os.CLD_EXITED
            how += f" with {'exit code' if by_itself else 'signal'} {state.si_status}"
        return EngineDiedError(f"{how}; it printed last: {self.last_words}")

    def _timeout(self, complaint: str) -> EngineTimeoutError:
        return EngineTimeoutError(f"{complaint} in time; it printed last: {self.last_words}")


def _exit_state(process: "subprocess.Popen[bytes]") -> os.waitid_result | None:
    """Returns how the process ended, if it has.

    The process is not reaped, so that its process group id cannot be given to other processes.
    """
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG)


def _kill_group(process: "subprocess.Popen[bytes]") -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


def _start_guard(group: int) -> "subprocess.Popen[bytes] | None":
    """Starts the shell that kills a process group when this process is gone.

    Returns:
        None where it cannot be started, for example because the group's leader has just left it.
        The process then ends when it reads that its input has ended.
    """
    try:
        return subprocess.Popen(
            _GUARD,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            process_group=group,
        )
    except OSError:
        return None


def _end(process: "subprocess.Popen[bytes]", guard: "subprocess.Popen[bytes] | None") -> None:
    """Kills the group, its guard included, then reaps them. In this order, see `_exit_state`."""
    _kill_group(process)
    for child in (process, guard):
        if child is None:
            continue
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(_REAP_S)
        for stream in (child.stdin, child.stdout, child.stderr):
            if stream is not None:
                stream.close()


def _streams(process: "subprocess.Popen[bytes]") -> tuple[IO[bytes], IO[bytes], IO[bytes]]:
    """Returns the process's standard input, output and errors."""
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    return process.stdin, process.stdout, process.stderr
