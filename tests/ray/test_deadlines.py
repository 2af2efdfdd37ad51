"""Processes that are stopped: alive for Ray, and never to answer."""

import os
import signal
from pathlib import Path
from typing import Any

import psutil
import pytest
import ray
from ray.exceptions import RayActorError

from keisei_ray.distributed.cluster import Cluster
from keisei_ray.distributed.halted_process import kill_process
from keisei_ray.telemetry.events import ActorLost, ActorReady, Event, UpdateFinished
from tests.helpers.training_run import Run, overlap_config, train
from tests.helpers.waiting import wait_until

pytestmark = pytest.mark.ray


class Stopper:
    """Stops actor 0 after two updates, and the learner after two more once that is replaced."""

    def __init__(self) -> None:
        self.stopped: list[psutil.Process] = []
        self.pid = -1
        """Process of actor 0."""
        self.updates = 0
        """Updates since the last death."""
        self.is_learner_replaced = False

    def __call__(self, event: Event) -> None:
        if isinstance(event, ActorReady) and event.actor_id == 0:
            self.pid, self.updates = event.pid, 0
        elif isinstance(event, ActorLost):
            self.updates = 0
            self.is_learner_replaced |= event.actor_id is None
        elif isinstance(event, UpdateFinished):
            self.updates += 1
            if self.updates == 2 and len(self.stopped) < 2:
                self.stop(learner() if self.stopped else psutil.Process(self.pid))

    def stop(self, process: psutil.Process) -> None:
        os.kill(process.pid, signal.SIGSTOP)
        self.stopped.append(process)

    def is_over(self) -> bool:
        """Whether two updates have followed the replacement of the learner."""
        return self.is_learner_replaced and self.updates >= 2


def learner() -> psutil.Process:
    """Returns the learner's process, which Ray started for this one."""
    processes = psutil.Process().children(recursive=True)
    (found,) = [process for process in processes if "LearnerShell" in process.name()]
    return found


def test_a_stopped_actor_and_a_stopped_learner_are_replaced_and_ended(
    cluster: Cluster, tmp_path: Path
) -> None:
    limits = {"call_timeout_s": 2.0, "max_actor_deaths": 20}
    config = overlap_config(run={"total_timesteps": 10**9}, cluster=limits)
    stopper = Stopper()
    run = train(
        config,
        cluster,
        tmp_path / "run",
        subscribers=[stopper],
        should_stop=stopper.is_over,
    )
    causes = {(event.actor_id, event.cause.partition(" within ")[0]) for event in run.of(ActorLost)}
    assert causes >= {(0, "no answer to collect"), (None, "no answer to update")}
    wait_until(lambda: not any(process.is_running() for process in stopper.stopped), 60.0)
    assert_each_version_once(run)


def test_a_halted_process_is_ended_without_being_asked(cluster: Cluster) -> None:
    """`ray.kill` asks it first, and takes an error of the connection for its answer."""
    assert cluster.num_nodes == 1
    actor: Any = ray.remote(Sleeper).remote()
    process = psutil.Process(ray.get(actor.pid.remote()))
    process.suspend()
    kill_process(actor)
    wait_until(lambda: not process.is_running(), 60.0)
    with pytest.raises(RayActorError):
        ray.get(actor.pid.remote())


class Sleeper:
    """Something that has a process."""

    def pid(self) -> int:
        return os.getpid()


def assert_each_version_once(run: Run) -> None:
    records = run.lines("metrics.jsonl")
    assert [record["weights_version"] for record in records] == list(range(1, len(records) + 1))
    assert sum(record["batch_timesteps"] for record in records) == run.driver.progress.timestep
