"""What a run leaves on disk, in its log and on a screen; users' own subscribers."""

import io
import json
import logging
import re
import resource
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from keisei_ray.config.schema import Config
from keisei_ray.errors import ConfigError, RunDirError
from keisei_ray.telemetry import events as ev
from keisei_ray.telemetry.metrics import METRIC_NAMES
from keisei_ray.telemetry.reports import Rating
from keisei_ray.tracking import build_subscribers, choose_view, jsonl, load_subscriber, logs
from keisei_ray.tracking.terminal.lines import LinesView
from keisei_ray.tracking.terminal.live import TerminalView
from keisei_ray.tracking.terminal.summary import summary
from keisei_ray.tracking.terminal.view_state import ViewState, fold
from tests.helpers.tracking_fakes import evaluated, game, record, run_started, updated


def plain_console(**settings: object) -> Console:
    """A console that writes to memory."""
    return Console(file=io.StringIO(), **settings)  # type: ignore[arg-type]


def written(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


# Files


def test_metrics_are_one_object_an_update_in_the_tables_order(tmp_path: Path) -> None:
    file = jsonl.MetricsFile(tmp_path, None)
    file.handle(updated(1, policy_loss=float("nan")))
    file.handle(ev.Notice("not a metric"))
    file.handle(updated(2))
    first, second = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert list(json.loads(first)) == list(METRIC_NAMES)
    assert json.loads(first) == record(1, policy_loss=None)
    assert json.loads(second) == record(2)
    file.close()
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 2


def test_games_are_one_object_each_with_the_timestep_they_counted_at(tmp_path: Path) -> None:
    file = jsonl.GamesFile(tmp_path, None)
    for index in range(3):
        file.handle(ev.GameFinished(game(index), 1000 + index))
    file.handle(updated(1))
    file.close()
    games = [json.loads(line) for line in (tmp_path / "games.jsonl").read_text().splitlines()]
    assert [g["game_id"] for g in games] == ["0-0-0", "0-0-1", "0-0-2"]
    assert [g["timestep"] for g in games] == [1000, 1001, 1002]
    assert (
        games[0].items()
        >= {
            "game_id": "0-0-0",
            "actor_id": 0,
            "incarnation": 0,
            "index": 0,
            "weights_version": 0,
            "result": "draw",
            "reason": "repetition",
            "plies": 12,
            "opening_plies": 2,
            "moves": "7g7f 3c3d",
        }.items()
    )


def test_events_hold_lifecycle_and_faults_with_time_and_kind_and_no_config(tmp_path: Path) -> None:
    clock = Clock()
    file = jsonl.EventsFile(tmp_path, None, clock)
    told = [
        run_started(),
        ev.ActorReady(0, 0, 77, "node-a"),
        ev.ActorLost(0, 0, "Traceback\n\u5c06", 2),
        ev.RolloutRejected(1, "damaged"),
        ev.CheckpointSaved("c", 5),
        ev.Notice("hm", "WARNING"),
        ev.RunEnded("done", 5, "c", 1.0),
    ]
    for event in (*told, updated(1), ev.GameFinished(game(0), 1), ev.RolloutArrived(0, 0, 0, 1)):
        file.handle(event)
        clock.now += 1.5
    file.close()
    text = (tmp_path / "events.jsonl").read_text()
    records = [json.loads(line) for line in text.splitlines()]
    assert [r["kind"] for r in records] == [event.kind for event in told]
    assert [r["time"] for r in records[:2]] == [
        "2023-11-14T22:13:20.000+00:00",
        "2023-11-14T22:13:21.500+00:00",
    ]
    assert records[0]["cluster"] == {"num_nodes": 1, "num_cpus": 2}
    assert all("config" not in r for r in records)
    assert records[2] == {
        "time": records[2]["time"],
        "kind": "actor_lost",
        "actor_id": 0,
        "incarnation": 0,
        "cause": "Traceback\n\u5c06",
        "restarts_left": 2,
    }
    assert text.isascii()


def test_each_record_is_on_disk_when_the_handler_returns(tmp_path: Path) -> None:
    file = jsonl.GamesFile(tmp_path, None)
    for count in (1, 2, 3):
        file.handle(ev.GameFinished(game(count), count))
        assert len((tmp_path / "games.jsonl").read_text().splitlines()) == count
    file.close()


def test_a_fresh_run_refuses_the_records_of_another_run(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text("{}\n")
    with pytest.raises(RunDirError, match="--resume latest"):
        jsonl.MetricsFile(tmp_path, None)
    assert (tmp_path / "metrics.jsonl").read_text() == "{}\n"


def test_a_file_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    (tmp_path / "games.jsonl").mkdir()
    with pytest.raises(RunDirError, match=r"games\.jsonl"):
        jsonl.GamesFile(tmp_path, None)
    with pytest.raises(RunDirError, match=r"metrics\.jsonl"):
        jsonl.MetricsFile(tmp_path / "nowhere", None)


def test_a_line_cut_by_a_crash_is_removed_and_the_next_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "games.jsonl"
    line = jsonl.encode({"timestep": 2, "game_id": "b"})
    for cut in range(len(line)):
        path.write_bytes(jsonl.encode({"timestep": 1}) + line[:cut])
        file = jsonl.JsonLines(path, resumed_timestep=5)
        file.append({"timestep": 3})
        file.close()
        records = [json.loads(text) for text in path.read_text().splitlines()]
        assert records == [{"timestep": 1}, {"timestep": 3}], cut


def test_a_resume_sets_aside_what_will_be_played_again(tmp_path: Path) -> None:
    metrics = jsonl.MetricsFile(tmp_path, None)
    for update in range(1, 6):
        metrics.handle(updated(update))
    metrics.close()
    metrics = jsonl.MetricsFile(tmp_path, 3000)
    for update in (4, 5):
        metrics.handle(updated(update, policy_loss=1.0))
    metrics.close()
    records = [json.loads(x) for x in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [(r["timestep"], r["policy_loss"]) for r in records] == [
        (1000, -0.0123),
        (2000, -0.0123),
        (3000, -0.0123),
        (4000, 1.0),
        (5000, 1.0),
    ]
    aside = (tmp_path / "metrics.jsonl.superseded").read_text().splitlines()
    assert [json.loads(x)["timestep"] for x in aside] == [4000, 5000]


def test_a_resume_keeps_every_lifecycle_event(tmp_path: Path) -> None:
    for resumed_timestep in (None, 0, 0):
        file = jsonl.EventsFile(tmp_path, resumed_timestep, Clock())
        file.handle(ev.CheckpointSaved("c", 9000))
        file.close()
    assert len((tmp_path / "events.jsonl").read_text().splitlines()) == 3
    assert not (tmp_path / "events.jsonl.superseded").exists()


@given(
    steps=st.lists(st.integers(0, 40), max_size=25),
    resumed=st.integers(0, 450),
    block=st.integers(1, 200),
    half=st.booleans(),
)
def test_setting_aside_equals_reading_the_whole_file(
    tmp_path_factory: pytest.TempPathFactory,
    steps: list[int],
    resumed: int,
    block: int,
    half: bool,
) -> None:
    path = tmp_path_factory.mktemp("run") / "games.jsonl"
    timesteps = [sum(steps[: i + 1]) for i in range(len(steps))]
    lines = [jsonl.encode({"timestep": t, "pad": "x" * (t % 30)}) for t in timesteps]
    path.write_bytes(b"".join(lines) + (b'{"timestep": 1' if half else b""))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jsonl, "_BLOCK", block)
        jsonl.JsonLines(path, resumed_timestep=resumed).close()
    kept = b"".join(x for x, t in zip(lines, timesteps, strict=True) if t <= resumed)
    assert path.read_bytes() == kept
    aside = path.with_name("games.jsonl.superseded")
    rest = aside.read_bytes() if aside.exists() else b""
    assert kept + rest == b"".join(lines)


def test_a_full_disk_leaves_whole_lines_and_writing_goes_on_afterwards(tmp_path: Path) -> None:
    file = jsonl.JsonLines(tmp_path / "a.jsonl", resumed_timestep=None)
    file.append({"n": 1, "pad": "x" * 50})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        with pytest.raises(OSError, match=r"bytes written|too large"):
            file.append({"n": 2, "pad": "x" * 50})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    file.append({"n": 3})
    file.close()
    records = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert [r["n"] for r in records] == [1, 3]


# Lines and summary


def lines_of(*events: ev.Event) -> list[str]:
    console, clock = plain_console(width=40), Clock()
    view = LinesView(console, clock)
    for event in events:
        view.handle(event)
        clock.now += 1.0
    view.close()
    return written(console).splitlines()


def test_an_update_is_one_line_of_key_value_with_the_contracts_names() -> None:
    lines = lines_of(run_started(), updated(7, grad_norm=None))
    assert len(lines) == 2
    pairs = dict(pair.split("=") for pair in lines[1].split())
    assert set(pairs) - {"done", "left"} <= set(METRIC_NAMES)
    for name, value in {
        "update": "7",
        "timestep": "7000",
        "done": "7.0%",
        "left": "0:01:33",
        "sps": "1000",
        "games_total": "70",
        "black_wins": "35",
        "draws": "7",
        "policy_loss": "-0.0123",
        "learning_rate": "2.97e-04",
        "grad_norm": "-",
        "policy_lag_max": "1",
        "actors_alive": "2",
    }.items():
        assert pairs[name] == value, name


def test_the_columns_of_all_updates_stand_under_one_another() -> None:
    first, last = lines_of(run_started(), updated(1), updated(100))[1:]
    assert first.startswith("update=1 ")
    assert [m.start() for m in re.finditer("=", first)] == [
        m.start() for m in re.finditer("=", last)
    ]


def test_a_match_is_one_line_with_its_newest_rating() -> None:
    fitted = ev.RatingsFitted((Rating("v7", 312.4, 280.0, None, 32),), 7000)
    lines = lines_of(run_started(), evaluated(7, "greedy", wins=14), fitted)
    assert len(lines) == 2
    assert dict(pair.split("=") for pair in lines[1].split()) == {
        "evaluation": "v7",
        "timestep": "7000",
        "opponent": "greedy",
        "games": "32",
        "score": "0.438",
        "score_low": "0.338",
        "score_high": "0.537",
        "elo": "+312",
        "elo_low": "+280",
        "elo_high": "-",
    }


def test_a_table_without_a_match_of_this_session_has_no_line() -> None:
    fitted = ev.RatingsFitted((Rating("v7", 312.4, 280.0, None, 32),), 7000)
    assert len(lines_of(run_started(), fitted)) == 1


def test_faults_and_milestones_are_notice_lines() -> None:
    lines = lines_of(
        run_started(num_actors=1),
        ev.ActorReady(0, 0, 1, "n"),
        ev.RolloutArrived(0, 0, 0, 2048),
        ev.GameFinished(game(0), 3),
        ev.ActorLost(0, 0, "boom", 2),
        ev.CheckpointSaved("runs/x/checkpoints/step-1", 1),
    )
    assert all(line.startswith("notice elapsed=") for line in lines)
    kinds = [re.search(r"kind=(\w+)", line)[1] for line in lines]  # type: ignore[index]
    assert kinds == ["run_started", "actor_ready", "actor_lost", "checkpoint_saved"]
    assert "level=WARNING" in lines[2]
    assert lines[2].endswith("actor 0 lost, 2 restarts left: boom")


def ended(reason: str, checkpoint: str | None, cause: str | None = None) -> ViewState:
    view_state = fold(fold(ViewState(), run_started(), 0.0), updated(100), 1.0)
    end = ev.RunEnded(reason, 100_000, checkpoint, 200.0, cause)  # type: ignore[arg-type]
    return fold(view_state, end, 2.0)


def test_the_summary_says_what_was_trained_where_it_lies_and_what_to_run_next() -> None:
    text = summary(ended("done", "runs/x/checkpoints/step 1")).plain
    assert "100,000 of 100,000 timesteps, 100 updates, in 0:03:20, 500 a second" in text
    assert "1,000: black 50.0%, white 30.0%, draw 10.0%, truncated 10.0%" in text
    assert "evaluate --checkpoint 'runs/x/checkpoints/step 1' --opponent random" in text
    assert "--run-dir runs/x --resume latest --total-timesteps 200000" in text
    interrupted = summary(ended("interrupted", "c")).plain.splitlines()
    assert interrupted[-2].endswith("python run.py --run-dir runs/x --resume latest")
    failed = summary(ended("failed", None, "Traceback (most recent call last):\nOSError: x")).plain
    assert "OSError: x" in failed
    assert "--resume" not in failed
    assert "read runs/x/run.log" in failed
    with pytest.raises(ValueError, match="RunEnded"):
        summary(ViewState())


# Terminal


def test_the_terminal_is_given_back_and_the_summary_stays() -> None:
    console, clock = plain_console(force_terminal=True, width=80, height=24), Clock()
    stdout, stderr = sys.stdout, sys.stderr
    view = TerminalView(console, clock)
    view.handle(run_started())
    assert sys.stdout is not stdout
    view.handle(updated(1))
    view.handle(ev.RunEnded("done", 1000, "c", 1.0))
    view.close()
    view.close()
    assert (sys.stdout, sys.stderr) == (stdout, stderr)
    text = written(console)
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")
    assert "explained var" in text
    assert text.rindex("trained") > text.rindex("explained var")


def test_a_warning_while_the_view_is_live_is_a_whole_line_above_the_frame(tmp_path: Path) -> None:
    console, clock = plain_console(force_terminal=True, width=80, height=24), Clock()
    view = TerminalView(console, clock)
    with logs.configure(tmp_path, "INFO", console):
        view.handle(run_started())
        logging.getLogger("a").warning("careful now")
        print("a stray print")
        view.close()
    plain = re.sub(r"\x1b\[[?0-9;]*[A-Za-z]", "", written(console))
    assert "WARNING [driver] careful now" in [line.strip() for line in plain.splitlines()]
    assert "a stray print" in [line.strip() for line in plain.splitlines()]


def test_both_views_fold_the_same_events_to_the_same_state() -> None:
    clock = Clock()
    terminal = TerminalView(plain_console(force_terminal=True, width=80, height=24), clock)
    lines = LinesView(plain_console(), clock)
    for event in (run_started(), ev.ActorReady(0, 0, 1, "n"), updated(1), ev.Notice("x")):
        clock.now += 1.0
        terminal.handle(event)
        lines.handle(event)
    terminal.close()
    assert terminal.state == lines.state


# Logging


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


# Subscribers

GUESTS = """
import threading
seen = []
closed = []
def handle(event):
    seen.append(event.kind)
class Stateful:
    def __call__(self, event):
        seen.append(("stateful", event.kind))
    def close(self):
        closed.append(True)
class Mute:
    pass
def raising(event):
    raise LookupError(event.kind)
number = 3
"""


@pytest.fixture
def guests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An importable module of users' subscribers; its name."""
    package = tmp_path / "plugins"
    package.mkdir()
    (package / "guests_for_tests.py").write_text(GUESTS)
    monkeypatch.syspath_prepend(str(package))
    monkeypatch.delitem(sys.modules, "guests_for_tests", raising=False)
    return "guests_for_tests"


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("guests_for_tests", "package.module:callable"),
        (":handle", "package.module:callable"),
        ("guests_for_tests:", "package.module:callable"),
        ("no_such_module_here:handle", "no_such_module_here"),
        ("guests_for_tests:handel", "handel"),
        ("guests_for_tests:number", "int"),
        ("guests_for_tests:Mute", "Mute"),
    ],
)
@pytest.mark.usefixtures("guests")
def test_a_subscriber_that_cannot_be_had_is_a_config_error(path: str, expected: str) -> None:
    with pytest.raises(ConfigError, match=r"tracking\.subscribers") as error:
        load_subscriber(path)
    assert expected in str(error.value)
    assert "\n" not in str(error.value)


def test_a_whole_run_with_guests_leaves_complete_files(tmp_path: Path, guests: str) -> None:
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    paths = [f"{guests}:raising", f"{guests}:handle", f"{guests}:Stateful"]
    config = Config.model_validate({"tracking": {"view": "lines", "subscribers": paths}})
    console, bus = plain_console(), ev.EventBus()
    with logs.configure(run_dir, "INFO", console):
        built = build_subscribers(config, run_dir, bus, resumed_timestep=None, console=console)
        for subscriber in built:
            bus.subscribe(subscriber.name, subscriber.handle, subscriber.close)
        for event in (
            run_started(),
            updated(1),
            ev.GameFinished(game(0), 1000),
            updated(2),
            ev.RunEnded("done", 2000, None, 2.0),
        ):
            bus.publish(event)
        assert bus.close(5.0) == ()
    module = sys.modules[guests]
    kinds = ["run_started", "update_finished", "game_finished", "update_finished", "run_ended"]
    assert [seen for seen in module.seen if isinstance(seen, str)] == kinds
    assert [seen[1] for seen in module.seen if isinstance(seen, tuple)] == kinds
    assert module.closed == [True]
    assert bus.failures == {f"{guests}:raising": 5}
    assert len((run_dir / "metrics.jsonl").read_text().splitlines()) == 2
    assert len((run_dir / "games.jsonl").read_text().splitlines()) == 1
    assert len((run_dir / "events.jsonl").read_text().splitlines()) == 2
    assert "LookupError" in (run_dir / "run.log").read_text()
    shown = written(console)
    assert len(re.findall("^update=", shown, re.MULTILINE)) == 2
    assert "Keisei Ray done" in shown


@pytest.mark.parametrize("view", ["rich", "lines", "none"])
def test_a_view_that_is_asked_for_is_used(view: str, tmp_path: Path) -> None:
    config = Config.model_validate({"tracking": {"view": view}})
    console = plain_console()
    built = {
        subscriber.name: subscriber
        for subscriber in build_subscribers(
            config, tmp_path, ev.EventBus(), resumed_timestep=None, console=console
        )
    }
    for subscriber in built.values():
        if subscriber.close is not None:
            subscriber.close()
    assert ("view" in built) == (view != "none")
    assert {"log", "metrics.jsonl", "games.jsonl", "evaluations.jsonl", "events.jsonl"} <= set(
        built
    )


def test_the_view_is_chosen_by_the_terminal() -> None:
    assert choose_view("auto", plain_console()) == "lines"
    assert choose_view("auto", plain_console(force_terminal=True)) == "rich"
    dumb = plain_console(force_terminal=True, _environ={"TERM": "dumb"})
    assert choose_view("auto", dumb) == "lines"
    assert choose_view("rich", plain_console()) == "rich"
