"""The command `usi`: the engine's input and output, and the end of its process.

Lines are read by a thread of their own, so `stop` and `quit` are heard at any time. The process
ends when the client says `quit`, closes its end of the input, or no longer reads the output.
"""

import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from typing import Final

from keisei_ray.errors import ConfigError
from keisei_ray.telemetry.visible_text import shortened
from keisei_ray.usi.engine import Engine
from keisei_ray.usi.messages import End, Failed, Forget, Job, Post, Report
from keisei_ray.usi.options import OptionError, Options, with_option

logger = logging.getLogger(__name__)

_MAX_COMPLAINTS: Final = 100
"""Lines on standard error about what the client says; a client need not read them."""
_MAX_LINE_BYTES: Final = 1 << 20
"""Bytes of a line; a longer one is left out whole, since its rest could look like a command."""
_MAX_COMPLAINT: Final = 500
"""Characters of such a line."""
_INTERRUPTED: Final = 130
_LOOK_S: Final = 0.05
"""Seconds that a move's clock is left alone at most; shows how late this process wakes up."""
_END_S: Final = 0.5
"""Seconds that a search has to end when the process does."""
_CHUNK_BYTES: Final = 1 << 16

Event = str | None | Report
"""A line, the end of the input (None), or a report of the thinker."""


def typed_options(checkpoint: str | None, settings: Sequence[str]) -> Options:
    """Returns the options as the command line gives them.

    Args:
        checkpoint: the option Checkpoint; None: the default.
        settings: other options, each `NAME=VALUE`.

    Raises:
        ConfigError: an option is unknown, or a value out of its limits.
    """
    options = Options(checkpoint=checkpoint or "")
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals:
            raise ConfigError(f"--option {setting!r}: expected NAME=VALUE.")
        try:
            options = with_option(options, name, value)
        except OptionError as error:
            raise ConfigError(f"--option {setting!r}: {error}.") from error
    return options


def serve(options: Options) -> int:
    """Speaks USI on standard input and output until the client leaves; returns the exit code.

    Raises:
        BrokenPipeError: the client no longer reads.
    """
    events: SimpleQueue[Event] = SimpleQueue()
    jobs: SimpleQueue[Job] = SimpleQueue()
    thinker = threading.Thread(target=_think, args=(jobs, events.put), daemon=True)
    thinker.start()
    complain = _Complaints()
    threading.Thread(target=_read_lines, args=(events.put, complain), daemon=True).start()
    engine = Engine(options, send=_send, complain=complain, give=jobs.put)
    code = _INTERRUPTED
    try:
        code = converse(engine, events)
        return code
    finally:
        engine.end()
        jobs.put(End())
        thinker.join(_END_S)
        if thinker.is_alive():
            # Torch does not survive the end of the interpreter while it works.
            os._exit(code)


def converse(engine: Engine, events: "SimpleQueue[Event]") -> int:
    """Hands lines and reports to the engine in the order in which they come.

    Args:
        engine: its answers are sent here.
        events: what comes, from several threads.

    Returns:
        The exit code.
    """
    while engine.exit_code is None:
        now = time.monotonic()
        wait = None if engine.due is None else min(_LOOK_S, max(0.0, engine.due - now))
        event: Event = ""
        try:
            event = events.get(timeout=wait)
        except Empty:
            engine.note_delay(time.monotonic() - now - (wait or 0.0))
        if event is None:
            return 0
        if isinstance(event, str):
            engine.take_line(event)
        else:
            engine.take_report(event)
        engine.answer_in_time()
    return engine.exit_code


class _Complaints:
    """Lines on standard error, as many as fit a pipe that is not read."""

    def __init__(self) -> None:
        self._left = _MAX_COMPLAINTS

    def __call__(self, message: str) -> None:
        if self._left > 0:
            self._left -= 1
            logger.warning("%s", shortened(message, _MAX_COMPLAINT))
            if not self._left:
                logger.warning("Further lines like this are not shown.")


def _send(line: str) -> None:
    sys.stdout.buffer.write(f"{line}\n".encode(errors="surrogateescape"))
    sys.stdout.buffer.flush()


def _read_lines(take: Callable[[str | None], None], complain: Callable[[str], None]) -> None:
    """Reads standard input to its end.

    Not by `sys.stdin`: the interpreter cannot end while a thread waits there.
    """

    def take_line(line: bytes) -> None:
        if len(line) > _MAX_LINE_BYTES:
            complain(f"a line of more than {_MAX_LINE_BYTES} bytes is left out")
        else:
            take(line.decode(errors="surrogateescape"))

    left = b""
    while chunk := _read_chunk():
        *lines, left = (left + chunk).split(b"\n")
        for line in lines:
            take_line(line)
        # Of a line that is too long no more is kept than shows that it is.
        left = left[: _MAX_LINE_BYTES + 1]
    take_line(left)
    take(None)


def _read_chunk() -> bytes:
    """Some bytes of standard input; none at its end, or if it cannot be read."""
    try:
        return os.read(0, _CHUNK_BYTES)
    except OSError:
        return b""


def _think(jobs: "SimpleQueue[Job]", post: Post) -> None:
    """Does jobs; loads torch for the first one that needs it."""
    while isinstance(job := jobs.get(), Forget):
        pass
    if isinstance(job, End):
        return
    try:
        from keisei_ray.usi.network import load_network
        from keisei_ray.usi.thinker import Thinker

        thinker = Thinker(load_network, post)
        thinker.do(job)
        thinker.work(jobs)
    except Exception as error:  # noqa: BLE001  the thread's border: the client waits for an answer
        post(Failed(job.number, f"{type(error).__name__}: {error}", is_fatal=True))
