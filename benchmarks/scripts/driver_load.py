"""How many rollouts a second the driver takes in, and what each costs it.

    python benchmarks/scripts/driver_load.py [CASE ...] [--seconds S] [--profile] [--json FILE]

The real driver, its files and its event bus run against stand-ins without torch: actors that
return, after a fixed time, a report and a packed rollout that self-play once made, and a learner
that sleeps through its updates. What is left is the cost of the driver and of Ray.

A CASE is ACTORS:PROCESSES:PLAY_S:R:UPDATE_S, PLAY_S being an actor's time for a rollout. With
fewer processes than actors several actors live in one process, which stands for a cluster too
large for this machine: the driver has as many calls in flight, Ray has fewer processes.
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
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import ray
from rich.console import Console

from keisei_ray.config.autosize import resolve_auto
from keisei_ray.config.schema import Config
from keisei_ray.distributed import fleet, learner_handle
from keisei_ray.distributed.cluster import connect
from keisei_ray.telemetry.events import Event, EventBus, RunStarted, UpdateFinished
from keisei_ray.telemetry.reports import CollectReport, ProcessInfo, UpdateReport, UpdateStages
from keisei_ray.tracking.subscribers import build_subscribers
from keisei_ray.training.driver import Driver

CASES = (
    "2:2:0.2:2:0.02", "8:8:0.2:4:0.02", "32:32:1:16:0.02", "64:64:2:32:0.02",
    "2:2:0:2:0", "8:8:0:4:0", "32:32:0:16:0", "64:64:0:32:0",
    "256:4:0:128:0", "1000:4:0:500:0", "4000:4:0:2000:0",
)  # fmt: skip
WEIGHTS_BYTES = 1_260_922
"""A packed 4x64 network."""
LAG = 1
JITTER = 0.1
"""Standard deviation of an actor's time for a rollout, as a share of it."""
WARM_UP_UPDATES = 3
INFO = ProcessInfo(pid=0, node="", num_visible_gpus=0, device="none", num_parameters=0)
Template = tuple[CollectReport, np.ndarray[Any, np.dtype[np.uint8]]]


@dataclass(frozen=True)
class Case:
    """One load."""

    actors: int
    processes: int
    play_s: float
    rollouts_per_update: int
    update_s: float


class StandInActors:
    """Several self-play actors in one process; each call is answered after `play_s`."""

    def __init__(self, ids: list[int], play_s: float, template: Template) -> None:
        self._idle = [[actor_id, 0] for actor_id in ids]
        self._play_s = play_s
        self._report, self._rollout = template

    async def start(self) -> ProcessInfo:
        return INFO

    async def collect(self, weights: Any, mix: Any, *snapshots: Any) -> Template:
        who = self._idle.pop(0)
        if self._play_s:
            await asyncio.sleep(self._play_s * max(0.1, random.gauss(1, JITTER)))
        actor_id, sequence = who
        header = dataclasses.replace(
            self._report.header, actor_id=actor_id, incarnation=0, sequence=sequence,
            weights_version=int(weights[:8].view(np.int64)[0]),
        )  # fmt: skip
        games = tuple(
            dataclasses.replace(g, actor_id=actor_id, incarnation=0, game_id=f"{who}-{number}")
            for number, g in enumerate(self._report.games)
        )
        who[1] += 1
        self._idle.append(who)
        return dataclasses.replace(self._report, header=header, games=games), self._rollout


class StandInLearner:
    """Sleeps through its updates and publishes weights of the right size."""

    def __init__(self, update_s: float, template: UpdateReport) -> None:
        self._update_s, self._template = update_s, template
        self._version = 0

    def start(self) -> ProcessInfo:
        return INFO

    def publish(self) -> tuple[str, Any, dict[str, bytes]]:
        weights = np.zeros(WEIGHTS_BYTES, np.uint8)
        weights[:8] = np.frombuffer(np.int64(self._version).tobytes(), np.uint8)
        return "digest", weights, {"state": b""}

    def update(self, timestep: int, *rollouts: Any) -> tuple[UpdateReport, Any, dict[str, bytes]]:
        time.sleep(self._update_s)
        self._version += 1
        report = dataclasses.replace(
            self._template,
            weights_version=self._version,
            batch_timesteps=len(rollouts) * self._template.batch_timesteps,
        )
        return report, *self.publish()[1:]


def real_template() -> Template:
    """Report and rollout of real self-play, 64 plies of 32 games that do not all begin there."""
    from keisei_ray.network.weights import pack_weights
    from keisei_ray.selfplay.self_play import SelfPlay

    config = Config.model_validate({"model": {"depth": 1, "width": 32}})
    from keisei_ray.network.model import build_model

    self_play = SelfPlay(config, 0, 0)
    model = build_model(config.model, seed=0)
    self_play.set_weights(pack_weights(model, 0, weights_format="lossless", zstd_level=1))
    return [self_play.collect() for _ in range(8)][-1]


def update_template(rows: int) -> UpdateReport:
    """Any numbers will do: of the right types, so that they can be recorded."""
    kinds = {int: 1, float: 0.5, str: "off"}
    fields = {f.name: kinds.get(f.type) for f in dataclasses.fields(UpdateReport)}  # type: ignore[call-overload]
    known = {"batch_timesteps": rows, "weights_digest": "digest"}
    known |= {"stages": UpdateStages(), "trace": None}
    return UpdateReport(**fields | known)


def measure(case: Case, template: Template, seconds: float, *, is_profiled: bool) -> dict[str, Any]:
    """One run of the driver; rates and costs between two updates of its steady state."""
    config = resolve_auto(
        Config.model_validate(
            {
                "run": {"total_timesteps": 10**12},
                "self_play": {"num_actors": case.actors},
                "schedule": {
                    "rollouts_per_update": case.rollouts_per_update, "max_policy_lag": LAG,
                },
                "checkpoint": {"interval_timesteps": 10**12},
                "pool": {"snapshot_interval_timesteps": None},
                "learner": {"device": "cpu", "num_threads": 1},
                "tracking": {"view": "none"},
                "cluster": {"num_cpus": 2},
            }
        ),
        num_cpus=2,
        num_gpus=0,
    )  # fmt: skip
    hosts: list[Any] = []

    def new_actors(_: Config, actor_id: int, *rest: Any, **options: Any) -> Any:
        if actor_id < case.processes:
            ids = list(range(actor_id, case.actors, case.processes))
            remote: Any = ray.remote(StandInActors)
            made = remote.options(num_cpus=0, max_concurrency=len(ids) + 1)
            hosts.append(made.remote(ids, case.play_s, kept))
        return hosts[actor_id % case.processes]

    def new_learner(*rest: Any, **options: Any) -> Any:
        remote: Any = ray.remote(StandInLearner)
        return remote.options(num_cpus=0).remote(
            case.update_s, update_template(config.timesteps_per_rollout)
        )

    fleet.new_self_play_actor = new_actors
    learner_handle.new_learner_actor = new_learner
    samples: list[tuple[float, float, float, int]] = []
    lags: list[float] = []
    profile = cProfile.Profile()

    def sample(event: Event) -> None:
        if isinstance(event, UpdateFinished) and event.metrics.actors_alive == case.actors:
            samples.append(
                (
                    time.perf_counter(), time.process_time(), time.thread_time(),
                    driver.progress.updates,
                )
            )  # fmt: skip
            waits.append(event.metrics.wait_time_s)
            if is_profiled and len(samples) == WARM_UP_UPDATES:
                profile.enable()

    waits: list[float] = lags

    def is_over() -> bool:
        return len(samples) > WARM_UP_UPDATES + 1 and (
            samples[-1][0] - samples[WARM_UP_UPDATES][0] > seconds
        )

    with tempfile.TemporaryDirectory() as scratch, connect(config) as cluster:
        kept = ray.put(template)
        run_dir = Path(scratch)
        bus = EventBus()
        cluster = dataclasses.replace(cluster, num_cpus=min(16, case.actors), is_fixed=True)
        driver = Driver(config, cluster, bus, run_dir, should_stop=is_over)
        for subscriber in build_subscribers(
            config, run_dir, bus, resumed_timestep=None, console=Console(quiet=True)
        ):
            bus.subscribe(subscriber.name, subscriber.handle, subscriber.close)
        bus.subscribe("sample", sample)
        bus.publish(RunStarted(config, str(run_dir), None, cluster.describe()))
        driver.run()
        profile.disable()
        bus.close(timeout_s=10)
    first, last = samples[WARM_UP_UPDATES], samples[-1]
    wall_s, process_s, thread_s, updates = (b - a for a, b in zip(first, last, strict=True))
    rollouts = int(updates) * case.rollouts_per_update
    result = dataclasses.asdict(case) | {
        "rollouts_per_s": rollouts / wall_s,
        "updates_per_s": updates / wall_s,
        "driver_cpu_ms_per_rollout": 1e3 * process_s / rollouts,
        "main_thread_ms_per_rollout": 1e3 * thread_s / rollouts,
        "driver_cpu_share": process_s / wall_s,
        "main_thread_share": thread_s / wall_s,
        "learner_wait_s": statistics.mean(waits[WARM_UP_UPDATES + 1 :]),
    }
    if is_profiled:
        stats: Any = pstats.Stats(profile)
        total = sum(row[2] for row in stats.stats.values())
        result["profile"] = {
            f"{Path(file).name}:{line} {name}": round(row[3] / total, 3)
            for (file, line, name), row in sorted(stats.stats.items(), key=lambda x: -x[1][3])[:40]
        }
    return result


def main() -> None:
    """Measures each case in a Ray of its own and prints a line for it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("cases", nargs="*", default=CASES, metavar="CASE")
    parser.add_argument("--seconds", type=float, default=10.0, help="measured, of each case")
    parser.add_argument("--profile", action="store_true", help="shares of the main thread's time")
    parser.add_argument("--json", type=Path, help="results, added to what stands there")
    options = parser.parse_args()
    template = real_template()
    kinds: tuple[Callable[[str], float], ...] = (int, int, float, int, float)
    for text in options.cases:
        case = Case(*(k(v) for k, v in zip(kinds, text.split(":"), strict=True)))  # type: ignore[arg-type]
        result = measure(case, template, options.seconds, is_profiled=options.profile)
        result |= {"games_per_rollout": len(template[0].games), "wire_bytes": template[1].nbytes}
        print(json.dumps(result), flush=True)
        if options.json:
            old = json.loads(options.json.read_text()) if options.json.exists() else []
            options.json.write_text(json.dumps([*old, result], indent=1) + "\n")


if __name__ == "__main__":
    main()
