"""Checks of `bench gpu`: whether a device computes what the CPU computes in float32.

Each returns figures with a limit. TF32 is off where float32 is checked against float32.
"""

import contextlib
import copy
import math
from collections.abc import Iterator
from typing import Final

import numpy as np
import numpy.typing as npt
import torch

from keisei_ray.bench.device_loops import network_inputs, random_games, trained_network
from keisei_ray.bench.measure import Figure
from keisei_ray.config.schema import Config
from keisei_ray.config.sections import ModelConfig
from keisei_ray.learning.learner import Learner
from keisei_ray.network.model import (
    AMP_DTYPES,
    PolicyValueNet,
    legal_mask,
    masked_log_probs,
    outcome_values,
)
from keisei_ray.players.acting import DeviceActingNetwork
from keisei_ray.selfplay.self_play import SelfPlay
from keisei_ray.shogi.vector_games import VectorGames

CHECKED_GAMES = 32
"""Positions by which outputs are compared."""
PRECISION_NAMES: Final = {"off": "float32", "bf16": "bf16"}
LOG_PROB_LIMITS: Final = {"off": 1e-3, "bf16": 0.25}
"""Precision -> largest root mean square of the differences of log-probabilities over legal moves.
On a CPU bf16 gives 0.01 (4x64), 0.04 (10x128) and 0.10 (20x256)."""
VALUE_LIMITS: Final = {"off": 1e-4, "bf16": 0.01}
"""Precision -> largest difference of a value; on a CPU bf16 gives 0.0006."""
FIRST_RATIO_LIMITS: Final = {"off": 0.02, "bf16": 0.1}
"""Precision -> largest root mean square of the log ratio in the first minibatch. Batches of two
sizes may use two kernels, which round differently. With "off" both sides use TF32 on CUDA."""
SAMPLING_LIMIT = 5.0
"""Most standard deviations by which a chi-square may be above what chance makes it."""
FEWEST_EXPECTED = 5.0
"""Moves that are expected less often than this count as one in the chi-square."""


def check_outputs(config: ModelConfig, device: torch.device) -> list[Figure]:
    """Compares a network's outputs in float32 and bf16 on the device with the CPU's in float32."""
    games, model = random_games(CHECKED_GAMES), trained_network(config)
    log_probs, values, is_legal = _outputs(model, games, torch.device("cpu"))
    model.to(device)
    figures = []
    for amp in ("off", "bf16"):
        model.tower_dtype = AMP_DTYPES.get(amp)
        with full_float32():
            found, found_values, _ = _outputs(model, games, device)
        error = (found - log_probs)[is_legal].square().mean().sqrt().item()
        worst = (found_values - values).abs().max().item()
        name = f"{shape_of(config)} {PRECISION_NAMES[amp]}"
        figures += [
            limited(f"{name}: error of log-probs, rms", error, LOG_PROB_LIMITS[amp]),
            limited(f"{name}: error of values, largest", worst, VALUE_LIMITS[amp]),
        ]
    return figures


def _outputs(
    model: PolicyValueNet, games: VectorGames, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Masked log-probabilities, values and legal mask of all games, on the CPU."""
    with torch.no_grad():
        logits, outcomes = model(*network_inputs(games, device))
        mask = legal_mask(torch.from_numpy(games.legal_bits().copy()).to(device))
        log_probs = masked_log_probs(logits, mask)
    return log_probs.cpu(), outcome_values(outcomes)[0].cpu(), mask.cpu()


def check_sampling(config: ModelConfig, device: torch.device, num_draws: int) -> list[Figure]:
    """Draws moves of a few positions on the device and compares how often with the CPU's chances.

    Args:
        config: the network, which plays in float32.
        device: where it samples.
        num_draws: least number of draws for each position.
    """
    num_positions, rows = 4, min(256, num_draws // 8)
    on_cpu = trained_network(config).eval()
    model = copy.deepcopy(on_cpu).to(device)
    acting = DeviceActingNetwork(model, rows)
    rng = np.random.default_rng(0)
    lanes = np.arange(rows)
    chi_square, freedom, worst = 0.0, 0, 0.0
    with full_float32():
        for seed in range(num_positions):
            games = random_games(rows, seed=seed, equal=True)
            log_probs = _log_probs(on_cpu, games)
            counts = np.zeros(len(log_probs))
            for _ in range(-(-num_draws // rows)):
                acting.begin(games, lanes, rng.random(rows))
                chosen = acting.finish()
                counts += np.bincount(chosen.choices, minlength=len(counts))
                error = np.abs(chosen.log_probs - log_probs[chosen.choices]).max()
                worst = max(worst, float(error))
            statistic, classes = chi_square_of(counts, np.exp(log_probs))
            chi_square, freedom = chi_square + statistic, freedom + classes - 1
    beyond = (chi_square - freedom) / math.sqrt(2 * max(1, freedom))
    name = f"{shape_of(config)} sampling"
    return [
        limited(f"{name}: chi-square, deviations", beyond, SAMPLING_LIMIT),
        limited(f"{name}: error of log-probs, largest", worst, 10 * LOG_PROB_LIMITS["off"]),
    ]


def _log_probs(model: torch.nn.Module, games: VectorGames) -> npt.NDArray[np.float64]:
    """Log-probabilities of the legal moves of lane 0, by the CPU."""
    with torch.no_grad():
        logits, _ = model(*network_inputs(games, torch.device("cpu")))
    labels = games.legal_labels[: games.legal_offsets[1]]
    legal = logits[0].double()[torch.from_numpy(labels.astype(np.int64))]
    found: npt.NDArray[np.float64] = torch.log_softmax(legal, 0).numpy()
    return found


def chi_square_of(
    counts: npt.NDArray[np.float64], probs: npt.NDArray[np.float64]
) -> tuple[float, int]:
    """Computes Pearson's chi-square of counts against probabilities.

    Args:
        counts: how often each outcome came.
        probs: their probabilities, which add up to 1.

    Returns:
        The statistic, and the number of classes; rare outcomes together are one.
    """
    expected = probs * counts.sum()
    is_rare = expected < FEWEST_EXPECTED
    observed, expected = (
        np.append(part[~is_rare], part[is_rare].sum()) for part in (counts, expected)
    )
    kept = expected > 0
    observed, expected = observed[kept], expected[kept]
    return float(((observed - expected) ** 2 / expected).sum()), int(kept.sum())


def check_first_ratio(config: Config) -> list[Figure]:
    """Lets self-play and learner, each on its device, agree on the policy of one rollout.

    Args:
        config: with every choice made and one rollout in an update.
    """
    learner = Learner(config)
    with torch.no_grad():
        learner.model.load_state_dict(trained_network(config.model).state_dict())
    self_play = SelfPlay(config, actor_id=0, incarnation=0)
    self_play.set_weights(learner.weights())
    report = learner.update([self_play.collect()[1]], 0)
    amp = config.learner.amp
    name = f"{shape_of(config.model)} {PRECISION_NAMES[amp]}"
    limit = FIRST_RATIO_LIMITS[amp]
    return [limited(f"{name}: first log ratio, rms", report.first_log_ratio, limit)]


def shape_of(config: ModelConfig) -> str:
    """Returns the size of a network in words."""
    return f"{config.depth}x{config.width}"


def limited(what: str, value: float, limit: float) -> Figure:
    """Returns the figure of a check, which fails if the value is above the limit or no number."""
    return Figure(what, value, "", budget=limit, budget_is="at most")


@contextlib.contextmanager
def full_float32() -> Iterator[None]:
    """Turns TF32 off inside the block."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before
