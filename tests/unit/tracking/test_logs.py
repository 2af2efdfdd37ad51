"""The log of a run, and the part of it that the console shows."""

import io
import logging
import re
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from keisei_ray.errors import RunDirError
from keisei_ray.telemetry import events as ev
from keisei_ray.tracking import logs
from tests.helpers.consoles import plain_console, written
from tests.helpers.run_events import run_started, updated


def not_pytests(handlers: list[logging.Handler]) -> list[logging.Handler]:
    """Pytest hangs its own handlers on loggers, others in each phase of a test."""
    return [h for h in handlers if not type(h).__module__.startswith("_pytest")]


@pytest.fixture
def logging_state() -> Iterator[tuple[object, ...]]:
    def state() -> tuple[object, ...]:
        loggers = (logging.getLogger(), logging.getLogger("ray"))
        return (
            *((not_pytests(lg.handlers), lg.level, lg.propagate) for lg in loggers),
            warnings.showwarning,
        )

    before = state()
    yield before
    assert state() == before


@pytest.mark.filterwarnings("default")
@pytest.mark.usefixtures("logging_state")
def test_the_log_file_gets_all_and_the_console_only_warnings(tmp_path: Path) -> None:
    console = plain_console(width=40)
    library = logging.getLogger("ray")
    handlers, propagate = library.handlers[:], library.propagate
    library.handlers = [noisy := logging.StreamHandler(io.StringIO())]
    library.propagate = False
    try:
        with logs.configure(tmp_path, "INFO", console):
            logging.getLogger("a.b").debug("too fine")
            logging.getLogger("a.b").info("all is well")
            logging.getLogger("a.b").warning("of actor", extra={"actor_id": 3})
            library.warning("from the library")
            warnings.warn("python says", UserWarning, stacklevel=1)
            try:
                raise KeyError("k")
            except KeyError:
                logging.getLogger("a.b").exception("it broke\nbadly")
        assert library.handlers == [noisy]
        assert not noisy.stream.getvalue()
    finally:
        library.handlers, library.propagate = handlers, propagate
    form = re.compile(
        r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z) (\w+) +([\w.]+): \[(driver|actor \d+)\] (.*)"
    )
    text = (tmp_path / "run.log").read_text()
    records = [m.groups()[1:] for m in map(form.fullmatch, text.splitlines()) if m]
    assert records[0] == ("INFO", "a.b", "driver", "all is well")
    assert records[1] == ("WARNING", "a.b", "actor 3", "of actor")
    assert records[2] == ("WARNING", "ray", "driver", "from the library")
    assert records[3][:3] == ("WARNING", "py.warnings", "driver")
    assert records[4] == ("ERROR", "a.b", "driver", "it broke")
    assert "KeyError: 'k'" in text
    shown = written(console).splitlines()
    assert shown[0] == "WARNING [actor 3] of actor"
    assert shown[-1] == "ERROR [driver] it broke (traceback in run.log)"
    assert len(shown) == 4


@pytest.mark.filterwarnings("default")
@pytest.mark.usefixtures("logging_state")
def test_logging_is_restored_after_an_error_and_can_be_nested(tmp_path: Path) -> None:
    inner_dir = tmp_path / "inner"
    inner_dir.mkdir()

    def run() -> None:
        with logs.configure(tmp_path, "INFO", plain_console()):
            with logs.configure(inner_dir, "ERROR", plain_console()):
                logging.getLogger("x").warning("not for the inner file")
            logging.getLogger("x").info("outer")
            warnings.warn("outer warning", UserWarning, stacklevel=1)
            raise KeyError

    with pytest.raises(KeyError):
        run()
    text = (tmp_path / "run.log").read_text()
    assert "outer" in text
    assert "outer warning" in text
    assert (inner_dir / "run.log").read_text() == ""


def test_a_log_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    (tmp_path / "run.log").mkdir()
    with (
        pytest.raises(RunDirError, match=r"run\.log"),
        logs.configure(tmp_path, "INFO", plain_console()),
    ):
        pass


def test_events_are_logged_with_their_actor_and_full_cause_and_shown_once(tmp_path: Path) -> None:
    cause = "Traceback (most recent call last):\n  deep inside\nValueError: boo"
    for is_showing, count in ((False, 0), (True, 1)):
        console = plain_console(width=200)
        with logs.configure(tmp_path, "INFO", console, is_showing_events=is_showing):
            logs.log_event(run_started())
            logs.log_event(ev.ActorReady(4, 2, 99, "node-b"))
            logs.log_event(ev.ActorLost(4, 2, cause, 1))
            logs.log_event(updated(1))
        assert len(written(console).splitlines()) == count
    lines = (tmp_path / "run.log").read_text().splitlines()
    assert len(lines) == 2 * 6
    assert lines[0].endswith("[driver] run runs/x started at timestep 0")
    assert lines[1].endswith("[actor 4] ready: incarnation 2, pid 99 on node-b")
    assert lines[2].endswith("[actor 4] actor 4 lost, 1 restart left: ValueError: boo")
    assert lines[3:6] == cause.splitlines()
