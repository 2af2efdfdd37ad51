"""Measurement of a network on positions of held-out games.

B: rows. A: policy labels.
"""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from keisei_ray.network.model import (
    PolicyValueNet,
    legal_mask,
    masked_log_probs,
    outcome_values,
)
from keisei_ray.records.positions import Positions
from keisei_ray.telemetry.reports import HeldOutFigures

NUM_RANGES = 10
"""Ranges of the predicted score over which the calibration is computed."""
TOP = 5
_ROWS_AT_ONCE = 256


def measure(model: PolicyValueNet, positions: Positions) -> HeldOutFigures:
    """Compares a network's policy and value with what was played and how it ended.

    Args:
        model: on any device; not changed.
        positions: at least one.
    """
    ranks, losses, values = [], [], []
    device = model.material_weight.device
    with torch.no_grad():
        for start in range(0, len(positions), _ROWS_AT_ONCE):
            part = positions.rows(slice(start, start + _ROWS_AT_ONCE))
            logits, outcomes = model(
                *(torch.from_numpy(x).to(device) for x in (part.boards, part.hands, part.scalars))
            )
            mask = legal_mask(torch.from_numpy(part.legal_bits).to(device))
            actions = torch.from_numpy(part.actions).to(device).long()
            log_probs = masked_log_probs(logits, mask)
            chosen = log_probs.gather(1, actions[:, None])
            ranks.append((log_probs > chosen).sum(1).cpu())
            losses.append(-chosen[:, 0].cpu())
            values.append(outcome_values(outcomes)[0].cpu())
    rank, value = torch.cat(ranks), _numpy(torch.cat(values))
    results = positions.results.astype(np.float64)
    return HeldOutFigures(
        positions=len(positions),
        top1=float((rank == 0).double().mean()),
        top5=float((rank < TOP).double().mean()),
        policy_loss=float(torch.cat(losses).double().mean()),
        value_error=float(((value - results) ** 2).mean()),
        calibration_error=calibration_error((1 + value) / 2, (1 + results) / 2),
    )


def calibration_error(predicted: npt.NDArray[np.float64], actual: npt.NDArray[np.float64]) -> float:
    """Returns the expected calibration error of predicted scores.

        sum over ranges r of  share(r) * |mean predicted in r - mean actual in r|

    with `NUM_RANGES` ranges of equal width from 0 to 1.

    Args:
        predicted: [B] scores in [0, 1].
        actual: [B] scores in [0, 1].

    Source: Guo et al. 2017, arXiv:1706.04599, eq. 3.
    """
    ranges = np.minimum((predicted * NUM_RANGES).astype(np.int64), NUM_RANGES - 1)
    off = np.bincount(ranges, predicted - actual, NUM_RANGES)
    return float(np.abs(off).sum() / len(predicted))


def told(figures: HeldOutFigures) -> str:
    """Returns the figures in words."""
    return (
        f"held-out games, {figures.positions:,} positions: top-1 {figures.top1:.1%}, top-5 "
        f"{figures.top5:.1%}, policy loss {figures.policy_loss:.3f}, value error "
        f"{figures.value_error:.3f}, calibration error {figures.calibration_error:.3f}"
    )


def _numpy(tensor: Tensor) -> npt.NDArray[np.float64]:
    array: npt.NDArray[np.float64] = tensor.double().numpy()
    return array
