"""One training run inside the test process: real actors, files and events, no subprocess."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import ray
from rich.console import Console

from keisei_ray.config.schema import Config
from keisei_ray.distributed.actors import LearnerShell, SelfPlayShell, remote_learner
from keisei_ray.distributed.cluster import Cluster
from keisei_ray.distributed.versions import own_versions
from keisei_ray.storage.checkpoint import Checkpoint
from keisei_ray.telemetry.events import Event, EventBus, RunStarted
from keisei_ray.tracking.subscribers import build_subscribers
from keisei_ray.training.driver import Driver
from tests.helpers.tiny import tiny_config

AnyEvent = TypeVar("AnyEvent", bound=Event)


def overlap_config(**sections: dict[str, Any]) -> Config:
    """Returns settings of two actors, rollouts of 8 plies x 4 games, updates of two rollouts."""
    values: dict[str, dict[str, Any]] = {
        "self_play": {"num_actors": 2, "max_plies": 20},
        "schedule": {"mode": "overlap", "rollouts_per_update": 2, "max_policy_lag": 1},
        "tracking": {"view": "none"},
    }
    for section, changes in sections.items():
        values[section] = values.get(section, {}) | changes
    return tiny_config(**values)


@dataclass
class Run:
    """A run that has ended, and everything that it published."""

    driver: Driver
    bus: EventBus
    run_dir: Path
    events: list[Event] = field(default_factory=list)
    error: BaseException | None = None

    def of(self, kind: type[AnyEvent]) -> list[AnyEvent]:
        """Returns its events of one kind, in order."""
        return [event for event in self.events if isinstance(event, kind)]

    def lines(self, name: str) -> list[dict[str, Any]]:
        """Returns the records of a JSON lines file."""
        return [json.loads(line) for line in (self.run_dir / name).read_text().splitlines()]

    def json(self, name: str) -> Any:
        """Returns the content of a JSON file."""
        return json.loads((self.run_dir / name).read_text())


def train(
    config: Config,
    cluster: Cluster,
    run_dir: Path,
    *,
    resume: Checkpoint | None = None,
    subscribers: Sequence[Callable[[Event], object]] = (),
    should_stop: Callable[[], bool] = lambda: False,
    fails_with: tuple[type[BaseException], ...] = (),
) -> Run:
    """Runs a driver to its end, with the files of a real run in `run_dir`.

    Args:
        config: with no setting left at "auto".
        cluster: what it runs on; stays up.
        run_dir: created if missing.
        resume: checkpoint to continue from.
        subscribers: further subscribers, called "extra 0" and so on.
        should_stop: asks the driver to stop, as Ctrl-C does.
        fails_with: what the run is expected to raise; kept in `Run.error`.
    """
    run_dir.mkdir(exist_ok=True)
    bus = EventBus()
    driver = Driver(config, cluster, bus, run_dir, resume=resume, should_stop=should_stop)
    run = Run(driver, bus, run_dir)
    bus.subscribe("recorder", run.events.append)
    for subscriber in build_subscribers(
        config,
        run_dir,
        bus,
        resumed_timestep=resume.timestep if resume else None,
        console=Console(quiet=True),
    ):
        bus.subscribe(subscriber.name, subscriber.handle, subscriber.close)
    for index, handle in enumerate(subscribers):
        bus.subscribe(f"extra {index}", handle)
    bus.publish(RunStarted(config, str(run_dir), None, cluster.describe()))
    try:
        driver.run()
    except fails_with as error:
        run.error = error
    finally:
        bus.close(timeout_s=10)
    return run


def self_play_actors(shell: type[SelfPlayShell]) -> Callable[..., Any]:
    """Returns a stand-in for `new_self_play_actor` that starts another shell."""

    def new(config: Config, actor_id: int, incarnation: int, *, num_cpus: float) -> Any:
        actor: Any = ray.remote(shell)
        return actor.options(num_cpus=num_cpus).remote(
            config, actor_id, incarnation, own_versions()
        )

    return new


def learner_actors(shell: type[LearnerShell]) -> Callable[..., Any]:
    """Returns a stand-in for `new_learner_actor` that starts another shell."""

    def new(config: Config, rank: int, *, num_cpus: float, scheduling_strategy: Any) -> Any:
        options = {"num_cpus": num_cpus, "scheduling_strategy": scheduling_strategy}
        return remote_learner(shell).options(**options).remote(config, own_versions(), rank)

    return new
