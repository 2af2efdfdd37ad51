"""A run on Weights & Biases; no failure of W&B reaches the run."""

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tenacity

from keisei_ray.config.sections import CheckpointConfig
from keisei_ray.storage import checkpoint
from keisei_ray.telemetry import events as ev
from keisei_ray.telemetry.events import EventBus
from keisei_ray.tracking.wandb.tracker import (
    ATTEMPTS,
    GAMES_KEPT,
    WandbTracker,
    settings_by_key,
)
from tests.helpers.run_events import game, record, run_started, updated
from tests.helpers.wandb_fakes import FailsAtFirst, FakeClient

PATIENCE_S = 10.0


class TrackedBus:
    """A bus with one tracker on it, and the notices that were published."""

    def __init__(
        self, client: FakeClient, close_timeout_s: float = PATIENCE_S, **kwargs: Any
    ) -> None:
        self.bus = EventBus()
        self.notices: list[str] = []
        self.bus.subscribe("notices", self._note)
        kwargs.setdefault("back_off", tenacity.wait_none())
        self.tracker = WandbTracker(
            client, self.bus.publish, close_timeout_s=close_timeout_s, **kwargs
        )
        self.bus.subscribe("wandb", self.tracker.handle, self.tracker.close)

    def _note(self, event: ev.Event) -> None:
        if isinstance(event, ev.Notice):
            self.notices.append(event.message)

    def publish(self, *events: ev.Event) -> "TrackedBus":
        for event in events:
            self.bus.publish(event)
        return self

    def close(self) -> float:
        """Closes the bus; returns the seconds that it took."""
        began = time.monotonic()
        assert self.bus.close(PATIENCE_S) == ()
        return time.monotonic() - began


def ended(reason: Any = "done", timestep: int = 9000) -> ev.RunEnded:
    return ev.RunEnded(reason, timestep, None, 1.0)


def saved(run_dir: Path, timestep: int) -> ev.CheckpointSaved:
    path = checkpoint.save(run_dir / "checkpoints", timestep, {"weights": b"w"}, {})
    return ev.CheckpointSaved(str(path), timestep)


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "the condition never came true"
        time.sleep(0.005)


# What is sent


def test_a_run_is_sent_in_order_with_its_effective_configuration() -> None:
    client = FakeClient()
    tracked = TrackedBus(client).publish(
        run_started(num_actors=3), updated(1), updated(2), ended("failed")
    )
    wait_until(lambda: len(client.records) == 2)
    tracked.close()
    assert client.settings["self_play.num_actors"] == 3
    assert client.settings["learner.device"] == "cpu"
    assert [r["timestep"] for r in client.records] == [1000, 2000]
    assert client.records[0]["policy_loss"] == record(1)["policy_loss"]
    assert "amp_dtype" not in client.records[0]  # Text is no curve.
    assert "amp_scale" not in client.records[0]  # Nor is None.
    assert client.exit_code == 1
    assert not client.is_abandoned
    assert tracked.notices == ["W&B: https://somewhere/run"]


@pytest.mark.parametrize(("former", "is_told"), [(3000, True), (5000, False), (None, False)])
def test_a_resumed_run_says_what_wandb_did_not_get_of_the_session_before(
    former: int | None, is_told: bool
) -> None:
    client = FakeClient()
    client.former = former
    tracked = TrackedBus(client).publish(run_started(timestep=5000))
    wait_until(lambda: client.settings)
    tracked.close()
    said = [text for text in tracked.notices if "between timesteps 3,000 and 5,000" in text]
    assert bool(said) == is_told


def test_settings_have_the_names_that_a_sweep_gives_them() -> None:
    settings = settings_by_key(run_started().config)
    assert settings["learner.gamma"] == run_started().config.learner.gamma
    json.dumps(settings)


def test_games_are_a_table_of_the_newest_at_each_checkpoint(tmp_path: Path) -> None:
    client = FakeClient()
    tracked = TrackedBus(client).publish(run_started())
    tracked.publish(*(ev.GameFinished(game(i), 1000) for i in range(GAMES_KEPT + 7)))
    tracked.publish(saved(tmp_path, 1000), saved(tmp_path, 2000))
    tracked.publish(ev.GameFinished(game(999), 3000), ended())
    tracked.close()
    (_, first, _), (_, second, _) = client.tables
    assert len(first.rows) == GAMES_KEPT
    assert first.rows[0][:2] == [1000, "0-0-7"]
    assert [row[:2] for row in second.rows] == [[3000, "0-0-999"]]


def test_checkpoints_are_uploaded_unless_pruned_before_their_turn(tmp_path: Path) -> None:
    go = threading.Event()
    client = FakeClient(start=lambda: go.wait(PATIENCE_S))
    tracked = TrackedBus(client).publish(run_started(), saved(tmp_path, 10), saved(tmp_path, 20))
    checkpoint.prune(tmp_path / "checkpoints", CheckpointConfig(keep_last=1))
    go.set()
    wait_until(lambda: client.uploaded)
    tracked.close()
    assert client.uploaded == [("step-000000000020", 20)]
    assert tracked.notices == ["W&B: https://somewhere/run"]


def test_every_warning_is_an_alert_and_notices_on_w_and_b_itself_are_none(tmp_path: Path) -> None:
    client = FakeClient(upload=FailsAtFirst(float("inf")))
    long = "training diverges at update 7: " + "x" * 100
    tracked = TrackedBus(client).publish(run_started(), ev.Notice("fine"), saved(tmp_path, 10))
    wait_until(lambda: any("could not be uploaded" in notice for notice in tracked.notices))
    tracked.publish(
        ev.Notice(long, "WARNING"), ev.ActorLost(1, 0, "died", 2), ended("failed")
    ).close()
    assert client.alerts == [
        (long[:62] + "~", long, False),
        ("actor lost", "actor 1 lost, 2 restarts left: died", False),
        ("run ended", "run failed at timestep 9000", True),
    ]


# What cannot harm the run


def test_an_upload_that_is_refused_a_few_times_is_made(tmp_path: Path) -> None:
    client = FakeClient(upload=FailsAtFirst(ATTEMPTS - 1))
    tracked = TrackedBus(client).publish(run_started(), saved(tmp_path, 10))
    wait_until(lambda: client.uploaded)
    tracked.close()
    assert client.attempts == ATTEMPTS
    assert len(tracked.notices) == 1


def test_an_upload_that_is_always_refused_is_reported_once_and_the_file_stays(
    tmp_path: Path,
) -> None:
    client = FakeClient(upload=FailsAtFirst(float("inf")))
    tracked = TrackedBus(client).publish(run_started(), saved(tmp_path, 10))
    wait_until(lambda: len(tracked.notices) == 2)
    tracked.close()
    assert client.attempts == ATTEMPTS
    assert [n for n in tracked.notices if "step-000000000010 could not" in n] == tracked.notices[1:]
    checkpoint.load(tmp_path / "checkpoints" / "step-000000000010")


def test_waiting_for_the_next_attempt_does_not_hold_up_the_end(tmp_path: Path) -> None:
    client = FakeClient(upload=FailsAtFirst(float("inf")))
    tracked = TrackedBus(client, back_off=tenacity.wait_fixed(3600))
    tracked.publish(run_started(), saved(tmp_path, 10))
    wait_until(lambda: client.attempts == 1)
    assert tracked.close() < PATIENCE_S / 2
    assert client.attempts == 2


def test_a_slow_upload_holds_up_no_metrics(tmp_path: Path, hang: Callable[[], object]) -> None:
    client = FakeClient(upload=hang)
    tracked = TrackedBus(client, close_timeout_s=0.2).publish(run_started(), saved(tmp_path, 10))
    wait_until(lambda: client.attempts)
    tracked.publish(updated(1), updated(2))
    wait_until(lambda: len(client.records) == 2)
    tracked.close()


def test_a_run_that_cannot_begin_is_tried_again_and_then_given_up(tmp_path: Path) -> None:
    client = FakeClient(start=FailsAtFirst(float("inf")))
    tracked = TrackedBus(client).publish(run_started(), updated(1), saved(tmp_path, 10))
    wait_until(lambda: tracked.notices)
    tracked.publish(updated(2), ended()).close()
    assert len(tracked.notices) == 1
    assert "not on W&B" in tracked.notices[0]
    assert client.trouble["start"].left == float("inf")  # type: ignore[attr-defined]
    assert (client.records, client.uploaded, client.exit_code) == ([], [], None)


def test_refused_records_are_reported_once_and_counted() -> None:
    client = FakeClient(log=FailsAtFirst(2))
    tracked = TrackedBus(client).publish(run_started(), updated(1), updated(2), updated(3))
    wait_until(lambda: client.records)
    tracked.close()
    assert [r["timestep"] for r in client.records] == [3000]
    assert len([n for n in tracked.notices if "refuses records" in n]) == 1


@pytest.mark.parametrize("method", ["start", "log"])
def test_a_hanging_w_and_b_costs_the_publisher_nothing_and_drops_are_reported(
    method: str, hang: Callable[[], object], caplog: pytest.LogCaptureFixture
) -> None:
    client = FakeClient(**{method: hang})
    tracked = TrackedBus(client, close_timeout_s=0.3, records_waiting=5).publish(run_started())
    began = time.monotonic()
    tracked.publish(*(updated(n) for n in range(1, 101)), ended())
    assert time.monotonic() - began < 5  # The hanging call never ends.
    assert len([n for n in tracked.notices if "dropped" in n]) == 1
    assert tracked.close() < 3
    assert client.is_abandoned == (method == "start")
    # 100 records, of which 5 wait and one or none is in the thread that hangs.
    assert any(f"{count} records dropped" in caplog.text for count in (94, 95, 96))


def test_a_finish_that_hangs_ends_within_the_limit(hang: Callable[[], object]) -> None:
    client = FakeClient(finish=hang)
    tracked = TrackedBus(client, close_timeout_s=0.4).publish(run_started(), updated(1), ended())
    assert tracked.close() < 3
    assert len(client.records) == 1
    assert client.is_abandoned


def test_a_finish_that_raises_is_not_tried_again() -> None:
    client = FakeClient(finish=FailsAtFirst(1))
    tracked = TrackedBus(client).publish(run_started(), ended())
    assert tracked.close() < PATIENCE_S / 2
    assert tracked.bus.failures == {}
    assert client.is_abandoned
