"""The networks' process as the server sees it: questions to it, one at a time, and its end."""

import asyncio
import contextlib
import json
import logging
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable, Sequence
from typing import Any, Final

from aiohttp import web

from keisei_ray.errors import CheckpointError, PlayerError

COMMAND: Final = (sys.executable, "-m", "keisei_ray.web.thinking_process")
MAX_ANSWER_BYTES: Final = 64 << 20
IDLE_S: Final = 600.0
"""Seconds without a question after which a process that is not needed is ended."""

logger = logging.getLogger(__name__)


class Thinker:
    """Asks the networks' process, which is started by the first question.

    A question waits for those before it. Where the caller is cancelled, the job is too, and the
    next question is asked at once.
    """

    def __init__(
        self, command: Sequence[str] = COMMAND, is_needed: Callable[[], bool] = lambda: False
    ) -> None:
        """Args:
        command: program that is started, with its arguments.
        is_needed: whether the process stays although nothing has been asked for a while, since
            the checkpoints of its networks may be gone.
        """
        self._command = command
        self._is_needed = is_needed
        self._process: Process | None = None
        self._numbers = 0
        self._turn = asyncio.Lock()
        self._idle: asyncio.TimerHandle | None = None
        self._ending: asyncio.Future[None] | None = None

    async def ask(self, **question: Any) -> Any:
        """Asks a question and returns the result.

        Args:
            question: fields of `thinking_process.Job` but for its number.

        Raises:
            CheckpointError: the checkpoint cannot be used, or the question makes no sense.
            PlayerError: the process failed or died.
        """
        async with self._turn:
            if self._idle is not None:
                self._idle.cancel()
            try:
                answer = await self._answer(question)
            finally:
                self._wait_idle()
        if "error" in answer:
            raise CheckpointError(answer["error"])
        if "failure" in answer:
            logger.error("a network failed: %s", answer["failure"])
            raise PlayerError(f"the network failed: {answer['failure']}. Try again.")
        return answer["result"]

    async def close(self) -> None:
        """Kills the process, which keeps nothing."""
        if self._idle is not None:
            self._idle.cancel()
        process, self._process = self._process, None
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    def _wait_idle(self) -> None:
        """Looks after IDLE_S whether the process is still needed."""
        self._idle = asyncio.get_running_loop().call_later(IDLE_S, self._end_idle)

    def _end_idle(self) -> None:
        """Ends the process that nothing has been asked for a while, unless it is needed."""
        if self._turn.locked():
            return
        if self._is_needed():
            self._wait_idle()
        else:
            self._ending = asyncio.ensure_future(self.close())

    async def _answer(self, question: dict[str, Any]) -> dict[str, Any]:
        process = self._process
        if process is None or process.returncode is not None:
            process = self._process = await self._start()
        assert process.stdin is not None
        assert process.stdout is not None
        self._numbers += 1
        number = self._numbers
        try:
            self._send({"number": number, **question})
            await process.stdin.drain()
            while line := await process.stdout.readline():
                answer: dict[str, Any] = json.loads(line)
                if answer["number"] == number:  # Those before it were cancelled.
                    return answer
        except (BrokenPipeError, ConnectionResetError):
            pass  # It has died; its exit code says more.
        except asyncio.CancelledError:
            self._send({"cancel": number})
            raise
        code = await process.wait()
        raise PlayerError(
            f"the process in which the network thinks has ended (exit code {code}). Try again; if "
            "it ends again, this machine may lack memory."
        )

    def _send(self, message: dict[str, Any]) -> None:
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.write(json.dumps(message).encode() + b"\n")

    async def _start(self) -> Process:
        try:
            return await asyncio.create_subprocess_exec(
                *self._command, stdin=PIPE, stdout=PIPE, limit=MAX_ANSWER_BYTES
            )
        except OSError as error:
            raise PlayerError(f"no process for the network can be started: {error}.") from error


THINKER: Final = web.AppKey("THINKER", Thinker)
"""Key of the server's thinker."""
