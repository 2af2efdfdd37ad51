"""Benchmark of a whole training run against the ideal of its plain loops on all cores."""

import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from keisei_ray.bench.components import bare_backward, network_shape, single_thread
from keisei_ray.bench.measure import Figure, rate
from keisei_ray.bench.random_play import step_randomly
from keisei_ray.config.autosize import resolve_auto
from keisei_ray.config.schema import Config
from keisei_ray.network.model import build_model
from keisei_ray.network.weights import pack_weights
from keisei_ray.players.policies import network_outputs
from keisei_ray.rollouts.packed_rollout import unpack_rollout
from keisei_ray.selfplay.self_play import SelfPlay
from keisei_ray.shogi.vector_games import VectorGames
from keisei_ray.storage.json_lines import JsonLinesReader
from keisei_ray.storage.run_layout import CONFIG_FILE, DIAGNOSTICS_FILE, METRICS_FILE
from keisei_ray.training.session import train as run_training

BUDGETS = {(4, 64): 0.90, (1, 32): 0.80}
"""(depth, width) of a network -> least ratio over the ideal."""
WARM_UP_UPDATES = 2
MEASURED_SECONDS = 60.0
"""Approximate duration of the training run after its warm-up."""
BARE_SECONDS = 4.0
"""Duration of the measurement of a plain loop."""


def train(config: Config) -> list[Figure]:
    """Measures timesteps a second of a real run, and the ideal that follows from three plain loops.

        ideal = cores / (1 / env + 1 / forward + epochs / backward)

    with the rates of random legal play, forward passes and backward passes on one core. They are
    measured just before and just after the run, and their mean counts. All cores together do a
    little less than each of them alone, so the ratio is a little too low. The stages say where the
    time of all cores went.
    """
    model = config.model
    before = _ideal(config)
    measured = run_for(MEASURED_SECONDS, config, before)
    ideal = (before + _ideal(config)) / 2
    shape = f"{network_shape(config)}, {config.learner.num_epochs} epochs"
    budget = BUDGETS.get((model.depth, model.width))
    return [
        Figure(
            f"training {shape}, all cores", measured.sps, "timesteps/s",
            ideal, measured.sps / ideal, budget,
        ),
        *[Figure(f"  {stage}", share, "of all cores") for stage, share in measured.stages.items()],
        Figure(
            "driver's own CPU, share of one core", measured.driver_share, "",
            budget=0.03, budget_is="at most",
        ),
    ]  # fmt: skip


def stage_shares(
    metrics: Sequence[Mapping[str, Any]],
    diagnostics: Sequence[Mapping[str, Any]],
    config: Config,
    cores: int,
) -> dict[str, float]:
    """Computes what the cores did, as shares of their time, which add up to 1.

    A stage counts as many cores as it has threads. "idle" is the rest: what waits, what starts and
    ends a stage, Ray and the driver. Stages are timed by the clock, so where more threads run than
    there are cores, as in overlap on few cores, they add up to more and "idle" is too small.

    Args:
        metrics: records of the updates, after one whose end is where the time begins.
        diagnostics: records of the same updates.
        config: the effective settings.
        cores: cores of the machine.
    """
    plies_per_rollout = config.timesteps_per_rollout
    threads = config.learner.num_threads or 1
    rollouts = [float(record["batch_timesteps"]) / plies_per_rollout for record in metrics[1:]]
    updates = diagnostics[1:]

    def acting(name: str) -> float:
        return sum(n * float(found[name]) for n, found in zip(rollouts, updates, strict=True))

    def learning(name: str) -> float:
        return sum(float(found[name]) for found in updates)

    seconds = {
        "games: rules, legal moves, mates in one": acting("env_time_s"),
        "opponents' moves": acting("opponents_time_s"),
        "forward passes of self-play": acting("forward_time_s"),
        "sampling moves": acting("sample_time_s"),
        "packing": acting("pack_time_s"),
        "unpacking": learning("unpack_time_s"),
        "advantages": learning("advantages_time_s"),
        "gradients": threads * learning("gradients_time_s"),
        "optimizer": learning("optimizer_time_s"),
        "publishing": sum(float(record["publish_time_s"]) for record in metrics[1:]),
    }
    whole = cores * (metrics[-1]["wall_time_s"] - metrics[0]["wall_time_s"])
    shares = {stage: spent / whole for stage, spent in seconds.items()}
    return shares | {"idle": 1 - sum(shares.values())}


def _ideal(config: Config) -> float:
    """Returns the timesteps a second that the plain loops would give on all cores."""
    single = single_thread(config)
    network = build_model(single.model, seed=1, amp=single.self_play.amp)
    self_play = SelfPlay(single, actor_id=0, incarnation=0)
    self_play.set_weights(pack_weights(network, 0, weights_format="lossless", zstd_level=1))
    rollout = unpack_rollout(self_play.collect()[1])
    num_games = rollout.header.N
    position = (rollout.boards[0], rollout.hands[0], rollout.scalars[0])
    games = VectorGames(num_games, max_plies=320, rng_for_game=np.random.default_rng)
    rng = np.random.default_rng(0)

    def play() -> int:
        return step_randomly(games, rng)

    def forward() -> int:
        network_outputs(network, *position)
        return num_games

    minibatch = single.timesteps_per_update // single.learner.num_minibatches
    backward = rate(bare_backward(single, rollout, minibatch), BARE_SECONDS)
    seconds = (
        1 / rate(play, 1.0) + 1 / rate(forward, BARE_SECONDS) + single.learner.num_epochs / backward
    )
    return (os.cpu_count() or 1) / seconds


@dataclass(frozen=True)
class Measured:
    """Figures of one training run after its warm-up."""

    sps: float
    """Timesteps a second."""
    driver_share: float
    """CPU time of the driver's process as a share of one core."""
    stages: Mapping[str, float]
    """Stage -> share of the time of all cores."""


def run_for(seconds: float, config: Config, expected: float, *, num_gpus: int = 0) -> Measured:
    """Trains in the real program, beyond its warm-up, for about that long.

    Args:
        seconds: approximate duration after the warm-up.
        config: settings of the run.
        expected: timesteps a second that are expected of it.
        num_gpus: GPUs of this machine.
    """
    values = config.model_dump()
    values["learner"]["target_kl"] = None
    values["tracking"]["view"] = "none"
    values["evaluation"]["interval_timesteps"] = None
    cpus = os.cpu_count() or 1
    resolved = resolve_auto(Config.model_validate(values), num_cpus=cpus, num_gpus=num_gpus)
    per_update = resolved.timesteps_per_update
    measured = max(3, round(seconds * expected / per_update))
    values["run"]["total_timesteps"] = per_update * (WARM_UP_UPDATES + measured)
    values["checkpoint"]["interval_timesteps"] = values["run"]["total_timesteps"]
    with tempfile.TemporaryDirectory() as scratch:
        values["run"]["run_dir"] = str(Path(scratch) / "run")
        cpu_before = os.times()
        outcome = run_training(Config.model_validate(values), Console(quiet=True))
        cpu_after = os.times()
        records = list(JsonLinesReader(outcome.run_dir / METRICS_FILE))
        found = list(JsonLinesReader(outcome.run_dir / DIAGNOSTICS_FILE))
        effective = (outcome.run_dir / CONFIG_FILE).read_text(encoding="utf-8")
    records, found = records[WARM_UP_UPDATES - 1 :], found[WARM_UP_UPDATES - 1 :]
    first, last = records[0], records[-1]
    plies = last["timestep"] - first["timestep"]
    cpu_s = cpu_after.user + cpu_after.system - cpu_before.user - cpu_before.system
    return Measured(
        plies / (last["wall_time_s"] - first["wall_time_s"]),
        cpu_s / last["wall_time_s"],
        stage_shares(records, found, Config.model_validate_json(effective), cpus),
    )
