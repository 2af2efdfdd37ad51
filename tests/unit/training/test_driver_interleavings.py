"""The driver's loop under orders of events that no cluster shows on demand. No Ray is started.

A world drawn from a seed: rollouts and updates come in any order and several at once, processes
die, stop, answer too late or raise, rollouts are damaged, delivered twice or lost with their node,
and the cluster grows and shrinks.
"""

from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest
from ray.exceptions import ObjectLostError

from keisei_ray.config.autosize import resolve_auto
from keisei_ray.config.schema import Config
from keisei_ray.distributed import fleet, learner_handle, supervision
from keisei_ray.distributed.cluster import Cluster
from keisei_ray.errors import PeerLostError, RejectedRolloutsError
from keisei_ray.rollouts.rollout import RolloutHeader
from keisei_ray.telemetry.events import Event, EventBus, RolloutRejected, UpdateFinished
from keisei_ray.telemetry.reports import CollectReport, ProcessInfo, Publication, UpdateReport
from keisei_ray.training import driver as driver_module
from keisei_ray.training.driver import Driver
from tests.helpers.simulated_ray import SimulatedActor, SimulatedRay
from tests.helpers.tiny import tiny_config

T, N = 64, 32
UPDATES = 25
TOTAL = UPDATES * 3 * T * N
INFO = ProcessInfo(pid=1, node="127.0.0.1", device="cpu", num_parameters=1)
LOST_WITH_A_NODE = ObjectLostError("ff" * 28, None, "")
CLUSTER = Cluster(
    address="", num_nodes=1, num_cpus=4, num_gpus=0, memory_bytes=0, dashboard_url="", is_fixed=True
)
OVERLAP = {"mode": "overlap", "rollouts_per_update": 2, "max_policy_lag": 1}
KINDS: dict[str, tuple[dict[str, Any], dict[str, Any], int]] = {
    "lockstep": ({"num_actors": 3}, {"mode": "lockstep"}, 1),
    "overlap": ({"num_actors": 3}, OVERLAP, 1),
    "elastic": ({"num_actors": "auto"}, {"mode": "overlap", "max_policy_lag": 2}, 1),
    "two learners": ({"num_actors": 3}, OVERLAP | {"rollouts_per_update": 3}, 2),
}
"""Settings of sections self_play and schedule and the number of learners by the kind of run."""


@dataclass
class FakeSelfPlay:
    """A self-play actor. The packed rollout is its header."""

    random: Random
    actor_id: int
    incarnation: int
    sequence: int = 0
    last: tuple[CollectReport, RolloutHeader] | None = None

    def start(self) -> ProcessInfo:
        return INFO

    def collect(self, version: int, *_: object) -> tuple[CollectReport, RolloutHeader]:
        if self.random.random() < 0.02:
            raise MemoryError("no room for the games")
        if self.last is None or self.random.random() > 0.02:
            header = RolloutHeader(
                self.actor_id, self.incarnation, self.sequence, version - 1, T, N
            )
            self.last = CollectReport(header, (), T * N, 1.0, 0, 0, 1.0, "", ""), header
            self.sequence += 1
        return self.last


@dataclass
class FakeLearner:
    """The learner. Weights and state are its version plus one, since 0 is no weights."""

    random: Random
    max_lag: int
    timesteps: dict[int, int] = field(default_factory=lambda: {0: 0})
    """Timestep of the run by version, over all learners of the world."""
    version: int = 0
    unpublished: list[int] = field(default_factory=list)

    def start(self) -> ProcessInfo:
        return INFO

    def restore(self, state: int) -> None:
        self.version = state - 1

    def snapshot(self) -> None:
        self.unpublished.append(self.version)

    def publish(self) -> tuple[Publication, Any, Any]:
        number = self.unpublished.pop(0) + 1
        chance = self.random.random()
        weights = LOST_WITH_A_NODE if 0.96 < chance < 0.98 and number > 1 else number
        state = LOST_WITH_A_NODE if chance > 0.98 and number > 1 else number
        return Publication(f"digest {number}", number, 0.0), weights, state

    def make_version(self, rollouts: tuple[RolloutHeader, ...]) -> None:
        assert len(set(rollouts)) == len(rollouts)
        lags = [self.version - rollout.weights_version for rollout in rollouts]
        assert all(0 <= lag <= self.max_lag for lag in lags), lags
        self.refuse()
        self.version += 1

    def refuse(self) -> None:
        chance = self.random.random()
        if chance < 0.05:
            raise RejectedRolloutsError({0: "damaged"})
        if chance < 0.1:
            raise LOST_WITH_A_NODE

    def update(self, timestep: int, *rollouts: RolloutHeader) -> UpdateReport:
        assert timestep == self.timesteps[self.version] < TOTAL
        self.make_version(rollouts)
        self.timesteps[self.version] = timestep + T * N * len(rollouts)
        self.snapshot()
        assert len(self.unpublished) <= 2
        values: dict[str, Any] = dict.fromkeys(UpdateReport.__dataclass_fields__, 0)
        del values["stages"], values["trace"]
        values |= {"amp_dtype": "off"}
        values |= {"weights_version": self.version, "batch_timesteps": T * N * len(rollouts)}
        return UpdateReport(**values)


@dataclass
class FakeGroup:
    """A stand-in for two learners: how each of their updates ends, the same for both."""

    random: Random
    outcomes: dict[int, str] = field(default_factory=dict)

    def outcome(self, update: int) -> str:
        kinds = ["made", "refused by 0", "refused by 1", "lost with its node"]
        [drawn] = self.random.choices(kinds, [0.9, 0.03, 0.03, 0.04])
        return self.outcomes.setdefault(update, drawn)


@dataclass
class FakeOneOfTwo(FakeLearner):
    """One of two learners, which answer in any order; it does not know the other's share."""

    rank: int = 0
    group: FakeGroup = field(default_factory=lambda: FakeGroup(Random(0)))
    updates: int = 0

    def open_group(self) -> str:
        assert self.rank == 0
        return "place"

    def start(self, place: str = "") -> ProcessInfo:
        assert place == "place"
        return INFO

    def refuse(self) -> None:
        outcome = self.group.outcome(self.updates)
        self.updates += 1
        if outcome == "lost with its node":
            raise LOST_WITH_A_NODE if self.rank else PeerLostError("learner 0 of 2 has lost one")
        if outcome != "made":
            is_own = outcome == f"refused by {self.rank}"
            raise RejectedRolloutsError({0: "damaged"} if is_own else {})

    def update(self, timestep: int, *rollouts: RolloutHeader) -> UpdateReport:
        self.timesteps[self.version] = timestep
        return super().update(timestep, *rollouts)

    def follow(self, timestep: int, *rollouts: RolloutHeader) -> None:
        assert self.rank == 1
        self.make_version(rollouts)


def config_of(kind: str) -> Config:
    self_play, schedule, num_learners = KINDS[kind]
    config = tiny_config(
        run={"total_timesteps": TOTAL},
        self_play={"games_per_actor": N, "rollout_length": T, **self_play},
        schedule=schedule,
        learner={"num_learners": num_learners},
        pool={"share": 0.0},
        checkpoint={"interval_timesteps": 10**12},
        # Every death may be replaced. No answer within 2 s is too late, at first within 48 s.
        cluster={"max_actor_deaths": 10**9, "start_timeout_s": 20.0, "call_timeout_s": 2.0},
    )
    return resolve_auto(config, num_cpus=4, num_gpus=0)


def simulated_driver(
    kind: str, seed: int, run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Any, SimulatedRay, list[Event]]:
    """Returns a driver whose learner is up, its world, and the list that its events go to."""
    random = Random(f"{kind} {seed}")
    world = SimulatedRay(random)
    config = config_of(kind)
    for module in (driver_module, learner_handle, fleet, supervision):
        monkeypatch.setattr(module, "ray", world)
    monkeypatch.setattr(supervision, "kill_process", lambda actor: None)
    monkeypatch.setattr(driver_module, "time", SimpleNamespace(sleep=world.sleep))
    monkeypatch.setattr(
        fleet,
        "new_self_play_actor",
        lambda _, actor_id, incarnation, **__: world.new_actor(
            FakeSelfPlay(random, actor_id, incarnation)
        ),
    )
    groups: list[FakeGroup] = []
    timesteps = {0: 0}

    def new_learner(_: Config, rank: int, **__: object) -> SimulatedActor:
        if rank == 0:
            groups.append(FakeGroup(random))
        if config.learner.num_learners == 1:
            return world.new_actor(FakeLearner(random, config.effective_max_lag, timesteps))
        lag = config.effective_max_lag
        return world.new_actor(FakeOneOfTwo(random, lag, rank=rank, group=groups[-1]))

    monkeypatch.setattr(learner_handle, "new_learner_actor", new_learner)
    bus = EventBus()
    events: list[Event] = []
    bus.subscribe("recorder", events.append)
    driver: Any = Driver(config, CLUSTER, bus, run_dir, clock=world.clock)
    driver._watch._look = lambda found: replace(found, num_cpus=random.choice([1, 2, 4, 4, 8]))
    driver._start_learner()
    return driver, world, events


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("kind", KINDS)
def test_whatever_comes_in_whatever_order_each_rollout_counts_once(
    kind: str, seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver, world, events = simulated_driver(kind, seed, tmp_path, monkeypatch)
    world.chances = {"die": 0.01, "stop": 0.003, "pause": 0.01}
    driver._train()
    progress, rollouts = driver.progress, driver._rollouts
    updates = [event.metrics for event in events if isinstance(event, UpdateFinished)]
    if kind != "two learners":  # Of these a stand-in knows its own share only.
        assert progress.timestep == sum(metrics.batch_timesteps for metrics in updates)
    assert progress.timestep >= driver.config.run.total_timesteps
    assert [metrics.weights_version for metrics in updates] == list(range(1, len(updates) + 1))
    assert any(metrics.wait_time_s > 0 for metrics in updates)
    waiting = len(rollouts.delivered_or_updating())
    assert progress.timesteps_collected == progress.timestep + T * N * (
        progress.rollouts_rejected + waiting
    )
    updates_left = driver._updates
    assert len(updates_left) == len(rollouts.updates) <= 2
    awaited = {*rollouts.in_play, *(update.deadline for update in updates_left)}
    assert set(driver._deadlines._awaited) == awaited
    for part in (driver._fleet, driver._learner):
        part.dismiss()
    assert [actor.work for actor in world.actors if actor.is_alive] == []


def test_an_answer_that_waits_for_a_busy_driver_is_not_overdue(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after minutes in which a dead learner was restarted."""
    driver, world, _ = simulated_driver("lockstep", 0, tmp_path, monkeypatch)
    while not driver._rollouts.in_play:
        driver._fleet.start_waiting()
        for ref in driver._wait():
            driver._take(ref)
        driver._ask_for_rollouts()
    asked = list(driver._rollouts.in_play)
    while not all(ref.is_ready for ref in asked):
        world.happen()
    for _ in range(20):
        world.now += 5.0
        driver._replace_overdue()
    assert list(driver._deadlines.overdue()) == asked
    assert list(driver._rollouts.in_play) == asked
    driver._take(world.new_ref())  # A reference that nothing awaits is passed over.


def under_way(driver: Any) -> Any:
    """Turns the driver's loop until its first update is under way, and returns that."""
    while not driver._updates:
        driver._fleet.start_waiting()
        driver._ask_for_rollouts()
        for ref in driver._wait():
            driver._take(ref)
        driver._start_update()
    return driver._updates[0]


def test_a_rollout_that_a_learner_refused_is_gone_also_where_another_learner_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver, _, events = simulated_driver("two learners", 0, tmp_path, monkeypatch)
    update = under_way(driver)
    given = driver._rollouts.updates[0].copy()
    lost = learner_handle.SeveralLearnersLost(1, PeerLostError("gone"), {1: "damaged"})

    def lose(_: object) -> None:
        raise lost

    relaunched: list[Exception] = []
    monkeypatch.setattr(driver._learner, "is_over", lambda _: True)
    monkeypatch.setattr(driver._learner, "take_report", lose)
    monkeypatch.setattr(driver._learner, "relaunch", relaunched.append)
    driver._take_update(update.answers[0])
    assert relaunched == [lost]
    assert driver._updates == []
    assert driver._rollouts.delivered[:2] == [given[0], given[2]]
    assert given[1] not in driver._rollouts.delivered
    assert [event.cause for event in events if isinstance(event, RolloutRejected)] == ["damaged"]


def test_a_version_that_waits_for_the_one_before_it_is_not_overdue(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver, world, _ = simulated_driver("overlap", 0, tmp_path, monkeypatch)
    under_way(driver).missing.clear()
    relaunched: list[Exception] = []
    monkeypatch.setattr(driver._learner, "relaunch", relaunched.append)
    for _ in range(40):
        world.now += 5.0
        driver._replace_overdue()
    assert list(driver._deadlines.overdue())
    assert relaunched == []
