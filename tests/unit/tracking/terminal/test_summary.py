"""The summary at the end of a run."""

import pytest

from keisei_ray.telemetry import events as ev
from keisei_ray.telemetry.reports import Rating
from keisei_ray.tracking.terminal.summary import summary
from keisei_ray.tracking.terminal.view_state import ViewState, fold
from tests.helpers.run_events import run_started, updated


def ended(reason: str, checkpoint: str | None, cause: str | None = None) -> ViewState:
    view_state = fold(fold(ViewState(), run_started(), 0.0), updated(100), 1.0)
    end = ev.RunEnded(reason, 100_000, checkpoint, 200.0, cause)  # type: ignore[arg-type]
    return fold(view_state, end, 2.0)


def test_the_summary_says_what_was_trained_where_it_is_and_what_to_run_next() -> None:
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


def test_a_run_that_goes_on_has_the_strength_of_its_table_before_its_first_match() -> None:
    rated = {"v9": 300.0, "v10": 412.0, "v10+mate1": 520.0, "random": 0.0, "v2": 100.0}
    table = tuple(Rating(name, elo, elo - 30, elo + 30, 32) for name, elo in rated.items())
    start = run_started(timestep=50_000)
    view_state = fold(fold(ViewState(), start, 0.0), ev.RatingsFitted(table, 40_000), 0.0)
    end = ev.RunEnded("interrupted", 60_000, "c", 20.0, None)
    text = summary(fold(view_state, end, 2.0)).plain
    assert "v10 Elo +412 +-30, v10+mate1 Elo +520 +-30" in text


def test_a_deliberate_change_is_counted_as_a_warning_and_not_called_a_fault() -> None:
    view_state = fold(ViewState(), run_started(), 0.0)
    assert "warnings" not in summary(ended("done", "c")).plain
    view_state = fold(view_state, ev.Notice("the learning rate goes on at 1e-4", "WARNING"), 0.5)
    end = ev.RunEnded("done", 100_000, "c", 200.0, None)
    text = summary(fold(view_state, end, 2.0)).plain
    assert "warnings    1, see events.jsonl and run.log" in text
    assert "fault" not in text


def test_a_narrow_terminal_breaks_no_word_of_the_summary_and_no_command() -> None:
    state = ended("interrupted", "runs/x/checkpoints/step 1")
    wide, narrow = summary(state).plain, summary(state, 40).plain
    assert narrow.split() == wide.split()
    assert narrow.splitlines()[-4:] == wide.splitlines()[-4:]
    assert all(len(line) <= 40 for line in narrow.splitlines()[:-4])
