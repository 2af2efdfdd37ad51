"""Lines wait for room on the disk, in order; what is lost is counted; nothing waits for ever."""

import contextlib
import resource
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from keisei_ray.errors import RunDirError
from keisei_ray.telemetry import events as ev
from keisei_ray.tracking import recorders
from keisei_ray.tracking.run_file_queue import RunFileQueue
from tests.helpers.run_events import game, updated

PATIENCE_S = 10.0


@contextlib.contextmanager
def full_disk() -> Iterator[None]:
    """Lets no file grow inside the block."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


class Watched:
    """A queue, and what it publishes."""

    def __init__(self, **settings: int) -> None:
        self.notices: list[ev.Notice] = []
        self.is_waiting = threading.Event()
        self.files = RunFileQueue(self._publish, retry_s=0.01, **settings)

    def _publish(self, event: ev.Event) -> None:
        assert isinstance(event, ev.Notice)
        self.notices.append(event)
        if "wait in memory" in event.message:
            self.is_waiting.set()


def test_records_wait_for_room_on_the_disk_and_keep_their_order(tmp_path: Path) -> None:
    watched = Watched()
    games = recorders.games_recorder(tmp_path, None, watched.files)
    metrics = recorders.metrics_recorder(tmp_path, None, watched.files)
    with full_disk():
        for index in range(5):
            games.handle(ev.GameFinished(game(index), index))
        metrics.handle(updated(1))
        assert watched.is_waiting.wait(PATIENCE_S)
        assert not watched.files.flush(0.1)
        assert (tmp_path / "games.jsonl").read_bytes() == b""
        watched.files.check()
    games.close()
    metrics.close()
    lines = (tmp_path / "games.jsonl").read_text().splitlines()
    assert [f'"0-0-{index}"' in line for index, line in enumerate(lines)] == [True] * 5
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 1
    waiting, again = watched.notices
    assert waiting.level == "WARNING"
    assert str(tmp_path / "games.jsonl") in waiting.message
    assert "can be written again" in again.message
    watched.files.close()


def test_more_than_the_bound_ends_the_run(tmp_path: Path) -> None:
    watched = Watched(max_waiting_bytes=1500)
    games = recorders.games_recorder(tmp_path, None, watched.files)
    with full_disk():
        for index in range(20):
            games.handle(ev.GameFinished(game(index), index))
        assert watched.is_waiting.wait(PATIENCE_S)
        with pytest.raises(RunDirError, match=r"games\.jsonl.*Free space, then --resume latest"):
            watched.files.check()
    games.close()
    watched.files.check()
    assert len((tmp_path / "games.jsonl").read_text().splitlines()) == 20
    watched.files.close()


def test_what_is_lost_is_counted_and_later_lines_are_tried_once(tmp_path: Path) -> None:
    watched = Watched()
    games = recorders.games_recorder(tmp_path, None, watched.files)
    events = recorders.events_recorder(tmp_path, None, lambda: 0.0, watched.files)
    with full_disk():
        for index in range(7):
            games.handle(ev.GameFinished(game(index), index))
        watched.files.finish(0.1)
        events.handle(ev.Notice("tried once"))
        assert watched.files.flush(PATIENCE_S)
    lost = watched.notices[-1]
    assert lost.level == "ERROR"
    assert lost.message.startswith("7 lines of the run's files could not be written and are lost:")
    events.handle(ev.RunEnded("failed", 1, None, 1.0))
    events.close()
    games.close()
    assert (tmp_path / "games.jsonl").read_text() == ""
    (record,) = (tmp_path / "events.jsonl").read_text().splitlines()
    assert "run_ended" in record
    assert "can be written" not in watched.notices[-1].message
    watched.files.close()


def test_nothing_is_said_where_everything_is_written(tmp_path: Path) -> None:
    watched = Watched()
    games = recorders.games_recorder(tmp_path, None, watched.files)
    games.handle(ev.GameFinished(game(0), 1))
    watched.files.finish(PATIENCE_S)
    assert len((tmp_path / "games.jsonl").read_text().splitlines()) == 1
    games.close()
    assert watched.notices == []
    watched.files.close()


def test_a_disk_that_hangs_holds_up_nobody() -> None:
    watched, hang = Watched(max_waiting_bytes=5), threading.Event()
    watched.files.put(lambda content: hang.wait(), b"first")
    watched.files.put(lambda content: None, b"second")
    with pytest.raises(RunDirError, match="the disk does not answer"):
        watched.files.check()
    watched.files.finish(0.1)
    hang.set()
    assert watched.notices[-1].message.startswith("2 lines")
    watched.files.close()
