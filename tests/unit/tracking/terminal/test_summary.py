"""The summary at the end of a run."""

import pytest

from keisei_ray.telemetry import events as ev
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
