"""The subscribers of a configuration; users' own subscribers."""

import re
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from keisei_ray.config.schema import Config
from keisei_ray.report.command import write_report
from keisei_ray.status.run_status import status_of
from keisei_ray.telemetry import events as ev
from keisei_ray.telemetry.divergence import Divergence
from keisei_ray.tracking import logs
from keisei_ray.tracking.subscribers import build_subscribers, choose_view
from tests.helpers.consoles import plain_console, written
from tests.helpers.run_events import diagnosed, game, run_started, updated

MODULE = """
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
class NotCallable:
    pass
def raising(event):
    raise LookupError(event.kind)
number = 3
"""


@pytest.fixture
def users_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An importable module of users' subscribers; its name."""
    package = tmp_path / "plugins"
    package.mkdir()
    (package / "subscribers_for_tests.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(package))
    monkeypatch.delitem(sys.modules, "subscribers_for_tests", raising=False)
    return "subscribers_for_tests"


def test_a_whole_run_with_users_subscribers_leaves_complete_files(
    tmp_path: Path, users_module: str
) -> None:
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    paths = [f"{users_module}:raising", f"{users_module}:handle", f"{users_module}:Stateful"]
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
    module = sys.modules[users_module]
    kinds = ["run_started", "update_finished", "game_finished", "update_finished", "run_ended"]
    assert [seen for seen in module.seen if isinstance(seen, str)] == kinds
    assert [seen[1] for seen in module.seen if isinstance(seen, tuple)] == kinds
    assert module.closed == [True]
    assert bus.failures == {f"{users_module}:raising": 5}
    assert len((run_dir / "metrics.jsonl").read_text().splitlines()) == 2
    assert len((run_dir / "games.jsonl").read_text().splitlines()) == 1
    assert len((run_dir / "events.jsonl").read_text().splitlines()) == 2
    assert "LookupError" in (run_dir / "run.log").read_text()
    shown = written(console)
    assert len(re.findall("^update=", shown, re.MULTILINE)) == 2
    assert "Keisei Ray done" in shown


def test_a_divergence_is_seen_by_the_user_wherever_the_run_is_watched(tmp_path: Path) -> None:
    config = Config.model_validate({"tracking": {"view": "lines"}})
    (tmp_path / "config.json").write_text(config.model_dump_json())
    console, bus = plain_console(), ev.EventBus()
    with logs.configure(tmp_path, "INFO", console):
        for subscriber in build_subscribers(
            config, tmp_path, bus, resumed_timestep=None, console=console
        ):
            bus.subscribe(subscriber.name, subscriber.handle, subscriber.close)
        bus.publish(run_started())
        found = Divergence(3, "kl_proximal 1e+08", sound_until=0)
        for update, divergence in ((2, None), (3, found), (4, None)):
            bus.publish(updated(update))
            bus.publish(replace(diagnosed(update), divergence=divergence))
        assert bus.close(5.0) == ()
    warning = "training diverges at update 3: kl_proximal 1e+08"
    (notice,) = [line for line in written(console).splitlines() if "level=WARNING" in line]
    assert warning in notice
    assert warning in (tmp_path / "run.log").read_text()
    assert warning in (tmp_path / "events.jsonl").read_text()
    assert warning in status_of(tmp_path, time.time()).warnings[0].message
    assert warning in write_report(tmp_path).read_text().split("</header>")[0]


@pytest.mark.parametrize("view", ["rich", "lines", "none"])
def test_the_configured_view_is_used(view: str, tmp_path: Path) -> None:
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
