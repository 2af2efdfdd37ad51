"""Speed of one network on a device: acting, self-play and learning, each against a plain loop.

Used by `bench gpu`. Everything runs in this process; `train_on` also starts Ray.
"""

import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import Final

import numpy as np
import torch

from keisei_ray.bench.device_loops import (
    PASSES_PER_CALL,
    Loop,
    captured,
    count_flops,
    device_name,
    forward_pass,
    learning_step,
    network_inputs,
    nominal_flops,
    peak_memory_bytes,
    random_games,
    repeated,
    reset_peak_memory,
    trained_network,
)
from keisei_ray.bench.end_to_end import run_for
from keisei_ray.bench.gpu_checks import shape_of
from keisei_ray.bench.measure import Figure, against_bare, rate
from keisei_ray.bench.random_play import step_randomly
from keisei_ray.config.autosize import resolve_auto
from keisei_ray.config.schema import Config
from keisei_ray.learning.learner import Learner
from keisei_ray.network.model import PolicyValueNet
from keisei_ray.network.weights import pack_weights
from keisei_ray.players.acting import DeviceActingNetwork
from keisei_ray.rollouts.packed_buffer import PackedBuffer
from keisei_ray.selfplay.self_play import SelfPlay
from keisei_ray.telemetry.reports import CollectStages, UpdateStages

ACTING_BUDGET: Final = 0.80
LEARNING_BUDGET: Final = 0.85
TRAINING_BUDGET: Final = 0.75
PEAK_BUDGETS: Final = {(20, 256): 0.40}
"""(depth, width) of a network -> least share of the measured peak in learning."""
COMPILE_S_PER_BLOCK: Final = 1.0
"""Seconds that torch takes to compile a residual block: 10 to 12 s for a 10x128 (H200, torch 2.11).
"""
MIB: Final = 2**20


@dataclass(frozen=True)
class Sizes:
    """Sizes of what is measured; the defaults are for a data-center GPU."""

    rows: tuple[int, ...] = (256, 1024)
    """Positions of a batch when acting."""
    games: int = 512
    """Games of self-play in one process."""
    plies: int = 64
    """Plies of each game in a rollout."""
    minibatch: int = 2048
    """Rows of an optimizer step."""
    num_minibatches: int = 32
    """Optimizer steps of a measured update; together a whole number of rollouts."""
    matmul: int = 8192
    """Rows and columns of the matrices by whose product the peak is measured."""
    draws: int = 16_384
    """Sampled moves for each position by which sampling is checked."""
    seconds: float = 0.4
    """Duration of one measurement."""
    rounds: int = 3
    """Number of measurements, of which the median counts."""
    actors: int = 6
    """Self-play actors of the run with Ray."""
    games_per_actor: int = 256
    """Games of each of them."""
    run_seconds: float = 15.0
    """Approximate duration of that run after its warm-up."""


@dataclass
class Subject:
    """One network on one device, and the time that is left to compile it."""

    config: Config
    """Settings for one process, with every choice made; see `one_process`."""
    sizes: Sizes
    device: torch.device
    peak: float
    """Operations a second that the device does in a product of matrices."""
    compile_left_s: float
    """Seconds that compiling plain loops may still take."""
    say: Callable[[str], object]
    """Prints a line."""

    @property
    def shape(self) -> str:
        """Returns the network's size in words."""
        return shape_of(self.config.model)

    def network(self) -> PolicyValueNet:
        """Builds the network on the device."""
        model = trained_network(self.config.model, amp=self.config.learner.amp)
        return model.to(self.device)


def one_process(
    config: Config, network: tuple[int, int], device: torch.device, sizes: Sizes, amp: str = "bf16"
) -> Config:
    """Returns settings of self-play and learning in this process, with every choice made.

    An update has minibatches of the preset's size and no KL stop.

    Args:
        config: all other settings.
        network: depth and width.
        device: where both run.
        sizes: of games, rollouts and minibatches.
        amp: precision of both.
    """
    values = config.model_dump()
    values["model"].update(depth=network[0], width=network[1])
    values["self_play"].update(
        num_actors=1,
        games_per_actor=sizes.games,
        rollout_length=sizes.plies,
        device=device.type,
        amp=amp,
    )
    values["learner"].update(
        device=device.type,
        amp=amp,
        learning_rate=1e-5,  # The same rollout may be learned from hundreds of times.
        num_minibatches=sizes.num_minibatches,
        num_threads=1,
        num_learners=1,
        target_kl=None,
    )
    rollouts = sizes.minibatch * sizes.num_minibatches // (sizes.games * sizes.plies)
    values["schedule"].update(mode="overlap", rollouts_per_update=rollouts)
    values["pool"].update(share=0.0)
    values["evaluation"].update(interval_timesteps=None)
    return resolve_auto(Config.model_validate(values), num_cpus=2, num_gpus=1)


def measure_acting(subject: Subject) -> tuple[list[Figure], float]:
    """Measures acting networks on games that stand still, two batches at a time as in self-play.

    Returns:
        Figures, and positions a second of the fastest plain loop of forward passes.
    """
    device, sizes = subject.device, subject.sizes
    figures, best = list[Figure](), 0.0
    flops, _ = count_flops(subject.config.model)
    for rows in sizes.rows:
        reset_peak_memory(device)
        real = acting_loop(subject.network().eval(), rows, device)
        real()
        used = memory(subject)
        forward = partial(forward_pass, inputs=network_inputs(random_games(rows), device))
        bare, notes = fastest(forward, rows, subject, compiles=rows == sizes.rows[-1])
        value, bare_rate, ratio = against_bare(
            real, bare, seconds=sizes.seconds, rounds=sizes.rounds
        )
        best = max(best, bare_rate)
        figures += [
            Figure(
                f"acting, batches of {rows}", value, "positions/s", bare_rate, ratio, ACTING_BUDGET
            ),
            *notes,
            *shares(value, flops, subject, None),
            used,
        ]
    return figures, best


def acting_loop(model: PolicyValueNet, rows: int, device: torch.device) -> Loop:
    """Returns a loop in which two acting networks choose moves, one while the other is asked."""
    games = [random_games(rows, seed=seed) for seed in range(2)]
    acting = [DeviceActingNetwork(model, rows) for _ in games]
    lanes, uniforms = np.arange(rows), np.random.default_rng(0).random(rows)

    def loop() -> int:
        for group, network in zip(games, acting, strict=True):
            network.begin(group, lanes, uniforms)
        for _ in range(PASSES_PER_CALL - 1):
            for group, network in zip(games, acting, strict=True):
                network.finish()
                network.begin(group, lanes, uniforms)
        for network in acting:
            network.finish()
        return PASSES_PER_CALL * len(games) * rows

    return loop


def measure_self_play(subject: Subject, forward: float) -> tuple[list[Figure], PackedBuffer]:
    """Measures self-play of one process; the least of games alone and forward passes is its ideal.

    Args:
        subject: the network.
        forward: positions a second of a plain loop of forward passes.

    Returns:
        Figures, and the last rollout.
    """
    config, sizes = subject.config, subject.sizes
    reset_peak_memory(subject.device)
    self_play = SelfPlay(config, actor_id=0, incarnation=0)
    weights = pack_weights(subject.network(), 0, weights_format="lossless", zstd_level=1)
    self_play.set_weights(weights)
    self_play.collect()
    reports = []

    def collect() -> int:
        report, packed = self_play.collect()
        reports.append((report, packed))
        return report.header.timesteps

    games, rng = random_games(sizes.games), np.random.default_rng(0)

    def play() -> int:
        return step_randomly(games, rng)

    ideal = min(forward, rate(play, sizes.seconds))
    plies = statistics.median(rate(collect, sizes.seconds) for _ in range(sizes.rounds))
    report, packed = reports[-1]
    what = f"self-play, {sizes.games} games, one process"
    figures = [Figure(what, plies, "plies/s", ideal, plies / ideal)]
    return [*figures, *stages(report.stages, report.collect_time_s), memory(subject)], packed


def stages(seconds: CollectStages | UpdateStages, whole_s: float) -> list[Figure]:
    """Returns the share of the time that each stage took."""
    return [
        Figure(f"  {stage.removesuffix('_time_s')}", spent / whole_s, "of the time")
        for stage, spent in asdict(seconds).items()
    ]


def measure_learning(subject: Subject, packed: PackedBuffer) -> tuple[list[Figure], float]:
    """Measures whole updates of the learner against training steps without PPO and checks.

    Args:
        subject: the network.
        packed: the rollout from which every update is made, as often as an update needs it.

    Returns:
        Figures, and samples a second of the fastest plain loop.
    """
    config, sizes = subject.config, subject.sizes
    reset_peak_memory(subject.device)
    learner = Learner(config)
    rollouts = [packed] * (config.schedule.rollouts_per_update or 1)
    reports = []

    def update() -> int:
        learner.weights_version = 0  # So that the same rollouts have a lag of 0 again.
        reports.append(learner.update(rollouts, 0))
        return config.timesteps_per_update * config.learner.num_epochs

    update()
    used = memory(subject)
    subject.say(f"  {rate(update, sizes.seconds):,.0f} samples/s; now the plain loops")
    inputs = network_inputs(random_games(sizes.minibatch), subject.device)
    step = partial(learning_step, inputs=inputs)
    bare, notes = fastest(step, sizes.minibatch, subject, compiles=True)
    value, bare_rate, ratio = against_bare(update, bare, seconds=sizes.seconds, rounds=sizes.rounds)
    epochs = config.learner.num_epochs
    what = f"learning, minibatches of {sizes.minibatch}, {epochs} epochs"
    report = reports[-1]
    budget = PEAK_BUDGETS.get((config.model.depth, config.model.width))
    return [
        Figure(what, value, "samples/s", bare_rate, ratio, LEARNING_BUDGET),
        *notes,
        *stages(report.stages, report.update_time_s),
        *shares(value, count_flops(config.model)[1], subject, budget),
        used,
    ], bare_rate


def train_on(subject: Subject, forward: float, learning: float) -> list[Figure]:
    """Measures a real training run with Ray, with self-play and learner on the same device.

    Args:
        subject: the network.
        forward: positions a second of a plain loop of forward passes.
        learning: samples a second of a plain loop of training steps.
    """
    config, sizes = subject.config, subject.sizes
    values = config.model_dump()
    values["self_play"].update(
        num_actors=sizes.actors, games_per_actor=sizes.games_per_actor, num_gpus=None
    )
    timesteps = sizes.actors * sizes.games_per_actor * sizes.plies
    epochs = config.learner.num_epochs
    values["learner"].update(
        num_minibatches=max(1, timesteps // sizes.minibatch),
        num_threads=None,
        num_gpus=None,
    )
    values["schedule"].update(rollouts_per_update=sizes.actors)
    values["cluster"].update(address="local", num_gpus=1)  # The ideal is of one.
    games, rng = random_games(sizes.games_per_actor), np.random.default_rng(0)

    def play() -> int:
        return step_randomly(games, rng)

    env = rate(play, sizes.seconds)
    ideal = ideal_rate(
        env=env, actors=sizes.actors, forward=forward, learning=learning, epochs=epochs
    )
    measured = run_for(
        sizes.run_seconds,
        Config.model_validate(values),
        ideal / 2,
        num_gpus=1,
    )
    what = f"training {subject.shape}, {sizes.actors} actors, {epochs} epochs"
    return [
        Figure(what, measured.sps, "timesteps/s", ideal, measured.sps / ideal, TRAINING_BUDGET),
        *[Figure(f"  {stage}", share, "of all cores") for stage, share in measured.stages.items()],
    ]


def ideal_rate(*, env: float, actors: int, forward: float, learning: float, epochs: int) -> float:
    """Computes the timesteps a second of a run on one GPU if its plain loops were all it did.

    The GPU acts and learns in turn; beside it, the actors' cores play the games:

        min(actors * env, 1 / (1 / forward + epochs / learning))

    Args:
        env: plies a second of games on one core.
        actors: cores that play.
        forward: positions a second of forward passes.
        learning: samples a second of training steps.
        epochs: passes over each sample.
    """
    return min(actors * env, 1 / (1 / forward + epochs / learning))


def fastest(
    work_of: Callable[[PolicyValueNet], Callable[[], object]],
    rows: int,
    subject: Subject,
    *,
    compiles: bool,
) -> tuple[Loop, list[Figure]]:
    """Returns the fastest plain loop of several that do the same, and the rate of each.

    Args:
        work_of: makes the work of a loop with a network.
        rows: rows that it works on.
        subject: the network; the time that compiling takes is taken off what it has left.
        compiles: whether one of them may be compiled.
    """
    variants = {"eager": work_of(subject.network())}
    compiled: PolicyValueNet | None = None
    if compiles and subject.compile_left_s >= COMPILE_S_PER_BLOCK * subject.config.model.depth:
        compiled = subject.network()
        compiled.compile(dynamic=False)
    try:
        if subject.device.type == "cuda":
            variants["graph"] = captured(work_of(subject.network()))
        if compiled is not None:
            started = time.perf_counter()
            work = work_of(compiled)
            work()  # Compiles.
            subject.compile_left_s -= time.perf_counter() - started
            variants["compiled"] = work
            if subject.device.type == "cuda":
                variants["compiled, graph"] = captured(work)
    except RuntimeError as error:  # Base of whatever torch raises in compiling and capturing.
        subject.say(f"  only {', '.join(variants)}: {str(error).splitlines()[0]}")
    loops = {name: repeated(work, rows, subject.device) for name, work in variants.items()}
    rates = {}
    for name, loop in loops.items():
        loop()
        rates[name] = rate(loop, subject.sizes.seconds)
    notes = [Figure(f"  plain loop, {name}", found, "rows/s") for name, found in rates.items()]
    return loops[max(rates, key=lambda name: rates[name])], notes


def shares(rows_per_s: float, flops: int, subject: Subject, budget: float | None) -> list[Figure]:
    """Returns the operations a second of some work, and their share of what the device can do.

    Args:
        rows_per_s: positions or samples a second.
        flops: operations of each.
        subject: knows the device's measured and nominal peak.
        budget: least share of the measured peak.
    """
    done, peak = rows_per_s * flops, subject.peak
    nominal = nominal_flops(device_name(subject.device))
    figures = [Figure("  operations", done / 1e12, "TFLOP/s", peak / 1e12, done / peak, budget)]
    if nominal is not None:
        figures.append(Figure("  over the data sheet's", done / nominal, ""))
    return figures


def memory(subject: Subject) -> Figure:
    """Returns the most memory of the device that tensors took since it was last watched."""
    return Figure("  memory on the device", peak_memory_bytes(subject.device) / MIB, "MiB")
