"""Figures of a minibatch, read from the device only after more work has been queued there.

A CUDA device works through a queue while the host goes on. If the host waits for the figures of a
minibatch before it queues the next one, the device has nothing to do meanwhile. So on CUDA they are
read one minibatch later (`late`), and the device itself decides whether a step is made: a flag on
the device, once set, turns this and every later step of the update into nothing. On a CPU, where
waiting costs nothing, they are read at once.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from keisei_ray.learning.ppo import PPOSums
from keisei_ray.learning.update_batch import Minibatch

Item = TypeVar("Item")


@dataclass(frozen=True)
class MinibatchFigures:
    """Result of one minibatch and of the optimizer step that it led to."""

    sums: PPOSums[float]
    """Sums over its rows."""
    grad_norm: float
    """L2 norm of the gradient before clipping; 0 where no step was tried."""
    is_beyond: bool
    """Whether its KL divergence is beyond the bound, so that the step before it was too far."""
    is_stopped: bool
    """Whether the update had been stopped when its step was due: no step was made."""


class Step(NamedTuple):
    """One optimizer step as it was queued."""

    grad_norm: Tensor
    """L2 norm of the gradient before clipping, on the device; 0 where no step was tried."""
    save: int = 0
    """Number of the backup from before it, see `StepBackup.save`."""
    is_skipped: bool = False
    """Whether the loss scaler skipped it."""


class ComingFigures:
    """Figures of a minibatch that are on their way from the device to the host.

    Attributes:
        minibatch: its rows.
        step: the optimizer step that it led to.
    """

    def __init__(
        self,
        minibatch: Minibatch,
        sums: PPOSums[Tensor],
        is_beyond: Tensor,
        is_stopped: Tensor,
        step: Step,
    ) -> None:
        """Starts the copy to the host; does not wait for it.

        Args:
            minibatch: see above.
            sums: sums over its rows.
            is_beyond: scalar, see `MinibatchFigures`.
            is_stopped: scalar, see `MinibatchFigures`.
            step: see above.
        """
        self.minibatch = minibatch
        self.step = step
        figures = torch.stack([*sums, step.grad_norm, is_beyond.float(), is_stopped.float()])
        self._values = figures.to("cpu", non_blocking=True)  # From CUDA, into pinned memory.
        # Blocking: a core that waits is free for other processes.
        self._is_copied = torch.cuda.Event(blocking=True) if figures.is_cuda else None
        if self._is_copied is not None:
            self._is_copied.record()

    def read(self) -> MinibatchFigures:
        """Waits for the device to have computed them."""
        if self._is_copied is not None:
            self._is_copied.synchronize()
        *sums, grad_norm, is_beyond, is_stopped = self._values.tolist()
        return MinibatchFigures(PPOSums(*sums), grad_norm, is_beyond > 0, is_stopped > 0)


def late(items: Iterable[Item], *, by: int) -> Iterator[Item]:
    """Yields every item in order, each once `by` more have been taken from `items`."""
    waiting: deque[Item] = deque()
    for item in items:
        waiting.append(item)
        if len(waiting) > by:
            yield waiting.popleft()
    yield from waiting
