"""Learners that make one update together: what they add up, and what they agree on. No Ray.

Each learner of a group holds a share of the update's rows and a copy of everything else: weights,
optimizer, random generator. Every decision in an update is made from numbers that have been added
up over the group, so all learners decide the same, and their copies stay equal without being
compared. All of them must make the same calls in the same order: a call waits for the others.

A group of one adds up nothing and costs nothing.

Transport: torch.distributed; gloo for tensors on the CPU, nccl for those on CUDA.
"""

import contextlib
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, distributed
from torch.distributed import TCPStore  # type: ignore[attr-defined]  # Not in its `__all__`.

from keisei_ray.errors import PeerLostError, RejectedRolloutsError

LONGEST_WAIT: Final = timedelta(days=1)
"""Longest time that a call waits for the other learners. The driver has deadlines for updates and
starts and ends all learners when one is missed; torch's own limits, minutes, must not come first.
"""


class Moments(NamedTuple):
    """Number, mean and variance of the numbers that a group's learners hold together."""

    number: int
    mean: float
    """NaN where there are no numbers."""
    variance: float
    """Mean squared distance from the mean; NaN where there are no numbers."""


class LearnerGroup:
    """The learners of a run, as one of them sees them.

    Attributes:
        rank: number of this learner, from 0.
        size: number of learners.
    """

    def __init__(self, rank: int = 0, size: int = 1) -> None:
        """Makes a group of one; a larger one is joined by `join_group`."""
        self.rank = rank
        self.size = size

    def sum_(self, *tensors: Tensor) -> None:
        """Adds up the learners' tensors in place, in one message: all learners get the same bits.

        On CUDA it returns before the sums are there, like any operation of torch.

        Args:
            tensors: of one dtype; of the same shapes in all learners.

        Raises:
            PeerLostError: another learner has ended or cannot be reached.
        """
        if self.size == 1:
            return
        message = torch.cat([tensor.flatten() for tensor in tensors])
        try:
            distributed.all_reduce(message)
        except RuntimeError as error:
            raise self._lost(error) from error
        parts = message.split([tensor.numel() for tensor in tensors])
        for tensor, part in zip(tensors, parts, strict=True):
            tensor.copy_(part.view_as(tensor))

    def gather(self, numbers: Sequence[float]) -> list[list[float]]:
        """Returns the learners' numbers, exact up to 2**53, a row for each learner by its rank.

        Raises:
            PeerLostError: see `sum_`.
        """
        table = torch.zeros((self.size, len(numbers)), dtype=torch.float64)
        table[self.rank] = torch.tensor(numbers, dtype=torch.float64)
        self.sum_(table)
        rows: list[list[float]] = table.tolist()
        return rows

    def sums(self, *numbers: float) -> list[float]:
        """Returns the sum over the learners of each number."""
        return [sum(column) for column in zip(*self.gather(numbers), strict=True)]

    def counts(self, *numbers: int) -> list[int]:
        """Returns the sum over the learners of each whole number."""
        return [int(total) for total in self.sums(*numbers)]

    def moments(self, values: npt.NDArray[np.float32]) -> Moments:
        """Computes number, mean and variance of all learners' values together, in float64.

        Args:
            values: [B] float32, those of this learner.
        """
        count, total = self.sums(len(values), float(values.sum(dtype=np.float64)))
        if not count:
            return Moments(0, np.nan, np.nan)
        mean = total / count
        distances = values - np.float64(mean)
        [squares] = self.sums(float((distances * distances).sum()))
        return Moments(int(count), mean, squares / count)

    @contextlib.contextmanager
    def agreeing(self) -> Iterator[None]:
        """Encloses what a learner may fail at alone: where one fails, all fail.

        Raises:
            Exception: what this learner has raised in the block.
            RejectedRolloutsError: another one has failed. It names no rollout: the other's does.
        """
        has_failed = True
        try:
            yield
            has_failed = False
        finally:
            [failed] = self.counts(has_failed)
        if failed:
            raise RejectedRolloutsError({})

    def _lost(self, error: RuntimeError) -> PeerLostError:
        cause = str(error).splitlines()[0].partition(" This is typically")[0][:300]
        return PeerLostError(f"learner {self.rank} of {self.size} has lost another one: {cause}")


def open_store(host: str) -> TCPStore:
    """Opens the place where the learners of a group meet; learner 0 does.

    Args:
        host: name or address of this machine, by which the others reach it.

    Returns:
        A store on a free port, which is its `port`.
    """
    return TCPStore(host, 0, is_master=True, wait_for_workers=False, timeout=LONGEST_WAIT)


def find_store(host: str, port: int) -> TCPStore:
    """Connects to the store that learner 0 has opened."""
    return TCPStore(host, port, is_master=False, timeout=LONGEST_WAIT)


def join_group(store: Any, rank: int, size: int, *, device: str) -> LearnerGroup:
    """Joins the group of this process; once in its life. Waits for all other learners.

    Args:
        store: a store of torch.distributed that all learners of the group share.
        rank: number of this learner, from 0.
        size: number of learners.
        device: "cpu" or "cuda", where their networks are.

    Raises:
        PeerLostError: another learner cannot be reached.
    """
    backend = "cpu:gloo,cuda:nccl" if device == "cuda" else "gloo"
    group = LearnerGroup(rank, size)
    try:
        distributed.init_process_group(
            backend, store=store, rank=rank, world_size=size, timeout=LONGEST_WAIT
        )
    except RuntimeError as error:
        raise group._lost(error) from error
    return group
