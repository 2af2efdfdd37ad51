"""The gradient of a minibatch as a CUDA graph, which the host launches in one call.

A pass forward and backward is several hundred kernels. Launching them one by one takes the host
longer than a fast GPU needs to run them, so they are recorded once, in a CUDA graph, and launched
together from then on. torch joins kernels of the network and the loss first (`torch.compile`).

A graph reads and writes at fixed addresses: the fields of the update, the weights, the flat
gradient, and inputs of its own that are filled before each launch. It has a fixed number of rows;
the rows that a minibatch lacks are filled up by ones that count for nothing. Recording takes
seconds, and kernels that are compiled for one number of rows are faster than those for any: so a
graph has a few rows to spare, and serves all minibatches of nearly its size.

M: rows of the minibatch. S: rows of the graph, at least M. F: numbers of a flat tensor.

Source: https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs
"""

import logging
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from keisei_ray.learning.flat_layout import FlatLayout
from keisei_ray.learning.minibatch_sums import minibatch_sums
from keisei_ray.learning.ppo import LossCoefs, PPOSums
from keisei_ray.network.model import PolicyValueNet

WARM_UP_PASSES = 3
"""Passes before the recording: what libraries set up in their first calls is not recorded."""
SPARE_PART = 64
"""A new graph has one row in so many to spare: with opponents in the games the minibatches of one
update have a few rows more or less than those of another. Not if they fill it exactly, as those of
pure self-play do."""
MOST_SPARE_PART = 16
"""A graph serves a minibatch if it is larger by one row in so many at most."""
logger = logging.getLogger(__name__)


@dataclass
class _Inputs:
    """Inputs of a graph, at fixed addresses on the device."""

    rows: Tensor
    """[S] int64: indices of the minibatch's rows, then anything valid."""
    own_rows: Tensor
    """Scalar int64: M."""
    divisor: Tensor
    """Scalar float32: rows of the minibatch over all learners."""
    loss_scale: Tensor
    """Scalar float32: factor on the loss before the backward pass."""
    coefs: LossCoefs[Tensor]
    """Numbers of the loss, scalars float32."""
    _numbers: tuple[float, ...] = field(default=(), init=False)
    """Numbers that the scalars were last filled with, but for the loss scale."""

    @staticmethod
    def allocate(rows: int, device: torch.device) -> "_Inputs":
        """Allocates the inputs of a graph of so many rows, as of an empty minibatch."""
        scalars = torch.zeros(2 + len(LossCoefs._fields), device=device).unbind()
        return _Inputs(
            rows=torch.zeros(rows, dtype=torch.int64, device=device),
            own_rows=torch.zeros((), dtype=torch.int64, device=device),
            divisor=scalars[0].fill_(1.0),
            loss_scale=scalars[1].fill_(1.0),
            coefs=LossCoefs(*scalars[2:]),
        )

    def fill(
        self, rows: Tensor, num_rows: int, loss_scale: Tensor | None, coefs: LossCoefs[float]
    ) -> None:
        """Writes a minibatch; queues kernels and waits for none."""
        self.rows[: len(rows)].copy_(rows)
        numbers = (len(rows), num_rows, *coefs)
        if numbers != self._numbers:
            places = (self.own_rows, self.divisor, *self.coefs)
            for place, number in zip(places, numbers, strict=True):
                place.fill_(number)
            self._numbers = numbers
        if loss_scale is not None:
            self.loss_scale.copy_(loss_scale)


class GradientGraphs:
    """Recorded gradients of minibatches of one model, one for each number of rows that was met."""

    def __init__(self, model: PolicyValueNet, gradient: Tensor, *, row_multiple: int) -> None:
        """Records nothing yet.

        Args:
            model: the network, on CUDA.
            gradient: [F] laid out as by `FlatLayout.of(model)`.
            row_multiple: rows of every graph are a multiple of this.
        """
        self._model = model
        self._gradient = gradient
        self._parameters = [each for each in model.parameters() if each.requires_grad]
        self._parts = FlatLayout.of(model).views(gradient)
        self._row_multiple = row_multiple
        # The first number of rows gets kernels of its own, any further ones share theirs.
        self._sums = torch.compile(minibatch_sums)
        self._fields: Mapping[str, Tensor] | None = None
        self._recorded: dict[int, tuple[_Inputs, Recorded]] = {}

    def compute(
        self,
        fields: Mapping[str, Tensor],
        rows: Tensor,
        *,
        num_rows: int,
        loss_scale: Tensor | None,
        coefs: LossCoefs[float],
    ) -> PPOSums[Tensor]:
        """Leaves the gradient of a minibatch in the flat tensor, see `ParallelGradients.compute`.

        The first minibatch of another size is recorded first. For a 10x128 network that took 31 s
        where the compiler ran for the first time on that machine, 12 s after that.

        Raises:
            RuntimeError: torch could not compile or record the pass.
        """
        if fields is not self._fields:  # Storage that was allocated anew: other addresses.
            self._recorded.clear()
            self._fields = fields
        size = self._size_for(len(rows))
        if size not in self._recorded:
            self._recorded[size] = self._record(fields, size)
        inputs, recorded = self._recorded[size]
        inputs.fill(rows, num_rows, loss_scale, coefs)
        return PPOSums(*recorded.launch().clone().unbind())  # The next launch overwrites them.

    def _size_for(self, num_rows: int) -> int:
        """Rows of the graph for a minibatch: of one that fits, else of a new one."""
        most = num_rows + num_rows // MOST_SPARE_PART
        if fitting := [size for size in self._recorded if num_rows <= size <= most]:
            return min(fitting)
        if num_rows % self._row_multiple == 0:
            return num_rows
        return -(-(num_rows + num_rows // SPARE_PART) // self._row_multiple) * self._row_multiple

    def _record(self, fields: Mapping[str, Tensor], size: int) -> "tuple[_Inputs, Recorded]":
        """Records the pass for a number of rows."""
        started = time.perf_counter()
        inputs = _Inputs.allocate(size, self._gradient.device)

        def compute() -> Tensor:
            is_counted = torch.arange(size, device=inputs.rows.device) < inputs.own_rows
            sums = self._sums(self._model, fields, inputs.rows, inputs.coefs, is_counted)
            loss = sums.loss / inputs.divisor * inputs.loss_scale
            # Written by few kernels: `backward` would add them to zeros one parameter at a time.
            torch._foreach_copy_(self._parts, torch.autograd.grad(loss, self._parameters))
            return torch.stack([sums.loss.detach(), *sums[1:]])

        others = [recorded for _, recorded in self._recorded.values()]
        recorded = record(compute, shares_memory_with=others[0] if others else None)
        logger.info("recorded a gradient of %d rows: %.1f s", size, time.perf_counter() - started)
        return inputs, recorded


class Recorded(NamedTuple):
    """Kernels that a CUDA graph launches, and the tensor that they write."""

    graph: torch.cuda.CUDAGraph
    result: Tensor

    def launch(self) -> Tensor:
        """Queues the kernels on the current stream; returns the tensor that they will write."""
        self.graph.replay()
        return self.result


def record(compute: Callable[[], Tensor], *, shares_memory_with: Recorded | None) -> Recorded:
    """Records the kernels that a function launches; it may not wait for the device.

    Args:
        compute: reads and writes tensors that live as long as the record. torch may compile in it.
        shares_memory_with: another record, which never runs at the same time.
    """
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream), warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"torch\._inductor")  # Its advice to itself.
        for _ in range(WARM_UP_PASSES):
            compute()
    torch.cuda.current_stream().wait_stream(stream)
    torch.cuda.empty_cache()  # The record has memory of its own.
    graph = torch.cuda.CUDAGraph()
    memory = shares_memory_with.graph.pool() if shares_memory_with else None
    # Other threads (that unpack rollouts, Ray's) may allocate meanwhile.
    with torch.cuda.graph(graph, pool=memory, capture_error_mode="thread_local"):
        result = compute()
    return Recorded(graph, result)
