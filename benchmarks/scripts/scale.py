"""Simulation of a run on 10 to 10,000 cores, or on 1 to 64 GPUs, from measured figures.

    python benchmarks/scripts/scale.py [--lag L] [--json FILE]

A discrete-event simulation of the driver's loop (`keisei_ray/training/driver.py`): actors play
rollouts and send them over the network link of the learner's node, the driver handles them one by
one, the learner makes an update, its version is packed while the learner makes the next, and each
node pulls the new weights once. When a rollout is asked for and an update starts is decided by the
driver's own `training/admission.py`, with the real size of updates (`config/autosize.py`). There is
no Ray and no network in it; the same seed gives the same numbers.

MEASURED and GPU_RATES say where each figure comes from; what is not measured is in ASSUMED.
"""

import argparse
import heapq
import itertools
import json
import math
import random
from collections import deque
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path

from keisei_ray.config.autosize import RunSizes, choose_rollouts_per_update
from keisei_ray.config.schema import Config
from keisei_ray.training.admission import Admission

MEASURED = {
    # Name: (figure, source)
    "plies/s of an actor on one core, 4x64": (2402.0, "benchmarks/results/speed-2cpu-intel.json"),
    "learner samples/s on one core, 4x64": (1008.0, "benchmarks/results/speed-2cpu-intel.json"),
    "bytes of a ply, packed": (33.9, "benchmarks/results/speed-2cpu-intel.json"),
    "bytes of a parameter, packed": (3.75, "bench broadcast, 4x64: 1,260,922 for 336,225"),
    "packing weights and state, s for a parameter": (
        44e-9,
        "20x256: 0.6 + 0.45 s, one H200 with 16 cores of an Intel Xeon, torch 2.11, 2026-11-27; "
        "10x128: 0.13 s in a whole run there",
    ),
    "unpacking weights, s for a parameter": (17e-9, "benchmarks/SPEED.md, 20x256: 407 ms"),
    "driver's main thread, s for a rollout": (0.0015, "benchmarks/results/driver-load-2cpu.json"),
}


@dataclass(frozen=True)
class GpuRates:
    """Rates of one network on one GPU, in bf16."""

    acting: float
    """Positions a second, in batches of 512."""
    playing: float
    """Plies a second of one process that plays on the GPU: its core is the limit."""
    learning: float
    """Samples a second, in minibatches of 2,048."""


GPU_RATES = {
    (4, 64): GpuRates(acting=1.13e6, playing=51e3, learning=393e3),
    (10, 128): GpuRates(acting=391e3, playing=51e3, learning=233e3),
    (20, 256): GpuRates(acting=87e3, playing=44e3, learning=41.1e3),
}
"""One H200 with 16 cores of an Intel Xeon, torch 2.11. acting: benchmarks/results/
gpu-h200-loops.json, and playing: gpu-h200-bench.txt, 2026-11-26. learning: the learner alone, with
the KL stop, in updates of 49,152 plies and four epochs (10x128) and in two epochs (20x256),
2026-11-27. With 4x64 the learner was not measured: a plain loop of gpu-h200-loops.json; and a
process is taken to play as fast as with 10x128."""
ASSUMED = {
    "bytes/s between the GPUs of a node": (200e9, "NVLink, about half of its data sheet"),
    "bytes/s between nodes with GPUs": (25e9, "InfiniBand or Ethernet of 200 Gbit/s"),
}
GPUS_PER_NODE = 8
MAX_ACTORS_PER_GPU = 16
ROWS_PER_LEARNER = 2048
"""Rows of a minibatch in each learner."""
GPU_PLIES_PER_ROLLOUT = 32 * 256
PLIES_PER_ROLLOUT = 64 * 32
CORES_PER_NODE = 16
CORE_NODE_BYTES_PER_S = 10e9 / 8
"""Link of a node of cores, and of the learners' nodes there: 10 Gbit/s."""
SPARE = 1.15
"""Actors that are started over those that suffice on average."""
HOUR_S = 3600.0
ENDLESS = 10**15
"""Timesteps that are left of a run."""


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
    def gpu(self) -> GpuRates:
        """Returns its rates on a GPU."""
        return GPU_RATES[self.depth, self.width]

    @property
    def num_parameters(self) -> int:
        """Number of parameters without squeeze-excitation, 0 to 8% too many."""
        return 18 * self.depth * self.width**2 + 650 * self.width + 400 * 64


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
    plies_per_rollout: int = PLIES_PER_ROLLOUT
    actors_per_node: int = CORES_PER_NODE
    publish_s: float = 0.0
    """Time to pack weights and state of an update, beside the next update."""
    num_learners: int = 1
    learner_nodes: int = 1
    """Nodes among which the learners are spread; each receives its share of the rollouts."""
    num_updates: int = 12
    """Number of updates to simulate; the first third is not counted."""
    seed: int = 1

    @property
    def arrival_s(self) -> float:
        """Returns the time of the learners' links to receive a rollout."""
        return self.rollout_bytes / (self.bytes_per_s * self.learner_nodes)

    @property
    def sizes(self) -> RunSizes:
        """Returns them as the driver has them."""
        return RunSizes(
            num_cpus=self.num_actors,
            num_actors=self.num_actors,
            num_placeable=self.num_actors,
            rollouts_per_update=self.rollouts_per_update,
            max_unconsumed=self.rollouts_per_update * (self.max_policy_lag + 1),
        )


@dataclass
class Outcome:
    """Result of the counted part of a simulation."""

    timesteps_per_s: float
    learner_busy: float
    """Share of the time in which the learner is busy; likewise the next three."""
    packing_busy: float
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


@dataclass(frozen=True)
class Rollout:
    """A rollout from when it is asked for."""

    actor_id: int
    weights_version: int
    """Version of the weights that play it."""


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

    def busy_until(self, now: float) -> float:
        """Returns the seconds in which it was busy up to now."""
        return self.busy_s - max(0.0, self.free_at - now)


@dataclass
class World:
    """State of the simulation."""

    s: Setting
    rules: Admission[int, Rollout, Rollout]
    sizes: RunSizes
    now: float = 0.0
    version: int = 0
    """Version of the newest published weights."""
    is_learning: bool = False
    """Whether the learner makes the newest of the updates under way; else it has made all."""
    events: list[tuple[float, int, str, int]] = field(default_factory=list)
    order: "itertools.count[int]" = field(default_factory=itertools.count)
    idle: deque[int] = field(default_factory=deque)
    link_in: Queue = field(default_factory=Queue)
    link_out: Queue = field(default_factory=Queue)
    driver: Queue = field(default_factory=Queue)
    learner: Queue = field(default_factory=Queue)
    packing: Queue = field(default_factory=Queue)
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
    """Simulates until `num_updates` are published."""
    rng = random.Random(s.seed)
    rules: Admission[int, Rollout, Rollout] = Admission(
        max_lag=s.max_policy_lag,
        timesteps_per_rollout=s.plies_per_rollout,
        is_one_of_each_actor=False,
    )
    world = World(s, rules, s.sizes, idle=deque(range(s.num_actors)))
    marks: list[tuple[float, ...]] = []
    _start_what_can_start(world, rng)
    while world.version < s.num_updates:
        world.now, _, what, who = heapq.heappop(world.events)
        if what == "played":
            world.at(world.link_in.serve(world.now, s.arrival_s), "sent", who)
        elif what == "sent":
            world.at(world.driver.serve(world.now, s.driver_s), "arrived", who)
        elif what == "arrived":
            rules.deliver(rules.take(who))
            world.produced += 1
            world.idle.append(who)
        elif what == "lost":
            rules.take(who)
            world.lost += 1
            world.at(world.now + s.restart_s, "started", who)
        elif what == "started":
            world.idle.append(who)
        elif what == "made":
            world.is_learning = False
            world.at(world.packing.serve(world.now, s.publish_s), "published")
        elif what == "published":
            world.version += 1
            world.consumed += len(rules.publish_update())
            nodes = math.ceil(s.num_actors / s.actors_per_node)
            world.link_out.busy_s += nodes * s.weights_bytes / s.bytes_per_s
            # Ray's nodes pull from any node that has a copy: the number of copies doubles.
            hops = math.ceil(math.log2(nodes + 1))
            world.weights_at = world.now + hops * s.weights_bytes / s.bytes_per_s
            if world.version >= s.num_updates // 3:
                marks.append(_counters(world))
        _start_what_can_start(world, rng)
    return _outcome(world, marks[0], marks[-1])


def _start_what_can_start(world: World, rng: random.Random) -> None:
    """Asks for rollouts, and starts an update if the learner is idle, as far as the rules allow."""
    s, rules = world.s, world.rules
    while world.idle and rules.may_ask(world.sizes, ENDLESS):
        actor = world.idle.popleft()
        rules.asked(actor, Rollout(actor, world.version))
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
    if world.is_learning:
        return
    learned = world.version + len(rules.updates)
    rollouts = rules.start_update(world.sizes, world.version)
    if rollouts:
        world.is_learning = True
        world.lags += [learned - rollout.weights_version for rollout in rollouts]
        world.at(world.learner.serve(world.now, s.update_s * len(rollouts)), "made")


def _counters(w: World) -> tuple[float, ...]:
    queues = w.learner, w.packing, w.driver, w.link_in, w.link_out
    return w.now, w.consumed, w.played_s, len(w.lags), *(q.busy_until(w.now) for q in queues)


def _outcome(w: World, first: tuple[float, ...], last: tuple[float, ...]) -> Outcome:
    wall_s, consumed, played_s, _, learner_s, packing_s, driver_s, in_s, out_s = (
        b - a for a, b in zip(first, last, strict=True)
    )
    lags = w.lags[int(first[3]) :]
    return Outcome(
        timesteps_per_s=consumed * w.s.plies_per_rollout / wall_s,
        learner_busy=learner_s / wall_s,
        packing_busy=packing_s / wall_s,
        actors_busy=played_s / wall_s / w.s.num_actors,
        driver_busy=driver_s / wall_s,
        bytes_in_per_s=in_s * w.s.bytes_per_s * w.s.learner_nodes / wall_s,
        bytes_out_per_s=out_s * w.s.bytes_per_s / wall_s,
        lag_mean=sum(lags) / len(lags),
        lag_max=max(lags),
        produced=w.produced,
        consumed=w.consumed,
        waiting=len(w.rules.delivered_or_updating()),
        lost=w.lost,
    )


def bound(s: Setting) -> float:
    """Returns timesteps a second by the tightest of six bottlenecks, if nothing else waits.

    The last is the round trip. A rollout is unconsumed from when it is asked for until its update
    is published, and at most R * (L + 1) are at a time.
    """
    per_update = s.rollouts_per_update
    round_trip_s = s.play_s + s.arrival_s + s.driver_s + per_update * s.update_s + s.publish_s
    rollouts_per_s = min(
        s.num_actors / s.play_s,
        1 / s.update_s,
        per_update / s.publish_s if s.publish_s else math.inf,
        1 / s.driver_s if s.driver_s else math.inf,
        1 / s.arrival_s,
        s.sizes.max_unconsumed / round_trip_s,
    )
    return rollouts_per_s * s.plies_per_rollout


def learner_rate(network: Network, num_learners: int) -> float:
    """Returns samples a second of several learners that add up their gradients in each step.

    Each works on ROWS_PER_LEARNER rows; then the gradients go around a ring, which no learner
    computes beside.
    """
    step_s = ROWS_PER_LEARNER / network.gpu.learning
    where = "nodes with GPUs" if num_learners > GPUS_PER_NODE else "the GPUs of a node"
    sent_bytes = 2 * (num_learners - 1) / num_learners * 4 * network.num_parameters
    ring_s = sent_bytes / ASSUMED[f"bytes/s between {where}"][0]
    return num_learners * ROWS_PER_LEARNER / (step_s + ring_s)


def cores_setting(num_cores: int, network: Network, *, epochs: int, num_learners: int) -> Setting:
    """Returns a run whose self-play is on cores, one actor each, and whose learners have GPUs.

    Other networks than 4x64 play slower in proportion to their operations.
    """
    size = network.forward_flop / Network(4, 64).forward_flop
    plies_per_s = MEASURED["plies/s of an actor on one core, 4x64"][0] / size
    return _setting(
        network,
        num_actors=num_cores,
        plies_per_s=plies_per_s,
        samples_per_s=learner_rate(network, num_learners) / epochs,
        plies_per_rollout=PLIES_PER_ROLLOUT,
        actors_per_node=CORES_PER_NODE,
        num_learners=num_learners,
        bytes_per_s=CORE_NODE_BYTES_PER_S,
    )


def gpus_setting(num_gpus: int, network: Network, *, epochs: int) -> Setting:
    """Returns a run whose self-play and learners have GPUs, divided so that it is fastest.

    A single GPU acts and learns in turn: what acting takes of its time is added to the update's.
    """
    gpu = network.gpu
    if num_gpus == 1:
        num_learners, most_actors = 1, MAX_ACTORS_PER_GPU
        rate = 1 / (1 / gpu.acting + epochs / gpu.learning)
    else:
        num_learners = max(
            range(1, num_gpus), key=partial(_divided_rate, num_gpus, network, epochs)
        )
        most_actors = (num_gpus - num_learners) * MAX_ACTORS_PER_GPU
        rate = learner_rate(network, num_learners) / epochs
    # An actor also unpacks the weights for each rollout.
    rollout_s = GPU_PLIES_PER_ROLLOUT / gpu.playing + _unpacking_s(network)
    busy = math.ceil(SPARE * rate * rollout_s / GPU_PLIES_PER_ROLLOUT)
    num_actors = min(most_actors, max(busy, num_learners))  # Each learner needs a rollout.
    playing = min(gpu.playing, gpu.acting * max(1, num_gpus - num_learners) / num_actors)
    num_nodes = math.ceil(num_gpus / GPUS_PER_NODE)
    return _setting(
        network,
        num_actors=num_actors,
        plies_per_s=playing,
        samples_per_s=rate,
        plies_per_rollout=GPU_PLIES_PER_ROLLOUT,
        actors_per_node=math.ceil(num_actors / num_nodes),
        num_learners=num_learners,
        bytes_per_s=ASSUMED["bytes/s between nodes with GPUs"][0],
    )


def _divided_rate(num_gpus: int, network: Network, epochs: int, num_learners: int) -> float:
    """Returns timesteps a second if so many of the GPUs learn and the others play."""
    players, gpu = num_gpus - num_learners, network.gpu
    playing = players * min(gpu.acting, MAX_ACTORS_PER_GPU * gpu.playing) / SPARE
    return min(playing, learner_rate(network, num_learners) / epochs)


def _unpacking_s(network: Network) -> float:
    """Returns the seconds in which an actor unpacks its weights."""
    return network.num_parameters * MEASURED["unpacking weights, s for a parameter"][0]


def _setting(
    network: Network,
    *,
    num_actors: int,
    plies_per_s: float,
    samples_per_s: float,
    plies_per_rollout: int,
    actors_per_node: int,
    num_learners: int,
    bytes_per_s: float,
) -> Setting:
    """Returns a run: R by the real rule, the driver's and the wire's costs from MEASURED."""
    return Setting(
        num_actors=num_actors,
        rollouts_per_update=max(num_learners, choose_rollouts_per_update(Config(), num_actors)),
        max_policy_lag=Config().schedule.max_policy_lag,
        play_s=plies_per_rollout / plies_per_s + _unpacking_s(network),
        update_s=plies_per_rollout / samples_per_s,
        driver_s=MEASURED["driver's main thread, s for a rollout"][0],
        rollout_bytes=plies_per_rollout * MEASURED["bytes of a ply, packed"][0],
        weights_bytes=network.num_parameters * MEASURED["bytes of a parameter, packed"][0],
        bytes_per_s=bytes_per_s,
        plies_per_rollout=plies_per_rollout,
        actors_per_node=actors_per_node,
        publish_s=network.num_parameters
        * MEASURED["packing weights and state, s for a parameter"][0],
        num_learners=num_learners,
        learner_nodes=math.ceil(num_learners / GPUS_PER_NODE),
    )


def runs(epochs: int) -> Iterator[tuple[str, Network, Setting]]:
    """Yields the hardware in words, the network and the run of each line of the table."""
    for depth, width in GPU_RATES:
        network = Network(depth, width)
        for num_cores in (10, 100, 1000, 10_000):
            for num_learners in (1, 8, 64):
                if num_learners == 1 or num_cores >= 1000:
                    yield (
                        f"{num_cores:,} cores, {num_learners} GPU",
                        network,
                        cores_setting(num_cores, network, epochs=epochs, num_learners=num_learners),
                    )
        for num_gpus in (1, 8, 64):
            yield f"{num_gpus} GPU", network, gpus_setting(num_gpus, network, epochs=epochs)


def main() -> None:
    """Prints a line for each network and cluster."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--epochs", type=int, nargs="+", default=[4, 1])
    parser.add_argument("--losses", type=float, default=0.05, help="losses of an actor per hour")
    parser.add_argument(
        "--lag",
        type=int,
        default=Config().schedule.max_policy_lag,
        help="largest policy lag; updates are as large as at the default",
    )
    parser.add_argument("--json", type=Path, help="file to which the table is also written")
    options = parser.parse_args()
    rows = []
    print(
        "network epochs               hardware learners actors  batch plies  timesteps/s of bound"
        "  learner packing actors driver  MB/s in    out  lag"
    )
    for epochs in options.epochs:
        for hardware, network, quiet in runs(epochs):
            s = replace(quiet, losses_per_actor_hour=options.losses, max_policy_lag=options.lag)
            out = simulate(s)
            rows.append(
                {
                    "hardware": hardware,
                    "network": f"{network.depth}x{network.width}",
                    "epochs": epochs,
                    "setting": asdict(s),
                    "outcome": asdict(out),
                    "bound": bound(s),
                }
            )
            print(
                f"{rows[-1]['network']:>7} {epochs:6} {hardware:>22} {s.num_learners:8} "
                f"{s.num_actors:6} {s.rollouts_per_update * s.plies_per_rollout:12,} "
                f"{out.timesteps_per_s:12,.0f} {out.timesteps_per_s / bound(s):8.0%} "
                f"{out.learner_busy:8.0%} {out.packing_busy:7.0%} "
                f"{out.actors_busy:6.0%} {out.driver_busy:6.1%} "
                f"{out.bytes_in_per_s / 1e6:8.2f} {out.bytes_out_per_s / 1e6:6.2f} "
                f"{out.lag_mean:4.2f}"
            )
    if options.json:
        rates = {f"{depth}x{width}": asdict(gpu) for (depth, width), gpu in GPU_RATES.items()}
        table = {"measured": MEASURED, "gpu_rates": rates, "assumed": ASSUMED, "rows": rows}
        options.json.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
