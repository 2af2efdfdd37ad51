"""The rows of one update: filled from rollouts, moved to the device once.

Storage is allocated once from the config and filled by slices, so memory stays flat over any
number of updates; on CUDA the host side is pinned and each field crosses in one copy.

B: rows of the update = rollouts x T x N.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from keisei_ray.advantages import explained_variance, generalized_advantages, next_values
from keisei_ray.errors import EmptyUpdateError, RolloutFormatError
from keisei_ray.rollout import Rollout

FIELDS: Mapping[str, tuple[torch.dtype, tuple[int, ...]]] = {
    "boards": (torch.uint8, (81,)),
    "hands": (torch.uint8, (14,)),
    "scalars": (torch.uint8, (3,)),
    "legal_bits": (torch.uint8, (187,)),
    "actions": (torch.int16, ()),
    "behavior_log_probs": (torch.float32, ()),
    "advantages": (torch.float32, ()),
    "value_targets": (torch.float32, ()),
}
"""Field -> dtype and trailing shape. Points of view are `Rollout`'s: always the side to move."""

COPIED = ("boards", "hands", "scalars", "legal_bits", "actions", "behavior_log_probs")
"""Taken from the rollout as they are; the others are computed."""


class UpdateBatch:
    """Preallocated [B, ...] tensors on the host and, where it differs, on the device."""

    def __init__(self, rows: int, device: torch.device) -> None:
        self.rows = rows
        on_cuda = device.type == "cuda"
        self._host = {
            name: torch.empty((rows, *shape), dtype=dtype, pin_memory=on_cuda)
            for name, (dtype, shape) in FIELDS.items()
        }
        self._arrays = {name: tensor.numpy() for name, tensor in self._host.items()}
        self._device = (
            {name: torch.empty_like(t, device=device) for name, t in self._host.items()}
            if on_cuda
            else self._host
        )
        self._on_cuda = on_cuda

    def fill(self, rollouts: Sequence[Rollout], *, gamma: float, gae_lambda: float) -> float:
        """Writes every row of `rollouts`, in their order, with advantages and value targets.

        Returns:
            The explained variance of the values that were acted on.

        Raises:
            EmptyUpdateError: there is nothing to learn from.
            RolloutFormatError: the rollouts do not fill the update exactly.
        """
        total = sum(r.header.T * r.header.N for r in rollouts)
        if total == 0:
            raise EmptyUpdateError("an update was asked for with no timesteps; nothing changed.")
        if total != self.rows:
            raise RolloutFormatError(
                f"{len(rollouts)} rollouts hold {total} timesteps, expected {self.rows}, the "
                "rows of the update. Every actor must run with the same config."
            )
        values = np.empty(total, np.float32)
        start = 0
        for rollout in rollouts:
            size = rollout.header.T * rollout.header.N
            rows = slice(start, start + size)
            for name in COPIED:
                field = getattr(rollout, name)
                self._arrays[name][rows] = field.reshape(size, *field.shape[2:])
            advantages = generalized_advantages(
                rollout.rewards,
                rollout.values,
                next_values(rollout.values, rollout.bootstrap_values, rollout.truncated),
                rollout.terminated,
                rollout.terminated | rollout.truncated,
                gamma=gamma,
                gae_lambda=gae_lambda,
            )
            self._arrays["advantages"][rows] = advantages.reshape(-1)
            values[rows] = rollout.values.reshape(-1)
            start += size
        targets = self._arrays["value_targets"]
        np.add(self._arrays["advantages"], values, out=targets)
        return explained_variance(values, targets)

    def normalize_advantages(self) -> None:
        """Brings the update's advantages to mean 0 and standard deviation 1, in place."""
        advantages = self._arrays["advantages"]
        mean = advantages.mean(dtype=np.float64)
        std = advantages.std(dtype=np.float64)
        np.subtract(advantages, np.float32(mean), out=advantages)
        np.divide(advantages, np.float32(std + 1e-8), out=advantages)

    def on_device(self) -> Mapping[str, Tensor]:
        """The fields where the network is; one copy a field on CUDA, none on the CPU."""
        if self._on_cuda:
            for name, tensor in self._host.items():
                self._device[name].copy_(tensor, non_blocking=True)
        return self._device
