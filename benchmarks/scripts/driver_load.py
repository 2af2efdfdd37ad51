"""Benchmark of the driver alone: rollouts a second, and its CPU time for each of them.

    python benchmarks/scripts/driver_load.py [CASE ...] [--seconds S] [--profile] [--json FILE]

The real driver, its files and its event bus run against stand-ins without torch: actors that
return, after a fixed time, a report and a packed rollout that self-play has made before, and a
learner that sleeps through its updates and its packing. What remains is the cost of the driver and
of Ray.

A CASE is ACTORS:PROCESSES:PLAY_S:R:UPDATE_S[:PUBLISH_S], where PLAY_S is an actor's time for a
rollout, R the number of rollouts in an update, UPDATE_S the time of an update, and PUBLISH_S the
time to pack its version, beside the next update (0 if left out). With fewer processes than actors
several actors share a process, which stands for a cluster that is too large for this machine: the
driver has as many calls in flight, but Ray has fewer processes.
"""

import argparse
import asyncio
import cProfile
import dataclasses
import json
import pstats
import random
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any
from unittest.mock import patch

import numpy as np
import ray
from rich.console import Console

from keisei_ray.config.autosize import resolve_auto
from keisei_ray.config.schema import Config
from keisei_ray.distributed import fleet, learner_handle
from keisei_ray.distributed.actors import PUBLISHING, remote_learner
from keisei_ray.distributed.cluster import connect
from keisei_ray.telemetry.events import Event, EventBus, RunStarted, UpdateFinished
from keisei_ray.telemetry.reports import CollectReport, ProcessInfo, Publication, UpdateReport
from keisei_ray.tracking.subscribers import build_subscribers
from keisei_ray.training.driver import Driver

CASES = (
    "2:2:0.2:2:0.02", "8:8:0.2:4:0.02", "32:32:1:16:0.02", "64:64:2:32:0.02",
    "2:2:0:2:0", "8:8:0:4:0", "32:32:0:16:0", "64:64:0:32:0",
    "256:4:0:128:0", "1000:4:0:500:0", "4000:4:0:2000:0",
)  # fmt: skip
"""Cases that are measured if none is given."""
WEIGHTS_BYTES = 1_260_922
"""Size of a packed 4x64 network."""
MAX_POLICY_LAG = 1
JITTER = 0.1
"""Standard deviation of an actor's time for a rollout, as a share of that time."""
WARM_UP_UPDATES = 3
INFO = ProcessInfo(pid=0, node="", device="none", num_parameters=0)
Collected = tuple[CollectReport, np.ndarray[Any, np.dtype[np.uint8]]]
"""Report and packed rollout of a `collect` call."""


@dataclass(frozen=True)
class Case:
    """One load on the driver."""

    actors: int
    processes: int
    play_s: float
    rollouts_per_update: int
    update_s: float
    publish_s: float = 0.0

    @classmethod
    def parse(cls, text: str) -> "Case":
        """Returns the case of a text ACTORS:PROCESSES:PLAY_S:R:UPDATE_S[:PUBLISH_S]."""
        actors, processes, play_s, rollouts, *seconds = text.split(":")
        return cls(int(actors), int(processes), float(play_s), int(rollouts), *map(float, seconds))


class StandInActors:
    """Several self-play actors in one process; each call is answered after `play_s`."""

    def __init__(self, ids: list[int], play_s: float, collected: Collected) -> None:
        self._idle = [[actor_id, 0] for actor_id in ids]
        self._play_s = play_s
        self._report, self._rollout = collected

    async def start(self) -> ProcessInfo:
        return INFO

    async def collect(self, weights: Any, offer: Any, *opponents: Any) -> Collected:
        actor = self._idle.pop(0)
        if self._play_s:
            await asyncio.sleep(self._play_s * max(0.1, random.gauss(1, JITTER)))
        actor_id, sequence = actor
        header = dataclasses.replace(
            self._report.header, actor_id=actor_id, incarnation=0, sequence=sequence,
            weights_version=int(weights[:8].view(np.int64)[0]),
        )  # fmt: skip
        games = tuple(
            dataclasses.replace(
                game, actor_id=actor_id, incarnation=0, game_id=f"{actor_id}-{sequence}-{number}"
            )
            for number, game in enumerate(self._report.games)
        )
        actor[1] += 1
        self._idle.append(actor)
        return dataclasses.replace(self._report, header=header, games=games), self._rollout


class StandInLearner:
    """A learner that sleeps through its updates and publishes weights of the right size."""

    def __init__(self, update_s: float, publish_s: float, timesteps_per_rollout: int) -> None:
        self._update_s = update_s
        self._publish_s = publish_s
        self._timesteps_per_rollout = timesteps_per_rollout
        self._version = 0
        self._unpublished: SimpleQueue[int] = SimpleQueue()

    def start(self) -> ProcessInfo:
        return INFO

    def snapshot(self) -> None:
        self._unpublished.put(self._version)

    @ray.method(concurrency_group=PUBLISHING)
    def publish(self) -> tuple[Publication, Any, dict[str, bytes]]:
        version = self._unpublished.get()
        time.sleep(self._publish_s)
        weights = np.zeros(WEIGHTS_BYTES, np.uint8)
        weights[:8] = np.frombuffer(np.int64(version).tobytes(), np.uint8)
        return Publication("digest", WEIGHTS_BYTES, 0.0), weights, {"state": b""}

    def update(self, timestep: int, *rollouts: Any) -> UpdateReport:
        time.sleep(self._update_s)
        self._version += 1
        self.snapshot()
        return update_report(self._version, len(rollouts) * self._timesteps_per_rollout)


@dataclass(frozen=True)
class Sample:
    """Clocks of the driver process when an update was finished."""

    wall_s: float
    process_s: float
    """CPU time of all threads."""
    thread_s: float
    """CPU time of the driver's main thread."""
    updates: int
    wait_s: float
    """Time that the learner waited for this update's rollouts."""


class Sampler:
    """Subscriber that takes a sample at each update while all actors are alive."""

    def __init__(self, num_actors: int, seconds: float, profile: cProfile.Profile | None) -> None:
        """Takes samples for `seconds` after the warm-up, with `profile` enabled meanwhile."""
        self.samples: list[Sample] = []
        self._num_actors = num_actors
        self._seconds = seconds
        self._profile = profile

    def handle(self, event: Event) -> None:
        """Takes a sample; the bus calls it in the driver's main thread."""
        if not isinstance(event, UpdateFinished):
            return
        if event.metrics.actors_alive != self._num_actors:
            return
        clocks = time.perf_counter(), time.process_time(), time.thread_time()
        self.samples.append(Sample(*clocks, event.metrics.update, event.metrics.wait_time_s))
        if self._profile is not None and len(self.samples) == WARM_UP_UPDATES:
            self._profile.enable()

    def is_done(self) -> bool:
        """Returns whether the samples after the warm-up cover the time to measure."""
        if len(self.samples) <= WARM_UP_UPDATES + 1:
            return False
        first, last = self.samples[WARM_UP_UPDATES], self.samples[-1]
        return last.wall_s - first.wall_s > self._seconds

    def stop(self) -> None:
        """Ends the profile."""
        if self._profile is not None:
            self._profile.disable()


def real_rollout() -> Collected:
    """Returns report and rollout of real self-play of default sizes, whose games began earlier."""
    from keisei_ray.network.model import build_model
    from keisei_ray.network.weights import pack_weights
    from keisei_ray.selfplay.self_play import SelfPlay

    config = Config.model_validate({"model": {"depth": 1, "width": 32}})
    self_play = SelfPlay(config, 0, 0)
    model = build_model(config.model, seed=0)
    self_play.set_weights(pack_weights(model, 0, weights_format="lossless", zstd_level=1))
    return [self_play.collect() for _ in range(8)][-1]


def update_report(version: int, timesteps: int) -> UpdateReport:
    """Returns a report with arbitrary values, to be recorded like a real one."""
    return UpdateReport(
        weights_version=version, batch_timesteps=timesteps,
        rollout_bytes_raw=1, rollout_bytes_wire=1, weights_bytes_wire=1, policy_loss=0.5,
        mate_loss=0.5, kl_proximal=0.5, truncated_weights=0.5, forced_timesteps=1, steps_undone=0,
        value_loss=0.5, entropy=0.5, approx_kl=0.5, clip_fraction=0.5, explained_variance=0.5,
        learning_rate=0.5, ent_coef=0.5, grad_norm=0.5, amp_dtype="off", amp_scale=None,
        amp_skipped=1, policy_lag_mean=0.5, policy_lag_max=1, first_log_ratio=0.5,
        optimizer_steps=1, update_time_s=0.5, publish_time_s=0.5,
    )  # fmt: skip


def settings(case: Case) -> Config:
    """Returns the configuration of a run that neither ends nor saves by itself."""
    values = {
        "run": {"total_timesteps": 10**12},
        "self_play": {"num_actors": case.actors},
        "schedule": {
            "rollouts_per_update": case.rollouts_per_update,
            "max_policy_lag": MAX_POLICY_LAG,
        },
        "checkpoint": {"interval_timesteps": 10**12},
        "evaluation": {"interval_timesteps": None},
        "pool": {"snapshot_interval_timesteps": None},
        "learner": {"device": "cpu", "num_threads": 1},
        "tracking": {"view": "none"},
        "cluster": {"num_cpus": 2},
    }
    return resolve_auto(Config.model_validate(values), num_cpus=2, num_gpus=0)


@contextmanager
def stand_ins(case: Case, collected: Any, timesteps_per_rollout: int) -> Iterator[None]:
    """Makes the driver start stand-ins in place of self-play actors and learner.

    Args:
        case: the load.
        collected: object reference of what the actors return.
        timesteps_per_rollout: size of a rollout.
    """
    processes: list[Any] = []

    def new_actor(_: Config, actor_id: int, *rest: Any, **options: Any) -> Any:
        if actor_id < case.processes:
            ids = list(range(actor_id, case.actors, case.processes))
            remote: Any = ray.remote(StandInActors)
            made = remote.options(num_cpus=0, max_concurrency=len(ids) + 1)
            processes.append(made.remote(ids, case.play_s, collected))
        return processes[actor_id % case.processes]

    def new_learner(*rest: Any, **options: Any) -> Any:
        remote = remote_learner(StandInLearner).options(num_cpus=0)
        return remote.remote(case.update_s, case.publish_s, timesteps_per_rollout)

    with (
        patch.object(fleet, "new_self_play_actor", new_actor),
        patch.object(learner_handle, "new_learner_actor", new_learner),
    ):
        yield


def run_driver(case: Case, collected: Collected, sampler: Sampler) -> None:
    """Runs the real driver against stand-ins until the sampler is done. Blocks."""
    config = settings(case)
    with tempfile.TemporaryDirectory() as scratch, connect(config) as cluster:
        run_dir, bus = Path(scratch), EventBus()
        cluster = dataclasses.replace(cluster, num_cpus=min(16, case.actors), is_fixed=True)
        driver = Driver(config, cluster, bus, run_dir, should_stop=sampler.is_done)
        for subscriber in build_subscribers(
            config, run_dir, bus, resumed_timestep=None, console=Console(quiet=True)
        ):
            bus.subscribe(subscriber.name, subscriber.handle, subscriber.close)
        bus.subscribe("sampler", sampler.handle)
        bus.publish(RunStarted(config, str(run_dir), None, cluster.describe()))
        with stand_ins(case, ray.put(collected), config.timesteps_per_rollout):
            driver.run()
        sampler.stop()
        bus.close(timeout_s=10)


def measure(
    case: Case, collected: Collected, seconds: float, *, is_profiled: bool
) -> dict[str, Any]:
    """Runs the driver once and returns its rates and costs after the warm-up."""
    profile = cProfile.Profile() if is_profiled else None
    sampler = Sampler(case.actors, seconds, profile)
    run_driver(case, collected, sampler)
    first, last = sampler.samples[WARM_UP_UPDATES], sampler.samples[-1]
    updates, wall_s = last.updates - first.updates, last.wall_s - first.wall_s
    process_s, thread_s = last.process_s - first.process_s, last.thread_s - first.thread_s
    rollouts = updates * case.rollouts_per_update
    result = dataclasses.asdict(case) | {
        "rollouts_per_s": rollouts / wall_s,
        "updates_per_s": updates / wall_s,
        "driver_cpu_ms_per_rollout": 1e3 * process_s / rollouts,
        "main_thread_ms_per_rollout": 1e3 * thread_s / rollouts,
        "driver_cpu_share": process_s / wall_s,
        "main_thread_share": thread_s / wall_s,
        "learner_wait_s": statistics.mean(s.wait_s for s in sampler.samples[WARM_UP_UPDATES + 1 :]),
    }
    return result | ({} if profile is None else {"profile": shares(profile)})


def shares(profile: cProfile.Profile) -> dict[str, float]:
    """Returns the 40 functions with the most cumulative time, as shares of all time."""
    stats: Any = pstats.Stats(profile)
    total = sum(row[2] for row in stats.stats.values())
    return {
        f"{Path(file).name}:{line} {name}": round(row[3] / total, 3)
        for (file, line, name), row in sorted(stats.stats.items(), key=lambda x: -x[1][3])[:40]
    }


def main() -> None:
    """Measures each case in a Ray of its own and prints a line for it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("cases", nargs="*", default=CASES, metavar="CASE")
    parser.add_argument("--seconds", type=float, default=10.0, help="time to measure of each case")
    parser.add_argument("--profile", action="store_true", help="profile the driver's main thread")
    parser.add_argument("--json", type=Path, help="file to which the results are added")
    options = parser.parse_args()
    collected = real_rollout()
    for text in options.cases:
        result = measure(Case.parse(text), collected, options.seconds, is_profiled=options.profile)
        result |= {"games_per_rollout": len(collected[0].games), "wire_bytes": collected[1].nbytes}
        print(json.dumps(result), flush=True)
        if options.json:
            old = json.loads(options.json.read_text()) if options.json.exists() else []
            options.json.write_text(json.dumps([*old, result], indent=1) + "\n")


if __name__ == "__main__":
    main()
