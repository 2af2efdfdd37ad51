"""The view state is folded from events."""

import dataclasses

import pytest

from keisei_ray.telemetry import events as ev
from keisei_ray.tracking.terminal.view_state import NOTICES_KEPT, at, fold
from tests.helpers.run_events import (
    HIRATE,
    fake_metrics,
    run_started,
    updated,
)
from tests.helpers.view_states import folded


def test_time_left_follows_the_last_updates_and_counts_down() -> None:
    state = folded(run_started(), *(updated(i, sps_total=1.0) for i in (1, 2)))
    assert state.remaining_s == pytest.approx(98.0)
    assert at(state, state.elapsed_s + 10.0).remaining_s == pytest.approx(88.0)
    assert at(state, state.elapsed_s + 1000.0).remaining_s == 0.0
    assert folded(run_started(), updated(1)).remaining_s == pytest.approx(99.0)
    assert folded(run_started()).remaining_s is None


def test_notices_are_of_faults_and_recoveries_but_not_of_each_first_start() -> None:
    state = folded(
        run_started(),
        ev.ActorReady(0, 0, 1, "n"),
        ev.ActorReady(1, 0, 1, "n"),
        ev.ActorLost(1, 0, "Traceback (most recent call last):\n  f()\nMemoryError: 9 GB", 2),
        ev.ActorReady(1, 1, 1, "n"),
        ev.ActorLost(None, 0, "node died", 1),
        ev.RolloutRejected(0, "checksum differs"),
        ev.UpdateUndone(7, "the loss is nan", 3e38, is_rate_halved=True),
        ev.CheckpointSaved("c", 1),
    )
    told = [(entry.elapsed_s, entry.level, entry.message) for entry in state.notices]
    assert told == [
        (2.0, "INFO", "all 2 actors ready"),
        (3.0, "WARNING", "actor 1 lost, 2 restarts left: MemoryError: 9 GB"),
        (4.0, "INFO", "actor 1 is back (incarnation 1)"),
        (5.0, "WARNING", "learner lost, 1 restart left: node died"),
        (6.0, "WARNING", "rollout of actor 0 rejected: checksum differs"),
        (7.0, "WARNING", "update 7 undone, at a learning rate of 3e+38: the loss is nan; the "
         "learning rate is halved from now on"),
    ]  # fmt: skip
    assert state.faults == 4
    assert state.actors_ready == {0, 1}
    assert state.actors_lost == set()


def test_a_view_state_stays_small_however_long_the_run() -> None:
    state = folded(run_started())
    for i in range(1, 700):
        state = fold(state, updated(i), float(i))
        state = fold(state, ev.Notice(str(i)), float(i))
        state = fold(state, ev.Notice(str(i), "WARNING"), float(i))
    assert len(state.notices) == NOTICES_KEPT
    assert [entry.message for entry in state.warnings] == ["697", "698", "699"]
    assert all(len(t.points()) <= t.CAPACITY for t in state.trends.values())
    assert len(state.pace) < 100


def test_folding_leaves_the_earlier_state_as_it_was() -> None:
    before = folded(run_started(), updated(1))
    copy = dataclasses.replace(before, trends=dict(before.trends), metrics=dict(before.metrics))
    fold(before, updated(2), 5.0)
    assert before == copy


def test_a_sample_that_is_not_a_position_is_refused_before_it_is_drawn() -> None:
    state = folded(run_started())
    with pytest.raises(ValueError, match="SFEN"):
        fold(state, ev.UpdateFinished(fake_metrics(1), "nonsense", None), 1.0)
    with pytest.raises(ValueError, match="USI"):
        fold(state, ev.UpdateFinished(fake_metrics(1), HIRATE, "nonsense"), 1.0)
