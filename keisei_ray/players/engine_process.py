"""A program that is spoken to in lines, as a child process that cannot make us wait for ever.

One poll loop feeds its input and drains its output and its errors, so that neither side waits on
a full pipe; every wait has a deadline. The child leads a process group of its own: Ctrl-C does
not reach it, and what it started dies with it. No thread, no shell. Knows nothing of shogi.
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

_CHUNK_BYTES = 1 << 16
_MAX_LINE_BYTES = 1 << 16
"""What is longer without an end of line counts as a line."""
_MAX_WAITING_LINES = 10_000
"""Lines kept that nobody has read yet; beyond that the oldest go."""
_TAIL_LINES = 3
"""Last lines kept for messages."""
_TAIL_CHARS = 200
_EXIT_S = 0.5
"""Between the end of its output and its exit."""
_REAP_S = 5.0
"""Between SIGKILL and its exit."""


class EngineProcess:
    """A child process with deadlines. Not thread-safe, save for `kill`.

    Killed with everything it started when closed, garbage-collected, or at the interpreter's end.
    """

    def __init__(self, command: Sequence[str]) -> None:
        """Starts the program.

        Args:
            command: the program, found on PATH or a path, and its arguments.

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
        self._finalizer = weakref.finalize(self, _end, self._process)
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
        """Writes a line. Lines that the program said before and nobody read are dropped.

        Raises:
            EngineDiedError, EngineTimeoutError: the program has ended, or does not read.
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
        """The next line of its output, without the line's end.

        Args:
            deadline: on `time.monotonic`'s clock.
            awaited: what is waited for, for the message.

        Raises:
            EngineDiedError, EngineTimeoutError: it has ended, or the deadline has passed.
        """
        while not self._lines:
            if self._output not in self._partial:
                raise self._death()
            for stream in self._wait(deadline, f"gave no {awaited}"):
                self._drain(stream)
        return self._lines.popleft()

    def forget_lines(self) -> None:
        """Drops what has been read from the program and not yet been asked for."""
        self._lines.clear()

    @property
    def last_words(self) -> str:
        """What the program printed last, output and errors, for messages."""
        text = " / ".join(self._tail) or "nothing"
        return text if len(text) <= _TAIL_CHARS else f"...{text[-_TAIL_CHARS:]}"

    def kill(self) -> None:
        """Ends the program and all it started, at once. May be called from another thread."""
        if self._finalizer.alive:
            _kill_group(self._process)

    def close(self, *, last_line: str = "", grace_s: float = 1.0) -> None:
        """Ends the program, after a last line and some grace. May be called again.

        Args:
            last_line: what asks it to end by itself; none if empty.
            grace_s: how long it has for that.
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
        """The streams that are ready, at least one."""
        ready = self._selector.select(max(0.0, deadline - time.monotonic()))
        if not ready or time.monotonic() > deadline:
            raise self._timeout(complaint)
        return [key.fileobj for key, _ in ready]  # type: ignore[misc]

    def _drain(self, stream: IO[bytes]) -> None:
        """Takes what a stream has to say."""
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
        """The program has ended, or closed its output, which is the end of it for us."""
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
    """How it ended, if it has; not reaped, so that nobody else is given its process group."""
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG)


def _kill_group(process: "subprocess.Popen[bytes]") -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Kills the group, then reaps its leader; in this order, see `_death`."""
    _kill_group(process)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_REAP_S)
    for stream in _streams(process):
        stream.close()


def _streams(process: "subprocess.Popen[bytes]") -> tuple[IO[bytes], IO[bytes], IO[bytes]]:
    """Its standard input, output and errors."""
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    return process.stdin, process.stdout, process.stderr
