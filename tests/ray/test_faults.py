"""Faults injected into real processes: what is lost, what is counted, what goes on."""

import contextlib
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import ray

from keisei_ray.distributed.actors import LearnerShell, SelfPlayShell
from keisei_ray.distributed.cluster import Cluster
from keisei_ray.errors import ActorLostError
from keisei_ray.rollouts.packed_buffer import PackedBuffer
from keisei_ray.storage import checkpoint
from keisei_ray.telemetry.events import (
    ActorLost,
    ActorReady,
    CheckpointSaved,
    Event,
    RolloutArrived,
    RolloutRejected,
    UpdateFinished,
)
from keisei_ray.telemetry.reports import CollectReport, ProcessInfo, UpdateReport
from tests.helpers.program import DEBUG_CONFIG, PATIENCE_S, ROOT, json_records, start_program
from tests.helpers.subscribers import BRAKE
from tests.helpers.training_run import Run, learner_actors, overlap_config, self_play_actors, train
from tests.helpers.waiting import wait_until

pytestmark = pytest.mark.ray
ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])

UPDATE = 64


def kill_this_process(*_: object, **__: object) -> Any:
    os.kill(os.getpid(), signal.SIGKILL)


def assert_counts_agree(run: Run) -> None:
    """Files, events and counts of a run agree, and nothing is counted twice."""
    progress = run.driver.progress
    records, games = run.lines("metrics.jsonl"), run.lines("games.jsonl")
    assert sum(record["batch_timesteps"] for record in records) == progress.timestep
    assert [record["weights_version"] for record in records] == list(range(1, len(records) + 1))
    assert len({game["game_id"] for game in games}) == len(games) == progress.games_total
    arrived = sum(event.timesteps for event in run.of(RolloutArrived))
    waiting = progress.timesteps_collected - progress.timestep
    again = [e for e in run.of(RolloutRejected) if e.cause.startswith("delivered before")]
    assert progress.timesteps_collected == arrived + 32 * len(again)
    assert 0 <= waiting - 32 * progress.rollouts_rejected <= 2 * UPDATE
    assert progress.rollouts_rejected == len(run.of(RolloutRejected))


class Faulty(SelfPlayShell):
    """Actor 0 is killed in its second rollout, at the third ply.

    Actor 1's second rollout has one flipped bit, its third comes under an old header.
    """

    calls = 0

    def collect(self, *arguments: Any) -> tuple[CollectReport, PackedBuffer]:
        _, actor_id, incarnation = self._arguments
        self.calls += 1
        if (actor_id, incarnation, self.calls) == (0, 0, 2):
            actor: Any = self._self_play
            finish_ply = actor._finish_ply

            def die_at_third(rollout: Any, t: int, *rest: Any) -> Any:
                return kill_this_process() if t == 2 else finish_ply(rollout, t, *rest)

            actor._finish_ply = die_at_third
        report, rollout = super().collect(*arguments)
        if actor_id == 1 and self.calls == 1:
            self.first = report, rollout
        if actor_id == 1 and self.calls == 2:
            rollout = rollout.copy()
            rollout[len(rollout) // 2] ^= 1
        if actor_id == 1 and self.calls == 3:
            return self.first
        return report, rollout


@pytest.fixture(scope="module")
def faulty(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run that lasts until actor 0 is back, and two updates longer than the second rejection."""
    seen: list[Event] = []

    def is_over() -> bool:
        places = [i for i, event in enumerate(seen) if isinstance(event, RolloutRejected)]
        after = seen[places[1] :] if len(places) > 1 else []
        is_back = any(
            isinstance(event, RolloutArrived) and (event.actor_id, event.incarnation) == (0, 1)
            for event in seen
        )
        return is_back and sum(isinstance(event, UpdateFinished) for event in after) >= 2

    config = overlap_config(run={"total_timesteps": 10**9})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("keisei_ray.distributed.fleet.new_self_play_actor", self_play_actors(Faulty))
        return train(
            config,
            cluster,
            tmp_path_factory.mktemp("run"),
            subscribers=[seen.append],
            should_stop=is_over,
        )


def test_a_killed_actor_is_replaced_and_its_unfinished_rollout_never_counts(faulty: Run) -> None:
    lost = faulty.of(ActorLost)
    assert [(event.actor_id, event.incarnation, event.restarts_left) for event in lost] == [
        (0, 0, 2)
    ]
    ready = [(event.actor_id, event.incarnation) for event in faulty.of(ActorReady)]
    assert sorted(ready) == [(0, 0), (0, 1), (1, 0)]
    progress = faulty.driver.progress
    assert progress.actor_restarts == 1
    assert progress.incarnations == {0: 1, 1: 0}
    arrived = [e for e in faulty.of(RolloutArrived) if (e.actor_id, e.incarnation) == (0, 0)]
    assert sum(event.timesteps for event in arrived) == 32
    assert_counts_agree(faulty)


def test_a_damaged_and_a_redelivered_rollout_are_rejected_and_counted(faulty: Run) -> None:
    causes = [(event.actor_id, event.cause.split(":")[0]) for event in faulty.of(RolloutRejected)]
    assert sorted(causes) == [(1, "DamagedBufferError"), (1, "delivered before")]
    assert faulty.driver.progress.rollouts_rejected == 2
    assert_counts_agree(faulty)


class NeverStarts(SelfPlayShell):
    """Actor 1 cannot be built."""

    def start(self, *arguments: Any) -> ProcessInfo:
        if self._arguments[1] == 1:
            raise MemoryError("no room for the games")
        return super().start(*arguments)


def test_an_actor_that_never_starts_ends_the_run_with_the_cause_and_a_checkpoint(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "keisei_ray.distributed.fleet.new_self_play_actor", self_play_actors(NeverStarts)
    )
    config = overlap_config(run={"total_timesteps": 10**9}, cluster={"max_actor_deaths": 2})
    run = train(config, cluster, tmp_path / "run", fails_with=(ActorLostError,))
    assert isinstance(run.error, ActorLostError)
    assert "self-play actor 1 died 3 times" in str(run.error)
    assert isinstance(run.error.__cause__, MemoryError)
    assert [event.restarts_left for event in run.of(ActorLost)] == [1, 0]
    assert run.driver.progress.incarnations[1] == 2
    found = checkpoint.find_latest(tmp_path / "run" / "checkpoints", on_skip=lambda *_: None)
    assert found is not None
    assert found.timestep == run.driver.progress.timestep
    assert isinstance(run.events[-1], CheckpointSaved)


@pytest.mark.long
def test_a_run_whose_actors_are_all_killed_again_and_again_ends_saved_with_the_cause(
    cluster: Cluster, tmp_path: Path
) -> None:
    process = start_program(
        "--config", DEBUG_CONFIG, "--run-dir", "run", "--total-timesteps", "100000000",
        "--set", "evaluation.interval_timesteps=null",
        "--set", "checkpoint.interval_timesteps=100000000", "--num-actors", "1",
        "--set", f"tracking.subscribers=[{BRAKE}]",
        cwd=tmp_path, cluster=cluster, PYTHONPATH=str(ROOT),
    )  # fmt: skip
    metrics = tmp_path / "run" / "metrics.jsonl"
    wait_until(lambda: len(json_records(metrics)) >= 2 or process.poll() is not None, PATIENCE_S)
    deadline = time.monotonic() + PATIENCE_S
    while process.poll() is None:
        assert time.monotonic() < deadline, "a run without actors goes on"
        for child in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error):
                if "SelfPlayShell" in child.name():
                    child.kill()
        time.sleep(0.05)
    _, errors = process.communicate()
    assert process.returncode == 1
    assert "ActorLostError: self-play actor 0 died 4 times in 60 s (limit 3)." in errors
    ended = json_records(tmp_path / "run" / "events.jsonl")[-1]
    assert (ended["kind"], ended["reason"]) == ("run_ended", "failed")
    assert ended["cause"].startswith("ActorLostError: self-play actor 0 died 4 times")
    saved = checkpoint.newest(tmp_path / "run" / "checkpoints")
    assert saved is not None
    assert saved.name == f"step-{json_records(metrics)[-1]['timestep']:012}"


class DiesMidUpdate(LearnerShell):
    """Killed in its third update, after the first optimizer step; the next incarnations live."""

    def update(self, timestep: int, *rollouts: PackedBuffer) -> UpdateReport:
        marker = Path(self._config.run.run_dir or "") / "learner-died"
        if self._learner.weights_version == 2 and not marker.exists():
            marker.touch()
            steps: Any = self._learner._steps
            step = steps.step

            def step_and_die(*arguments: Any) -> None:
                step(*arguments)
                kill_this_process()

            steps.step = step_and_die
        return super().update(timestep, *rollouts)


def test_a_killed_learner_goes_on_from_its_newest_finished_update(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In lockstep the weights too are those of an undisturbed run."""
    settings: dict[str, dict[str, Any]] = {
        "self_play": {"num_actors": 1},
        "schedule": {"mode": "lockstep", "rollouts_per_update": None},
    }
    total = 5 * 32  # One rollout an update.
    quiet = train(
        overlap_config(run={"total_timesteps": total}, **settings), cluster, tmp_path / "quiet"
    )
    monkeypatch.setattr(
        "keisei_ray.distributed.learner_handle.new_learner_actor", learner_actors(DiesMidUpdate)
    )
    config = overlap_config(
        run={"total_timesteps": total, "run_dir": str(tmp_path / "run")}, **settings
    )
    run = train(config, cluster, tmp_path / "run")
    assert (tmp_path / "run" / "learner-died").exists()
    lost = run.of(ActorLost)
    assert [(event.actor_id, event.restarts_left) for event in lost] == [(None, 2)]
    before = [e for e in run.events[: run.events.index(lost[0])] if isinstance(e, UpdateFinished)]
    assert len(before) == 2
    assert run.driver.progress.updates == 5
    assert run.driver.progress.rollouts_rejected == 0
    assert_counts_agree(run)
    assert last_digest(run) == last_digest(quiet)


def last_digest(run: Run) -> object:
    found = checkpoint.find_latest(run.run_dir / "checkpoints", on_skip=lambda *_: None)
    assert found is not None
    return found.info["weights_digest"]


class SlowLearner(LearnerShell):
    """Needs far longer for an update than the actors for their rollouts."""

    def update(self, timestep: int, *rollouts: PackedBuffer) -> UpdateReport:
        time.sleep(0.4)
        return super().update(timestep, *rollouts)


def test_a_slow_learner_holds_the_actors_back(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "keisei_ray.distributed.learner_handle.new_learner_actor", learner_actors(SlowLearner)
    )
    config = overlap_config(run={"total_timesteps": 10 * UPDATE}, self_play={"num_actors": 1})
    run = train(config, cluster, tmp_path / "run")
    waiting, most = 0, 0
    for event in run.events:
        if isinstance(event, RolloutArrived):
            waiting += event.timesteps
        elif isinstance(event, UpdateFinished):
            waiting -= UPDATE
        most = max(most, waiting)
    # Two updates' worth, (max_policy_lag + 1): the one under way and the next.
    assert most == 2 * UPDATE
    assert max(record["policy_lag_max"] for record in run.lines("metrics.jsonl")) == 1
    progress = run.driver.progress
    assert progress.timesteps_collected == progress.timestep + waiting
    assert progress.rollouts_rejected == 0
    assert_counts_agree(run)


@pytest.fixture(autouse=True)
def _no_death_is_left_over(cluster: Cluster) -> Iterator[None]:
    """A test that leaves an actor behind would starve the next of CPUs."""
    yield
    deadline = time.monotonic() + 60
    while ray.available_resources().get("CPU", 0) < cluster.num_cpus:
        assert time.monotonic() < deadline, "an actor was left behind"
        time.sleep(0.05)
