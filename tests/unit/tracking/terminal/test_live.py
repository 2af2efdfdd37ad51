"""The live view gives the terminal back."""

import logging
import re
import sys
from pathlib import Path

from rich.console import ConsoleDimensions

from keisei_ray.telemetry import events as ev
from keisei_ray.tracking import logs
from keisei_ray.tracking.terminal.lines import LinesView
from keisei_ray.tracking.terminal.live import CLEARED, LiveView
from tests.helpers.consoles import Clock, plain_console, written
from tests.helpers.run_events import run_started, updated


def test_the_terminal_is_given_back_and_the_summary_stays() -> None:
    console, clock = plain_console(force_terminal=True, width=80, height=24), Clock()
    stdout, stderr = sys.stdout, sys.stderr
    view = LiveView(console, clock)
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
    view = LiveView(console, clock)
    with logs.configure(tmp_path, "INFO", console):
        view.handle(run_started())
        logging.getLogger("a").warning("careful now")
        print("a stray print")
        view.close()
    plain = re.sub(r"\x1b\[[?0-9;]*[A-Za-z]", "", written(console))
    assert "WARNING [driver] careful now" in [line.strip() for line in plain.splitlines()]
    assert "a stray print" in [line.strip() for line in plain.splitlines()]


def test_no_lines_of_a_frame_of_another_size_stay_on_the_screen() -> None:
    console, clock = plain_console(force_terminal=True, width=80, height=24), Clock()
    view = LiveView(console, clock)
    view.handle(run_started())
    view._live.refresh()
    assert CLEARED not in written(console)
    console.size = ConsoleDimensions(60, 20)
    view._live.refresh()
    view._live.refresh()
    text = written(console)
    assert text.count(CLEARED) == 1
    assert "Keisei Ray" in text[text.index(CLEARED) :]
    view.close()


def test_both_views_fold_the_same_events_to_the_same_state() -> None:
    clock = Clock()
    terminal = LiveView(plain_console(force_terminal=True, width=80, height=24), clock)
    lines = LinesView(plain_console(), clock)
    for event in (run_started(), ev.ActorReady(0, 0, 1, "n"), updated(1), ev.Notice("x")):
        clock.now += 1.0
        terminal.handle(event)
        lines.handle(event)
    terminal.close()
    assert terminal.state == lines.state
