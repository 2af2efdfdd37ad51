"""The rows of one update: the trained plies of its rollouts, with advantages and targets.

`UpdateBatch.fill` is where the plies of rollouts become the rows that gradients are computed from.
It copies the fields of each trained ply, computes what the policy and the value head are to be
moved towards (`training_targets`), and leaves out the plies at which an opponent was to move.

Storage is allocated once and filled by slices, so memory stays flat over any number of updates.
Only where updates grow with the cluster is it allocated anew, for the largest update so far. On
CUDA the host tensors are pinned, and each field is copied to the device in one piece.

Of several learners each has a batch with the rows of its share of the rollouts. The rows of the
update are those of all learners in the order of their ranks: the order in which a single learner
would have them.

R: rollouts of the update. T: plies of a rollout. N: games side by side. The update has R * T * N
timesteps. B: rows of the update, which are the plies with `is_trained` among its timesteps.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

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
from keisei_ray.learning.learner_group import LearnerGroup
from keisei_ray.rollouts.rollout import NUM_ACTIONS, Rollout

BATCH_FIELDS: Final[Mapping[str, tuple[torch.dtype, tuple[int, ...]]]] = {
    "boards": (torch.uint8, (81,)),
    "hands": (torch.uint8, (14,)),
    "scalars": (torch.uint8, (3,)),
    "legal_bits": (torch.uint8, (NUM_ACTIONS // 8,)),
    "actions": (torch.int16, ()),
    "behavior_log_probs": (torch.float32, ()),
    "is_forced": (torch.bool, ()),
    "proximal_log_probs": (torch.float32, ()),
    "advantages": (torch.float32, ()),
    "value_targets": (torch.float32, ()),
    "draw_targets": (torch.float32, ()),
}
"""Field -> dtype and shape of one row. As in `Rollout`, all are seen from the side to move."""

COPIED_FIELDS: Final = (
    "boards",
    "hands",
    "scalars",
    "legal_bits",
    "actions",
    "behavior_log_probs",
    "is_forced",
)
"""Fields that are copied from the rollout unchanged. `proximal_log_probs` begin as a copy of
`behavior_log_probs`; `training_targets` computes the others."""


class TrainingTargets(NamedTuple):
    """Targets of the policy and the value head at each ply of a rollout."""

    advantages: FloatTN
    """[T, N] float32: how much better the ply was than the position's value; not normalized."""
    value_targets: FloatTN
    """[T, N] float32 in [-1, 1] up to rounding: P(win) - P(loss) for the side to move."""
    draw_targets: FloatTN
    """[T, N] float32 in [0, 1]: P(draw)."""


class Minibatch(NamedTuple):
    """The rows of one optimizer step."""

    rows: Tensor
    """[M] int64, indices of those that this learner has, where the network is."""
    num_rows: int
    """Number of them over all learners."""


class UpdateBatch:
    """Preallocated [capacity, ...] tensors on the host and, where it differs, on the device.

    Attributes:
        timesteps: R * T * N of the last `fill`: all plies of the update, trained or not.
        update_rows: B, the rows of the update in the last `fill`, over all learners.
        rows: the rows among them that are here. Rows beyond them hold old data.
        forced_rows: rows of the update whose ply is a forced mate.
        rollout_rows: the rows that each rollout of the last `fill` gave, in their order.
    """

    def __init__(
        self,
        timesteps: int,
        device: torch.device,
        *,
        takes_multiples: bool = False,
        group: LearnerGroup | None = None,
    ) -> None:
        """Allocates the storage for one update.

        Args:
            timesteps: R * T * N, the timesteps of every update.
            device: where the network is.
            takes_multiples: whether an update may also be made from a multiple of `timesteps`; the
                storage then grows to the largest.
            group: the learners that share the updates. None: there is one.
        """
        self.timesteps = self.rows = self.update_rows = 0
        self._first_row = 0
        self._group = group or LearnerGroup()
        self.rollout_rows: tuple[slice, ...] = ()
        self.forced_rows = 0
        self._unit = timesteps
        self._takes_multiples = takes_multiples
        self._torch_device = device
        self._on_cuda = device.type == "cuda"
        self._allocate(-(-timesteps // self._group.size))

    def _allocate(self, capacity: int) -> None:
        """Allocates every field for `capacity` rows; what was in them is lost."""
        self._capacity = capacity
        self._host = {
            name: torch.empty((capacity, *shape), dtype=dtype, pin_memory=self._on_cuda)
            for name, (dtype, shape) in BATCH_FIELDS.items()
        }
        self._arrays = {name: tensor.numpy() for name, tensor in self._host.items()}
        self._device = (
            {n: torch.empty_like(t, device=self._torch_device) for n, t in self._host.items()}
            if self._on_cuda
            else self._host
        )

    def fill(self, rollouts: Sequence[Rollout], *, gamma: float, gae_lambda: float) -> float:
        """Writes the trained plies of all rollouts, in their order, with advantages and targets.

        Args:
            rollouts: the rollouts of one update, or this learner's share of them. Within each, rows
                are in order of t, then n.
            gamma: discount per ply, in [0, 1].
            gae_lambda: see `generalized_advantages`.

        Returns:
            Explained variance of the values with which the plies of the update were played.

        Raises:
            EmptyUpdateError: there is no trained ply. Nothing has changed.
            RolloutFormatError: the rollouts do not hold the plies of one update. Nothing has
                changed.
        """
        self._count(rollouts)
        timesteps = sum(rollout.header.timesteps for rollout in rollouts)
        if timesteps > self._capacity:
            self._allocate(timesteps)
        values = np.empty(timesteps, np.float32)
        start = 0
        rollout_rows = []
        for rollout in rollouts:
            trained = rollout.is_trained
            rows = slice(start, start + int(trained.sum()))
            for name in COPIED_FIELDS:
                self._arrays[name][rows] = getattr(rollout, name)[trained]
            targets = training_targets(rollout, gamma=gamma, gae_lambda=gae_lambda)
            for name, array in targets._asdict().items():
                self._arrays[name][rows] = array[trained]
            self._arrays["proximal_log_probs"][rows] = self._arrays["behavior_log_probs"][rows]
            values[rows] = rollout.values[trained]
            rollout_rows.append(rows)
            start = rows.stop
        self.rollout_rows = tuple(rollout_rows)
        return explained_variance(
            values[:start],
            self._arrays["value_targets"][:start],
            lambda array: self._group.moments(array).variance,
        )

    def target_variance(self) -> float:
        """Returns the variance of the update's value targets, over all learners."""
        return self._group.moments(self._arrays["value_targets"][: self.rows]).variance

    def normalize_advantages(self) -> None:
        """Brings the update's advantages to mean 0 and standard deviation 1, in place.

        Mean and deviation are those of the rows whose ply the policy chose: the loss uses no other
        advantages.
        """
        advantages = self._arrays["advantages"][: self.rows]
        sampled = advantages[~self._arrays["is_forced"][: self.rows]]
        count, mean, variance = self._group.moments(sampled)
        if not count:
            return
        np.subtract(advantages, np.float32(mean), out=advantages)
        np.divide(advantages, np.float32(math.sqrt(variance) + 1e-8), out=advantages)

    def minibatches(self, order: Tensor, count: int) -> list[Minibatch]:
        """Cuts the update's rows into minibatches.

        Args:
            order: [B] int64 on the CPU, a permutation of the update's rows, the same for all
                learners; pinned if the network is on CUDA.
            count: number of minibatches; there may be fewer.
        """
        chunks = order.chunk(count)
        if self._group.size > 1:
            places = [chunk - self._first_row for chunk in chunks]
            own = [place[(place >= 0) & (place < self.rows)] for place in places]
            order = torch.cat(own)
        else:
            own = list(chunks)
        order = order.to(self._torch_device, non_blocking=True)
        parts = order.split([len(rows) for rows in own])
        return [Minibatch(rows, len(chunk)) for rows, chunk in zip(parts, chunks, strict=True)]

    def on_device(self) -> Mapping[str, Tensor]:
        """Returns [capacity, ...] fields where the network is, of which the first B rows count.

        On CUDA this copies each field once; on the CPU nothing is copied.
        """
        if self._on_cuda:
            for name, tensor in self._host.items():
                self._device[name][: self.rows].copy_(tensor[: self.rows], non_blocking=True)
        return self._device

    def _count(self, rollouts: Sequence[Rollout]) -> None:
        """Counts plies and rows of all learners; raises where no update can be made from them."""
        shares = self._group.gather(
            (
                len(rollouts),
                sum(rollout.header.timesteps for rollout in rollouts),
                sum(int(rollout.is_trained.sum()) for rollout in rollouts),
                sum(int((rollout.is_forced & rollout.is_trained).sum()) for rollout in rollouts),
            )
        )
        num_rollouts, total, rows, forced = (
            int(sum(column)) for column in zip(*shares, strict=True)
        )
        if not rows:
            raise EmptyUpdateError(
                f"an update was asked for with {total} timesteps and no ply of the learner's own "
                "among them; nothing changed."
            )
        if total % self._unit or (total != self._unit and not self._takes_multiples):
            a_multiple_of = "a multiple of " if self._takes_multiples else ""
            raise RolloutFormatError(
                f"{num_rollouts} rollouts hold {total} timesteps, expected {a_multiple_of}"
                f"{self._unit} for an update. Every actor must run with the same config."
            )
        rows_of = [int(share[2]) for share in shares]
        self.timesteps, self.update_rows, self.forced_rows = total, rows, forced
        self.rows = rows_of[self._group.rank]
        self._first_row = sum(rows_of[: self._group.rank])


def training_targets(rollout: Rollout, *, gamma: float, gae_lambda: float) -> TrainingTargets:
    """Computes advantages, value targets and draw targets of every ply of a rollout.

    The value is estimated with sign -1: what is good for one side is bad for the other. The draw
    target is estimated through the probability that the game is decided, 1 - P(draw), which is the
    same for both sides (sign +1) and for which a win or a loss is a reward of 1.

    Args:
        rollout: a valid rollout; not changed.
        gamma: discount per ply, in [0, 1].
        gae_lambda: see `generalized_advantages`.

    Returns:
        Arrays [T, N]. Entries of an opponent's plies have no meaning.
    """
    advantages, value_targets = _lambda_returns(
        rollout,
        rollout.values,
        rollout.rewards,
        rollout.bootstrap_values,
        sign=-1,
        gamma=gamma,
        gae_lambda=gae_lambda,
    )
    _, decided = _lambda_returns(
        rollout,
        1 - rollout.draw_probs.astype(np.float32),
        np.abs(rollout.rewards),
        1 - rollout.bootstrap_draw_probs.astype(np.float32),
        sign=1,
        gamma=gamma,
        gae_lambda=gae_lambda,
    )
    return TrainingTargets(advantages, value_targets, (1 - decided).clip(0, 1))


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
    """[T, N] advantages of one quantity, and its lambda-returns: advantage + value."""
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
