"""A whole run with real actors: every ply, game and event is accounted for."""

import os
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
import torch

from keisei_ray.distributed.actors import SelfPlayShell
from keisei_ray.distributed.cluster import Cluster
from keisei_ray.distributed.versions import own_versions
from keisei_ray.storage import checkpoint
from keisei_ray.telemetry.events import (
    ActorReady,
    CheckpointSaved,
    Event,
    GameFinished,
    Notice,
    RolloutArrived,
    RunStarted,
    UpdateFinished,
)
from keisei_ray.telemetry.metrics import METRIC_NAMES
from keisei_ray.tracking.wandb.tracker import WandbTracker
from keisei_ray.training.driver import Driver
from tests.helpers.training_run import Run, overlap_config, train
from tests.helpers.wandb_fakes import FakeClient

pytestmark = pytest.mark.ray
ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])

TOTAL, UPDATE = 3072, 64
"""Long enough for the second actor to come up while there is still something to do."""
CONTRACT = (
    "timestep, update, weights_version, wall_time_s, sps, sps_total, games_total, black_wins, "
    "white_wins, draws, truncated, game_length_mean, policy_loss, value_loss, entropy, "
    "approx_kl, clip_fraction, explained_variance, learning_rate, grad_norm, amp_dtype, "
    "amp_scale, amp_skipped, policy_lag_mean, policy_lag_max, batch_timesteps, "
    "rollout_bytes_raw, rollout_bytes_wire, weights_bytes_wire, collect_time_s, "
    "update_time_s, publish_time_s, wait_time_s, actors_alive, actor_restarts, "
    "updates_undone"
)
"""Keys of metrics.jsonl that users' scripts rely on, retyped on purpose."""


def broken_subscriber(event: Event) -> None:
    raise ZeroDivisionError(event.kind)


class HungTracker:
    """A tracker whose W&B never answers, and what it has told."""

    def __init__(self) -> None:
        self.told: list[Event] = []
        self.over = threading.Event()
        wait = self.over.wait
        self.client = FakeClient(start=wait, upload=wait, finish=wait)
        self.tracker = WandbTracker(
            self.client, self.told.append, close_timeout_s=0.3, records_waiting=2
        )


@pytest.fixture(scope="module")
def hung_tracker() -> Iterator[HungTracker]:
    hung = HungTracker()
    yield hung
    hung.over.set()


@pytest.fixture(scope="module")
def run(
    cluster: Cluster, tmp_path_factory: pytest.TempPathFactory, hung_tracker: HungTracker
) -> Run:
    """48 updates with a stale reference each time, a subscriber that raises at every event, and
    one that hangs.

    The driver waits for copies of weights, and an update that is ready at the same time makes them
    those of an earlier version.
    """
    config = overlap_config(
        run={"total_timesteps": TOTAL}, checkpoint={"interval_timesteps": 1024, "keep_last": 9}
    )
    wait, stale = Driver._wait, ray.put("weights of an earlier version")
    run_dir = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Driver, "_wait", lambda driver: [*wait(driver), stale])
        subscribers = [broken_subscriber, hung_tracker.tracker.handle]
        return train(config, cluster, run_dir, subscribers=subscribers)


def test_a_reference_to_earlier_weights_does_not_disturb_the_run(run: Run) -> None:
    assert run.driver.progress.timestep == TOTAL


def test_every_actor_is_in_the_consumed_data(run: Run) -> None:
    # An actor's game is counted when the rollout that ends it is consumed.
    assert {event.game.actor_id for event in run.of(GameFinished)} == {0, 1}
    assert set(run.driver.progress.last_sequence) == {0, 1}


def test_the_batches_add_up_to_the_timestep(run: Run) -> None:
    records = run.lines("metrics.jsonl")
    total = 0
    for record in records:
        total += record["batch_timesteps"]
        assert record["timestep"] == total
    assert total == run.driver.progress.timestep == TOTAL
    assert [record["update"] for record in records] == list(range(1, TOTAL // UPDATE + 1))
    assert [record["weights_version"] for record in records] == list(range(1, TOTAL // UPDATE + 1))


def test_metrics_have_exactly_the_keys_of_the_contract(run: Run) -> None:
    contract = CONTRACT.split(", ")
    assert list(METRIC_NAMES) == contract
    for record in run.lines("metrics.jsonl"):
        assert list(record) == contract


def test_every_finished_game_counts_once(run: Run) -> None:
    games = run.lines("games.jsonl")
    last = run.lines("metrics.jsonl")[-1]
    assert len(games) > 0
    assert len({game["game_id"] for game in games}) == len(games)
    assert last["games_total"] == len(games)
    assert last["games_total"] == sum(
        last[name] for name in ("black_wins", "white_wins", "draws", "truncated")
    )
    for result, name in (
        ("truncated", "truncated"),
        ("draw", "draws"),
        ("black_win", "black_wins"),
    ):
        assert last[name] == sum(game["result"] == result for game in games)


def test_the_timestep_never_goes_back(run: Run) -> None:
    for name in ("metrics.jsonl", "games.jsonl"):
        steps = [record["timestep"] for record in run.lines(name)]
        assert steps == sorted(steps)
    times = [record["wall_time_s"] for record in run.lines("metrics.jsonl")]
    assert times == sorted(times)


def test_policy_lag_is_bounded(run: Run) -> None:
    lags = [record["policy_lag_max"] for record in run.lines("metrics.jsonl")]
    assert lags[0] == 0
    assert max(lags) <= 1


def test_rates_are_the_counts_over_the_time(run: Run) -> None:
    before = None
    for record in run.lines("metrics.jsonl"):
        assert record["sps_total"] == pytest.approx(record["timestep"] / record["wall_time_s"])
        if before is not None:
            seconds = record["wall_time_s"] - before["wall_time_s"]
            assert record["sps"] == pytest.approx(UPDATE / seconds, rel=0.05)
        before = record


def test_events_come_in_order(run: Run) -> None:
    events = run.events
    assert isinstance(events[0], RunStarted)
    ready: set[int] = set()
    arrived = updates = 0
    game_steps: list[int] = []
    for event in events:
        if isinstance(event, ActorReady):
            ready.add(event.actor_id)
        elif isinstance(event, RolloutArrived):
            assert event.actor_id in ready
            # Played with weights that had been published by then.
            assert event.weights_version <= updates
            arrived += event.timesteps
        elif isinstance(event, GameFinished):
            game_steps.append(event.timestep)
        elif isinstance(event, UpdateFinished):
            updates += 1
            assert event.metrics.timestep == updates * UPDATE <= arrived
            # Its games are told before it, at the timestep that it reached.
            assert set(game_steps) <= {updates * UPDATE}
            game_steps = []
        elif isinstance(event, CheckpointSaved):
            # It was written while training went on.
            assert event.timestep <= updates * UPDATE
    assert isinstance(events[1], Notice)  # The learner is up before any actor.
    assert isinstance(events[-1], CheckpointSaved)


def test_checkpoints_are_saved_when_due_and_at_the_end(run: Run) -> None:
    assert [event.timestep for event in run.of(CheckpointSaved)] == [1024, 2048, 3072]
    found = checkpoint.find_latest(run.run_dir / "checkpoints", on_skip=lambda *_: None)
    assert found is not None
    assert found.timestep == TOTAL
    assert found.info["weights_version"] == run.driver.progress.weights_version == TOTAL // UPDATE


def test_a_raising_subscriber_is_counted_and_the_others_hear_everything(run: Run) -> None:
    assert run.bus.failures == {"extra 0": len(run.events)}
    assert len(run.lines("metrics.jsonl")) == TOTAL // UPDATE


def test_training_goes_on_while_w_and_b_hangs(run: Run, hung_tracker: HungTracker) -> None:
    hung_tracker.tracker.close()
    assert len(run.of(UpdateFinished)) == TOTAL // UPDATE
    assert "extra 1" not in run.bus.failures
    assert len(hung_tracker.told) == 1  # Records were dropped, and that was said once.
    assert hung_tracker.client.is_abandoned


def test_no_actor_outlives_the_run(run: Run) -> None:
    pids = [event.pid for event in run.of(ActorReady)]
    assert len(pids) == 2
    ray.wait([gone.remote(pid) for pid in pids], num_returns=len(pids), timeout=60)
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


@ray.remote(num_cpus=0)
def gone(pid: int) -> None:
    """Returns once the process has ended."""
    while Path(f"/proc/{pid}").exists():
        time.sleep(0.01)


class ProbedShell(SelfPlayShell):
    """A self-play actor that can be asked what it was given."""

    def mask(self) -> str | None:
        return os.environ.get("CUDA_VISIBLE_DEVICES")

    def num_visible_gpus(self) -> int:
        return torch.cuda.device_count()


def test_a_self_play_actor_sees_no_gpu(cluster: Cluster) -> None:
    new_actor: Any = ray.remote(ProbedShell)
    actor = new_actor.options(num_cpus=0.1).remote(overlap_config(), 0, 0, own_versions())
    info = ray.get(actor.start.remote())
    assert info.device == "cpu"
    assert ray.get(actor.mask.remote()) == ""
    assert ray.get(actor.num_visible_gpus.remote()) == 0
    assert info.pid != os.getpid()
    ray.kill(actor)
