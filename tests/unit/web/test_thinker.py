"""Questions to the networks' process, with a small program in its place."""

import asyncio
import signal
import sys
from collections.abc import Awaitable, Callable

import pytest

from keisei_ray.errors import CheckpointError, PlayerError
from keisei_ray.web.thinker import Thinker

PROGRAM = """
import json, sys
waiting, later = None, []

def do(job):
    global waiting
    if waiting is not None:
        later.append(job)
    elif job["kind"] == "die":
        sys.exit(7)
    elif job["kind"] == "wait":
        waiting = job["number"]
    else:
        print(json.dumps({"number": job["number"], job["kind"]: job["text"]}), flush=True)

for line in sys.stdin:
    job = json.loads(line)
    if "cancel" not in job:
        do(job)
    elif job["cancel"] == waiting:
        print(json.dumps({"number": waiting, "cancelled": True}), flush=True)
        waiting, jobs, later = None, later, []
        for each in jobs:
            do(each)
"""
"""Does one job after the other; `wait` takes until it is cancelled."""


def with_thinker(
    talk: Callable[[Thinker], Awaitable[None]], is_needed: Callable[[], bool] = lambda: False
) -> None:
    """Lets `talk` ask the small program."""

    async def run() -> None:
        thinker = Thinker((sys.executable, "-c", PROGRAM), is_needed)
        try:
            await asyncio.wait_for(talk(thinker), 60)
        finally:
            await thinker.close()

    asyncio.run(run())


def test_questions_are_answered_one_after_the_other() -> None:
    async def talk(thinker: Thinker) -> None:
        texts = [str(n) for n in range(9)]
        asked = [thinker.ask(kind="result", text=text) for text in texts]
        assert await asyncio.gather(*asked) == texts

    with_thinker(talk)


def test_a_question_whose_caller_has_gone_is_cancelled_and_the_next_one_answered() -> None:
    async def talk(thinker: Thinker) -> None:
        gone = asyncio.ensure_future(thinker.ask(kind="wait"))
        queued = asyncio.ensure_future(thinker.ask(kind="wait"))
        await asyncio.sleep(0)
        after = asyncio.ensure_future(thinker.ask(kind="result", text="after"))
        while thinker._process is None:
            await asyncio.sleep(0.01)
        queued.cancel()
        gone.cancel()
        assert await after == "after"
        with pytest.raises(asyncio.CancelledError):
            await gone

    with_thinker(talk)


def test_errors_of_the_user_and_faults_are_told_apart() -> None:
    async def talk(thinker: Thinker) -> None:
        with pytest.raises(CheckpointError, match="is damaged"):
            await thinker.ask(kind="error", text="it is damaged")
        with pytest.raises(PlayerError, match=r"Oops\. Try again"):
            await thinker.ask(kind="failure", text="Oops")

    with_thinker(talk)


def test_a_process_that_died_is_started_again_by_the_next_question() -> None:
    async def talk(thinker: Thinker) -> None:
        with pytest.raises(PlayerError, match="exit code 7"):
            await thinker.ask(kind="die")
        assert await thinker.ask(kind="result", text="again") == "again"

    with_thinker(talk)


def test_a_process_that_nothing_is_asked_is_ended_and_started_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("keisei_ray.web.thinker.IDLE_S", 0.01)

    async def talk(thinker: Thinker) -> None:
        await thinker.ask(kind="result", text="")
        process = thinker._process
        assert process is not None
        assert await process.wait() == -signal.SIGKILL
        assert await thinker.ask(kind="result", text="again") == "again"

    with_thinker(talk)


def test_a_process_that_is_needed_stays_until_it_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("keisei_ray.web.thinker.IDLE_S", 0.01)
    answers = iter([True, True, False])

    async def talk(thinker: Thinker) -> None:
        await thinker.ask(kind="result", text="")
        process = thinker._process
        assert process is not None
        assert await process.wait() == -signal.SIGKILL
        assert next(answers, None) is None

    with_thinker(talk, lambda: next(answers))


def test_a_program_that_is_not_there_is_said_in_a_line() -> None:
    async def ask() -> None:
        with pytest.raises(PlayerError, match="no process"):
            await Thinker(("/nowhere/python",)).ask(kind="result", text="")

    asyncio.run(ask())
