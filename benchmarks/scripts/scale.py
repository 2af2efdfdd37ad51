"""Simulation of a run with 10 to 10,000 self-play actors, from measured figures.

    python benchmarks/scripts/scale.py [--json FILE]

A discrete-event simulation of the driver's loop (`keisei_ray/training/driver.py`): actors play
rollouts and send them over the network link of the learner's node, the driver handles them one by
one, the learner updates, and each node pulls the new weights once. The bound on the policy lag and
the size of updates are the real ones (`config/autosize.py`). There is no Ray and no network in it;
the same seed gives the same numbers.

MEASURED says where each figure comes from. The speed of a GPU has not been measured: it is in
COMPUTED.
"""

import argparse
import heapq
import itertools
import json
import math
import random
from collections import deque
from dataclasses import asdict, dataclass, field
from pathlib import Path

from keisei_ray.config.autosize import choose_rollouts_per_update
from keisei_ray.config.schema import Config

MEASURED = {
    # Name: (figure, source)
    "plies/s of an actor on one core, 4x64": (2402.0, "benchmarks/results/speed-2cpu-intel.json"),
    "learner samples/s on one core, 4x64": (1008.0, "benchmarks/results/speed-2cpu-intel.json"),
    "bytes of a ply, packed": (33.9, "benchmarks/results/speed-2cpu-intel.json"),
    "bytes of a parameter, packed": (3.75, "bench broadcast, 4x64: 1,260,922 for 336,225"),
    "driver's main thread, s for a rollout": (0.0015, "benchmarks/results/driver-load-2cpu.json"),
}
COMPUTED = {
    "FLOP/s of a learner's GPU in use": (100e12, "about a third of what an L40S can in bf16"),
}
PLIES_PER_ROLLOUT = 64 * 32
ACTORS_PER_NODE = 16
HOUR_S = 3600.0


@dataclass(frozen=True)
class Network:
    """Size of a residual network."""

    depth: int
    width: int

    @property
    def forward_flop(self) -> float:
        """Floating-point operations in one position's forward pass, by its 3x3 convolutions."""
        return 2.0 * self.depth * 2 * 9 * self.width**2 * 81

    @property
    def num_parameters(self) -> int:
        """Number of parameters, by the formula of `memory.max_parameters`."""
        return 20 * self.depth * self.width**2 + 650 * self.width + 400 * 64


@dataclass(frozen=True)
class Setting:
    """A cluster and a run on it."""

    num_actors: int
    rollouts_per_update: int
    max_policy_lag: int
    play_s: float
    """Time of an actor to play a rollout."""
    update_s: float
    """Time of the learner for each rollout of an update, over all epochs."""
    driver_s: float
    """Time of the driver to handle a rollout."""
    rollout_bytes: float
    weights_bytes: float
    bytes_per_s: float
    """Bandwidth of the link of the learner's node, in each direction."""
    jitter: float = 0.1
    """Standard deviation of `play_s`, as a share of it."""
    losses_per_actor_hour: float = 0.0
    """Rate at which an actor is lost with its rollout; it is replaced after `restart_s`."""
    restart_s: float = 60.0
    num_updates: int = 12
    """Number of updates to simulate; the first third is not counted."""
    seed: int = 1


@dataclass
class Outcome:
    """Result of the counted part of a simulation."""

    timesteps_per_s: float
    learner_busy: float
    """Share of the time in which the learner is busy; likewise the next two."""
    actors_busy: float
    driver_busy: float
    bytes_in_per_s: float
    """Rollouts that arrive at the learner's node."""
    bytes_out_per_s: float
    """Weights that leave it, if every node pulls them from it alone."""
    lag_mean: float
    lag_max: int
    produced: int = 0
    """Number of rollouts delivered in the whole simulation; likewise the next three."""
    consumed: int = 0
    waiting: int = 0
    lost: int = 0


@dataclass
class Queue:
    """A resource that serves one request at a time, first come first served."""

    free_at: float = 0.0
    busy_s: float = 0.0

    def serve(self, now: float, takes_s: float) -> float:
        """Returns when a request that comes now is done."""
        self.free_at = max(now, self.free_at) + takes_s
        self.busy_s += takes_s
        return self.free_at


@dataclass
class World:
    """State of the simulation."""

    s: Setting
    now: float = 0.0
    version: int = 0
    events: list[tuple[float, int, str, int]] = field(default_factory=list)
    order: "itertools.count[int]" = field(default_factory=itertools.count)
    idle: deque[int] = field(default_factory=deque)
    in_play: dict[int, int] = field(default_factory=dict)
    """Actor -> version of the weights with which it plays."""
    arrived: list[int] = field(default_factory=list)
    """Versions of the weights that played the rollouts that have arrived."""
    updating: list[int] = field(default_factory=list)
    link_in: Queue = field(default_factory=Queue)
    link_out: Queue = field(default_factory=Queue)
    driver: Queue = field(default_factory=Queue)
    learner_s: float = 0.0
    played_s: float = 0.0
    produced: int = 0
    consumed: int = 0
    lost: int = 0
    lags: list[int] = field(default_factory=list)
    weights_at: float = 0.0
    """Time at which the newest weights have reached the last node."""

    def at(self, when: float, what: str, who: int = 0) -> None:
        """Schedules an event; `who` is its actor."""
        heapq.heappush(self.events, (when, next(self.order), what, who))


def simulate(s: Setting) -> Outcome:
    """Simulates until `num_updates` are done."""
    rng = random.Random(s.seed)
    world = World(s, idle=deque(range(s.num_actors)))
    marks: list[tuple[float, ...]] = []
    _start_what_can_start(world, rng)
    while world.version < s.num_updates:
        world.now, _, what, who = heapq.heappop(world.events)
        if what == "played":
            world.at(world.link_in.serve(world.now, s.rollout_bytes / s.bytes_per_s), "sent", who)
        elif what == "sent":
            world.at(world.driver.serve(world.now, s.driver_s), "arrived", who)
        elif what == "arrived":
            world.arrived.append(world.in_play.pop(who))
            world.produced += 1
            world.idle.append(who)
        elif what == "lost":
            world.in_play.pop(who)
            world.lost += 1
            world.at(world.now + s.restart_s, "started", who)
        elif what == "started":
            world.idle.append(who)
        elif what == "updated":
            world.version += 1
            world.consumed += len(world.updating)
            world.updating = []
            nodes = math.ceil(s.num_actors / ACTORS_PER_NODE)
            world.link_out.busy_s += nodes * s.weights_bytes / s.bytes_per_s
            # Ray's nodes pull from any node that has a copy: the number of copies doubles.
            hops = math.ceil(math.log2(nodes + 1))
            world.weights_at = world.now + hops * s.weights_bytes / s.bytes_per_s
            if world.version >= s.num_updates // 3:
                marks.append(_counters(world))
        _start_what_can_start(world, rng)
    return _outcome(world, marks[0], marks[-1])


def _start_what_can_start(world: World, rng: random.Random) -> None:
    """Starts rollouts within the bound on the lag, and an update if its R rollouts are there."""
    s = world.s
    limit = s.rollouts_per_update * (s.max_policy_lag + 1)
    unconsumed = len(world.in_play) + len(world.arrived) + len(world.updating)
    while world.idle and unconsumed < limit:
        actor = world.idle.popleft()
        world.in_play[actor] = world.version
        unconsumed += 1
        takes_s = s.play_s * max(0.1, rng.gauss(1.0, s.jitter))
        begins = max(world.now, world.weights_at)
        dies_s = (
            rng.expovariate(s.losses_per_actor_hour / HOUR_S)
            if s.losses_per_actor_hour
            else math.inf
        )
        if dies_s < takes_s:
            world.at(begins + dies_s, "lost", actor)
        else:
            world.played_s += takes_s
            world.at(begins + takes_s, "played", actor)
    if world.updating or len(world.arrived) < s.rollouts_per_update:
        return
    oldest_allowed = world.version + 1 - s.max_policy_lag
    if any(version < oldest_allowed for version in world.in_play.values()):
        return
    world.arrived.sort()
    count = s.rollouts_per_update
    world.updating, world.arrived = world.arrived[:count], world.arrived[count:]
    world.lags += [world.version - version for version in world.updating]
    takes_s = s.update_s * count
    world.learner_s += takes_s
    world.at(world.now + takes_s, "updated")


def _counters(w: World) -> tuple[float, ...]:
    return (
        w.now, w.consumed, w.learner_s, w.played_s, w.driver.busy_s,
        w.link_in.busy_s, w.link_out.busy_s, len(w.lags),
    )  # fmt: skip


def _outcome(w: World, first: tuple[float, ...], last: tuple[float, ...]) -> Outcome:
    wall_s, consumed, learner_s, played_s, driver_s, in_s, out_s, _ = (
        b - a for a, b in zip(first, last, strict=True)
    )
    lags = w.lags[int(first[-1]) :]
    return Outcome(
        timesteps_per_s=consumed * PLIES_PER_ROLLOUT / wall_s,
        learner_busy=learner_s / wall_s,
        actors_busy=played_s / wall_s / w.s.num_actors,
        driver_busy=driver_s / wall_s,
        bytes_in_per_s=in_s * w.s.bytes_per_s / wall_s,
        bytes_out_per_s=out_s * w.s.bytes_per_s / wall_s,
        lag_mean=sum(lags) / len(lags),
        lag_max=max(lags),
        produced=w.produced,
        consumed=w.consumed,
        waiting=len(w.arrived) + len(w.updating),
        lost=w.lost,
    )


def bound(s: Setting) -> float:
    """Returns timesteps a second by the tightest of four bottlenecks, if nothing else waits."""
    rollouts_per_s = min(
        s.num_actors / s.play_s,
        1 / s.update_s,
        1 / s.driver_s if s.driver_s else math.inf,
        s.bytes_per_s / s.rollout_bytes,
    )
    return rollouts_per_s * PLIES_PER_ROLLOUT


def setting(
    num_actors: int, network: Network, *, epochs: int, gbit_per_s: float, on_gpu: bool = True
) -> Setting:
    """Returns a run with one learner: R by the real rule, speeds from MEASURED and COMPUTED.

    Other networks than 4x64 are taken to be slower in proportion to their operations.
    """
    size = network.forward_flop / Network(4, 64).forward_flop
    plies_per_s = MEASURED["plies/s of an actor on one core, 4x64"][0] / size
    if on_gpu:
        # A backward pass costs two forward passes.
        samples_per_s = COMPUTED["FLOP/s of a learner's GPU in use"][0] / (3 * network.forward_flop)
    else:
        samples_per_s = MEASURED["learner samples/s on one core, 4x64"][0] / size
    return Setting(
        num_actors=num_actors,
        rollouts_per_update=choose_rollouts_per_update(Config(), num_actors),
        max_policy_lag=Config().schedule.max_policy_lag,
        play_s=PLIES_PER_ROLLOUT / plies_per_s,
        update_s=PLIES_PER_ROLLOUT * epochs / samples_per_s,
        driver_s=MEASURED["driver's main thread, s for a rollout"][0],
        rollout_bytes=PLIES_PER_ROLLOUT * MEASURED["bytes of a ply, packed"][0],
        weights_bytes=network.num_parameters * MEASURED["bytes of a parameter, packed"][0],
        bytes_per_s=gbit_per_s * 1e9 / 8,
    )


def main() -> None:
    """Prints a line for each network and number of actors."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--epochs", type=int, nargs="+", default=[4, 1])
    parser.add_argument("--gbit-per-s", type=float, default=10.0, help="link of the learner's node")
    parser.add_argument("--losses", type=float, default=0.05, help="losses of an actor per hour")
    parser.add_argument("--json", type=Path, help="file to which the table is also written")
    options = parser.parse_args()
    rows = []
    print(
        "network epochs actors  batch plies  timesteps/s of bound  learner actors driver  "
        "MB/s in    out  lag"
    )
    networks = (Network(4, 64), Network(10, 128), Network(20, 256))
    for epochs, network in itertools.product(options.epochs, networks):
        for num_actors in (10, 100, 1000, 10_000):
            s = setting(num_actors, network, epochs=epochs, gbit_per_s=options.gbit_per_s)
            s = Setting(**asdict(s) | {"losses_per_actor_hour": options.losses})
            out = simulate(s)
            rows.append({"setting": asdict(s), "outcome": asdict(out), "bound": bound(s)})
            print(
                f"{f'{network.depth}x{network.width}':>7} {epochs:6} {num_actors:6} "
                f"{s.rollouts_per_update * PLIES_PER_ROLLOUT:12,} {out.timesteps_per_s:12,.0f} "
                f"{out.timesteps_per_s / bound(s):8.0%} {out.learner_busy:8.0%} "
                f"{out.actors_busy:6.0%} {out.driver_busy:6.1%} {out.bytes_in_per_s / 1e6:8.2f} "
                f"{out.bytes_out_per_s / 1e6:6.2f} {out.lag_mean:4.2f}"
            )
    if options.json:
        table = {"measured": MEASURED, "computed": COMPUTED, "rows": rows}
        options.json.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
