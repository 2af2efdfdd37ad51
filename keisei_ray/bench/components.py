"""Benchmarks of the components, each on one core; `learners` and `broadcast` use Ray."""

import random
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import ray
import torch
from rsshogi.core import Board

from keisei_ray.bench.measure import Figure, against_bare
from keisei_ray.bench.random_play import step_randomly
from keisei_ray.config.autosize import learner_cpus, resolve_auto
from keisei_ray.config.processor import has_bf16
from keisei_ray.config.schema import Config
from keisei_ray.distributed.cluster import Cluster, connect, learner_placement_group
from keisei_ray.distributed.learner_handle import LearnerHandle
from keisei_ray.learning.learner import Learner
from keisei_ray.network.cpu_process import prepare_cpu
from keisei_ray.network.listed_moves import list_moves
from keisei_ray.network.model import PolicyValueNet, build_model
from keisei_ray.network.weights import load_weights, pack_weights
from keisei_ray.players.policies import network_outputs
from keisei_ray.rollouts.packed_buffer import PackedBuffer
from keisei_ray.rollouts.packed_rollout import pack_rollout, unpack_rollout
from keisei_ray.rollouts.rollout import Rollout
from keisei_ray.search.search import Search
from keisei_ray.search.settings import SearchSettings
from keisei_ray.selfplay.self_play import SelfPlay
from keisei_ray.shogi.vector_games import VectorGames
from keisei_ray.telemetry.events import EventBus

SECONDS = 2.0
"""Duration of one measurement."""
ROUNDS = 7
"""Number of measurements, of which the median counts."""
ENV_BUDGET = 40_000
ACTOR_BUDGET = 0.90
LEARNER_BUDGET = 0.92
WIRE_BYTES_BUDGET = 40
WIRE_TIME_BUDGET = 0.03
SEARCHES = ((64, 1, 0.75), (1, 16, 0.60))
"""Trees, leaves of each in a pass, and the least share of plain forward passes."""
SEARCHED_SIMULATIONS = 3200
"""Simulations of one measured search, of all trees together."""
SHARED_ROLLOUTS = 8
"""Rollouts of an update that several learners share."""
WEIGHT_SHAPES = ((4, 64), (10, 128), (20, 256))


def env(config: Config) -> list[Figure]:
    """Measures random legal play in vectorized games; plain loop: the rules library in a loop."""
    prepare_cpu(1)
    num_games, max_plies = 64, config.self_play.max_plies
    games = VectorGames(
        num_games,
        max_plies=max_plies,
        rng_for_game=np.random.default_rng,
        random_opening_plies=config.self_play.random_opening_plies,
    )
    rng = np.random.default_rng(0)

    def real() -> int:
        for _ in range(32):
            games.legal_bits()
            step_randomly(games, rng)
        return 32 * num_games

    value, bare, ratio = against_bare(real, _bare_games(max_plies), seconds=SECONDS, rounds=ROUNDS)
    return [
        Figure("random legal play, one core", value, "plies/s", budget=ENV_BUDGET),
        Figure("the same over the bare rules library", value, "plies/s", bare, ratio),
    ]


def actor(config: Config) -> list[Figure]:
    """Measures self-play; plain loop: forward passes of the same network and batch size."""
    self_play, model = _self_play(config)
    report, packed = self_play.collect()
    rollout = unpack_rollout(packed)
    positions = [(rollout.boards[t], rollout.hands[t], rollout.scalars[t]) for t in range(8)]

    def real() -> int:
        return self_play.collect()[0].header.timesteps

    def bare() -> int:
        for position in positions:
            network_outputs(model, *position)
        return len(positions) * report.header.N

    value, bare_rate, ratio = against_bare(real, bare, seconds=SECONDS, rounds=ROUNDS)
    what = f"self-play {network_shape(config)}, N = {report.header.N}, one core"
    return [Figure(what, value, "plies/s", bare_rate, ratio, ACTOR_BUDGET)]


def search(config: Config) -> list[Figure]:
    """Measures simulations of a search; plain loop: forward passes of the same batch size.

    Once with 64 trees that add a leaf each to a pass, as in a match, and once with a single tree
    that adds 16.
    """
    settings = single_thread(config)
    prepare_cpu(1)
    model = build_model(config.model, seed=config.run.seed, amp=settings.self_play.amp).eval()
    return [_searching(model, trees, leaves, budget) for trees, leaves, budget in SEARCHES]


def _searching(model: PolicyValueNet, trees: int, leaves: int, budget: float) -> Figure:
    """Measures searches of new positions with so many trees and leaves of each in a pass."""
    games = VectorGames(
        trees,
        max_plies=512,
        rng_for_game=lambda index: np.random.default_rng(index),
        random_opening_plies=40,
    )
    positions = (games.boards, games.hands, games.scalars)
    batch = tuple(np.resize(part, (trees * leaves, part.shape[1])) for part in positions)
    slots = range(trees)

    def real() -> int:
        found = Search(
            lambda boards, hands, scalars: network_outputs(model, boards, hands, scalars),
            SearchSettings(SEARCHED_SIMULATIONS // trees, leaves_per_step=leaves),
        )
        found.start([games.game(lane) for lane in slots])
        found.run(slots)
        return sum(found.num_visits(slot) for slot in slots)

    def bare() -> int:
        network_outputs(model, *batch)
        return trees * leaves

    value, bare_rate, ratio = against_bare(real, bare, seconds=SECONDS, rounds=ROUNDS)
    what = f"search {model.config.depth}x{model.config.width}, {trees} trees x {leaves}, one core"
    return Figure(what, value, "simulations/s", bare_rate, ratio, budget)


def learner(config: Config) -> list[Figure]:
    """Measures PPO updates; plain loop: forward and backward passes, in batches of two sizes."""
    values = single_thread(config).model_dump()
    values["schedule"].update(mode="overlap", rollouts_per_update=1)
    values["learner"].update(num_epochs=1)
    config = Config.model_validate(values)
    self_play, _ = _self_play(config)
    packed = self_play.collect()[1]
    subject = Learner(config)

    def real() -> int:
        subject.weights_version = 0  # So that the same rollout has a lag of 0 again.
        subject.update([packed], 0)
        return config.timesteps_per_update

    figures = []
    minibatch = config.timesteps_per_update // config.learner.num_minibatches
    for size in (minibatch, 1024):
        bare = bare_backward(config, unpack_rollout(packed), size)
        value, bare_rate, ratio = against_bare(real, bare, seconds=SECONDS, rounds=ROUNDS)
        what = f"PPO {network_shape(config)}, one core, bare loop in batches of {size}"
        figures.append(Figure(what, value, "samples/s", bare_rate, ratio, LEARNER_BUDGET))
    return figures


def learners(config: Config) -> list[Figure]:
    """Measures PPO updates by several learners; plain loop: the same updates by one.

    Each is on a GPU of its own where the cluster has two or more, else on a core.
    """
    self_play, _ = _self_play(config)
    rollout = unpack_rollout(self_play.collect()[1])
    header = rollout.header
    # One for each update, so that none has a policy lag.
    packed = [
        pack_rollout(rollout.with_header(replace(header, weights_version=version)), zstd_level=1)
        for version in range(ROUNDS + 1)
    ]
    with connect(config) as cluster:
        where, most = ("GPU", cluster.num_gpus) if cluster.num_gpus > 1 else ("core", 2)
        rates = {
            number: _rate_of_learners(config, number, cluster, packed)
            for number in (1, 2, 4, 8)
            if number <= most
        }
    shape = f"{config.model.depth}x{config.model.width}"
    return [
        Figure(f"PPO {shape}, learners with a {where} each: {number}", rate, "samples/s", rates[1],
               rate / rates[1])
        for number, rate in rates.items()
    ]  # fmt: skip


def _rate_of_learners(
    config: Config, number: int, cluster: Cluster, packed: Sequence[PackedBuffer]
) -> float:
    """Returns the samples/s of updates of `SHARED_ROLLOUTS`: the median over all but the first.

    Args:
        config: settings to measure.
        number: learners that make each update together.
        cluster: where they are started.
        packed: a rollout for each update, of which the update has so many copies.
    """
    values = config.model_dump()
    device = "cuda" if cluster.num_gpus > 1 else "cpu"
    values["learner"].update(
        device=device, num_gpus=None, num_threads=1, num_learners=number, num_epochs=1,
        target_kl=None,
    )  # fmt: skip
    values["self_play"].update(device="cpu")
    values["schedule"].update(mode="overlap", rollouts_per_update=SHARED_ROLLOUTS)
    config = resolve_auto(
        Config.model_validate(values), cluster.num_cpus, cluster.num_gpus, has_bf16=has_bf16()
    )
    handle = LearnerHandle(
        config,
        EventBus(),
        num_cpus=learner_cpus(config, cluster.num_cpus),
        reserve=lambda: learner_placement_group(config, cluster),
        should_stop=lambda: False,
        clock=time.monotonic,
    )
    handle.launch(0, None)
    seconds = []
    for rollouts in ([ray.put(one)] * SHARED_ROLLOUTS for one in packed):
        started = time.perf_counter()
        update = handle.update(0, rollouts)
        for take in (handle.take_report, handle.take_version):
            while update.missing:
                [ref], _ = ray.wait(list(update.missing))
                update.missing.remove(ref)
            take(update)
        seconds.append(time.perf_counter() - started)
    handle.dismiss()
    return config.timesteps_per_update / statistics.median(seconds[1:])


def wire(config: Config) -> list[Figure]:
    """Measures packed rollouts of self-play at T = N = 64: bytes and time."""
    config = config.model_copy(
        update={
            "self_play": config.self_play.model_copy(
                update={"rollout_length": 64, "games_per_actor": 64}
            )
        }
    )
    self_play, _ = _self_play(config)
    report, packed = self_play.collect()
    for _ in range(3):  # Beyond the openings, to positions of all phases.
        report, packed = self_play.collect()
    rollout: Rollout = unpack_rollout(packed)
    plies = report.header.timesteps
    pack_s = _seconds(lambda: pack_rollout(rollout, zstd_level=config.wire.zstd_level))
    unpack_s = _seconds(lambda: unpack_rollout(packed))
    share = (pack_s + unpack_s) / report.collect_time_s
    return [
        Figure("raw", report.raw_bytes / plies, "bytes/ply"),
        Figure(
            "packed", report.wire_bytes / plies, "bytes/ply",
            budget=WIRE_BYTES_BUDGET, budget_is="at most",
        ),
        Figure("packing", pack_s / plies * 1e6, "us/ply"),
        Figure("unpacking", unpack_s / plies * 1e6, "us/ply"),
        Figure(
            f"both, share of producing it {network_shape(config)}", share, "",
            budget=WIRE_TIME_BUDGET, budget_is="at most",
        ),
    ]  # fmt: skip


def broadcast(config: Config) -> list[Figure]:
    """Measures published weights: bytes, packing time, and the way through the object store."""
    figures = []
    with connect(config):
        for depth, width in WEIGHT_SHAPES:
            shape = config.model.model_copy(update={"depth": depth, "width": width})
            model = build_model(shape, seed=0)
            for parameter in model.parameters():  # As if trained: no weight is zero.
                torch.nn.init.normal_(parameter, std=0.05)
            num_bytes = 4 * sum(p.numel() for p in model.parameters())
            for weights_format in ("lossless", "half"):
                figures += _published(model, weights_format, num_bytes, config.wire.zstd_level)
    return figures


def _published(
    model: PolicyValueNet, weights_format: str, num_bytes: int, zstd_level: int
) -> list[Figure]:
    def pack() -> np.ndarray[tuple[int], np.dtype[np.uint8]]:
        return pack_weights(
            model, 1, weights_format="half" if weights_format == "half" else "lossless",
            zstd_level=zstd_level,
        )  # fmt: skip

    packed = pack()
    name = f"{model.config.depth}x{model.config.width} {weights_format}"
    reference = ray.put(packed)
    return [
        Figure(f"{name}: packed", packed.nbytes / 1e6, "MB", num_bytes / 1e6,
               packed.nbytes / num_bytes),
        Figure(f"{name}: packing", 1e3 * _seconds(pack), "ms"),
        Figure(f"{name}: unpacking", 1e3 * _seconds(lambda: load_weights(model, packed)), "ms"),
        Figure(f"{name}: put into the store", 1e3 * _seconds(lambda: ray.put(packed)), "ms"),
        Figure(f"{name}: get from the store", 1e3 * _seconds(lambda: ray.get(reference)), "ms"),
    ]  # fmt: skip


def single_thread(config: Config) -> Config:
    """Returns a configuration for one CPU core, with every epoch run, validated as a whole."""
    values = config.model_dump()
    values["learner"].update(device="cpu", num_threads=1, target_kl=None)
    single = Config.model_validate(values)
    return resolve_auto(single, num_cpus=1, num_gpus=0, has_bf16=has_bf16())


def bare_backward(config: Config, rollout: Rollout, size: int) -> Callable[[], int]:
    """Returns a loop of forward pass, plain loss and backward pass: no PPO, no optimizer.

    The policy's logits are those of the legal moves, as the learner's on a CPU.

    Args:
        config: settings of the network and its precision.
        rollout: source of the rows.
        size: rows in a batch.
    """
    prepare_cpu(1)
    model = build_model(config.model, seed=0, amp=config.learner.amp)
    rows = np.arange(size) % rollout.header.timesteps
    boards, hands, scalars, legal_bits = (
        torch.from_numpy(field.reshape(rollout.header.timesteps, -1)[rows])
        for field in (rollout.boards, rollout.hands, rollout.scalars, rollout.legal_bits)
    )
    moves = list_moves(legal_bits)

    def loop() -> int:
        model.zero_grad(set_to_none=True)
        logits, outcomes = model(boards, hands, scalars, moves)
        torch.autograd.backward(logits.logsumexp(0) + outcomes.square().mean())
        return size

    return loop


def _self_play(config: Config) -> tuple[SelfPlay, PolicyValueNet]:
    """Returns self-play on one core with initial weights, and a network for the plain loop."""
    config = single_thread(config)
    model = build_model(config.model, seed=config.run.seed, amp=config.self_play.amp)
    self_play = SelfPlay(config, actor_id=0, incarnation=0)
    self_play.set_weights(pack_weights(model, 0, weights_format="lossless", zstd_level=1))
    return self_play, model


def _bare_games(max_plies: int) -> Callable[[], int]:
    """Returns a loop of random games with the rules library alone: it only makes legal moves."""
    rng = random.Random(0)

    def loop() -> int:
        board = Board()
        for ply in range(max_plies):
            moves = board.legal_moves()
            if not moves:
                return ply or 1
            board.apply_move(moves[int(rng.random() * len(moves))])
        return max_plies

    return loop


def _seconds(call: Callable[[], object]) -> float:
    """Returns the least wall time of several calls."""
    times = []
    for _ in range(7):
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return min(times)


def network_shape(config: Config) -> str:
    """Returns the size of the network, and the precision if it is not float32."""
    amp = single_thread(config).self_play.amp
    return f"{config.model.depth}x{config.model.width}" + ("" if amp == "off" else f" {amp}")
