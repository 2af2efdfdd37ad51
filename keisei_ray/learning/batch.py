"""The rows of one update: filled from rollouts, moved to the device once.

Storage is allocated once and filled by slices, so memory stays flat over any number of updates;
only where updates grow with the cluster is it allocated anew, for the largest so far. On CUDA the
host side is pinned and each field crosses in one copy.

B: rows of the update: the learner's own plies among rollouts x T x N.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from keisei_ray.errors import EmptyUpdateError, RolloutFormatError
from keisei_ray.learning.advantages import (
    FloatTN,
    explained_variance,
    fill_untrained,
    generalized_advantages,
    next_values,
)
from keisei_ray.rollouts.rollout import Rollout

FIELDS: Mapping[str, tuple[torch.dtype, tuple[int, ...]]] = {
    "boards": (torch.uint8, (81,)),
    "hands": (torch.uint8, (14,)),
    "scalars": (torch.uint8, (3,)),
    "legal_bits": (torch.uint8, (187,)),
    "actions": (torch.int16, ()),
    "behavior_log_probs": (torch.float32, ()),
    "advantages": (torch.float32, ()),
    "value_targets": (torch.float32, ()),
    "draw_targets": (torch.float32, ()),
}
"""Field -> dtype and trailing shape. Points of view are `Rollout`'s: always the side to move."""

COPIED = ("boards", "hands", "scalars", "legal_bits", "actions", "behavior_log_probs")
"""Taken from the rollout as they are; the others are computed."""


class UpdateBatch:
    """Preallocated [capacity, ...] tensors on the host and, where it differs, on the device.

    Attributes:
        timesteps: plies of the last `fill`, trained on or not.
        rows: B, rows filled by the last `fill`; those beyond it are left over.
    """

    def __init__(
        self, timesteps: int, device: torch.device, *, takes_multiples: bool = False
    ) -> None:
        """Args:
        timesteps: plies that every update is made from.
        device: where the network is.
        takes_multiples: of `timesteps`, any; the storage grows to the largest.
        """
        self.timesteps = self.rows = 0
        self._unit = timesteps
        self._takes_multiples = takes_multiples
        self._torch_device = device
        self._on_cuda = device.type == "cuda"
        self._allocate(timesteps)

    def _allocate(self, capacity: int) -> None:
        self._capacity = capacity
        self._host = {
            name: torch.empty((capacity, *shape), dtype=dtype, pin_memory=self._on_cuda)
            for name, (dtype, shape) in FIELDS.items()
        }
        self._arrays = {name: tensor.numpy() for name, tensor in self._host.items()}
        self._device = (
            {n: torch.empty_like(t, device=self._torch_device) for n, t in self._host.items()}
            if self._on_cuda
            else self._host
        )

    def fill(self, rollouts: Sequence[Rollout], *, gamma: float, gae_lambda: float) -> float:
        """Writes every trained row of `rollouts`, in their order, with advantages and targets.

        Returns:
            The explained variance of the values that were acted on.

        Raises:
            EmptyUpdateError: there is nothing to learn from.
            RolloutFormatError: the rollouts are not the plies of one update.
        """
        total = sum(r.header.T * r.header.N for r in rollouts)
        if not any(r.is_trained.any() for r in rollouts):
            raise EmptyUpdateError(
                f"an update was asked for with {total} timesteps and no ply of the learner's own "
                "among them; nothing changed."
            )
        if total % self._unit or (total != self._unit and not self._takes_multiples):
            a_multiple_of = "a multiple of " if self._takes_multiples else ""
            raise RolloutFormatError(
                f"{len(rollouts)} rollouts hold {total} timesteps, expected {a_multiple_of}"
                f"{self._unit} for an update. Every actor must run with the same config."
            )
        if total > self._capacity:
            self._allocate(total)
        self.timesteps = total
        acted_on = np.empty(total, np.float32)
        start = 0
        for rollout in rollouts:
            trained = rollout.is_trained
            rows = slice(start, start + int(trained.sum()))
            for name in COPIED:
                self._arrays[name][rows] = getattr(rollout, name)[trained]
            advantages, value_targets = _lambda_returns(
                rollout,
                rollout.values,
                rollout.rewards,
                rollout.bootstrap_values,
                sign=-1,
                gamma=gamma,
                gae_lambda=gae_lambda,
            )
            # That somebody wins is the same for both sides; what is left of it is the draw.
            _, decided = _lambda_returns(
                rollout,
                1 - rollout.draw_probs.astype(np.float32),
                np.abs(rollout.rewards),
                1 - rollout.bootstrap_draw_probs.astype(np.float32),
                sign=1,
                gamma=gamma,
                gae_lambda=gae_lambda,
            )
            self._arrays["advantages"][rows] = advantages[trained]
            self._arrays["value_targets"][rows] = value_targets[trained]
            self._arrays["draw_targets"][rows] = (1 - decided[trained]).clip(0, 1)
            acted_on[rows] = rollout.values[trained]
            start = rows.stop
        self.rows = start
        return explained_variance(acted_on[:start], self._arrays["value_targets"][:start])

    def normalize_advantages(self) -> None:
        """Brings the update's advantages to mean 0 and standard deviation 1, in place."""
        advantages = self._arrays["advantages"][: self.rows]
        mean = advantages.mean(dtype=np.float64)
        std = advantages.std(dtype=np.float64)
        np.subtract(advantages, np.float32(mean), out=advantages)
        np.divide(advantages, np.float32(std + 1e-8), out=advantages)

    def on_device(self) -> Mapping[str, Tensor]:
        """The fields where the network is; one copy a field on CUDA, none on the CPU."""
        if self._on_cuda:
            for name, tensor in self._host.items():
                self._device[name][: self.rows].copy_(tensor[: self.rows], non_blocking=True)
        return self._device


def _lambda_returns(
    rollout: Rollout,
    values: FloatTN,
    rewards: FloatTN,
    bootstrap_values: FloatTN,
    *,
    sign: int,
    gamma: float,
    gae_lambda: float,
) -> tuple[FloatTN, FloatTN]:
    """[T, N] advantages, and the lambda-returns: what the values should have been."""
    terminated, truncated = rollout.terminated, rollout.truncated
    values = fill_untrained(
        values,
        rewards,
        bootstrap_values,
        terminated,
        truncated,
        rollout.is_trained,
        gamma=gamma,
        sign=sign,
    )
    advantages = generalized_advantages(
        rewards,
        values,
        next_values(values, bootstrap_values, truncated),
        terminated,
        terminated | truncated,
        gamma=gamma,
        gae_lambda=gae_lambda,
        sign=sign,
    )
    return advantages, advantages + values
