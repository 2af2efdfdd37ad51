"""The gradient of one minibatch, computed by several single-threaded replicas in parallel.

On a CPU, two intra-op threads of torch do less than two single-threaded replicas, and much less
when another program uses one of the cores. So each minibatch is split into contiguous pieces, one
for each thread, the first for the thread that asks. A piece is processed in micro-batches that fit
into the core's cache. The replicas share the weights, have a flat gradient each, and the gradients
are added in a fixed order: the same rows give the same bits, whatever the timing. Several replicas
run as recordings, so that the threads do not wait for each other's Python (`recorded_passes.py`).

On CUDA there is one replica and one piece, every pass has a multiple of `CUDA_ROW_MULTIPLE` rows,
and where torch can compile, the gradient is launched as a whole (`gradient_graph.py`).

B: rows of the update. M: rows of the minibatch here. F: numbers of a flat tensor, see `FlatLayout`.
"""

import copy
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from functools import partial, reduce
from typing import TypeVar

import torch
from torch import Tensor
from torch.nn import functional

from keisei_ray.learning.flat_layout import FlatLayout
from keisei_ray.learning.gradient_graph import GradientGraphs
from keisei_ray.learning.minibatch_sums import Forward
from keisei_ray.learning.ppo import LossCoefs, PPOSums
from keisei_ray.learning.recorded_passes import plain_passes, recorded_passes
from keisei_ray.network.model import NUM_SCALARS, PolicyValueNet

FORWARD_ROWS = 8192
"""Rows of a forward pass without gradient, where nothing else is set: an update may have many."""


CUDA_ROW_MULTIPLE = 128
"""Rows of a pass on CUDA are filled up to a multiple of this. cuDNN tries its kernels out for every
number of rows that it meets, and with opponents in the games each update has another one."""

Result = TypeVar("Result")
logger = logging.getLogger(__name__)


class ParallelGradients:
    """Replicas of one model, one for each thread, and their gradients.

    On a CPU the thread that calls `compute` must have set torch to one thread (`prepare_cpu`).
    """

    def __init__(
        self,
        model: PolicyValueNet,
        *,
        num_threads: int,
        micro_batch: int | None,
        row_multiple: int = 1,
        is_compiled: bool = False,
    ) -> None:
        """Makes the replicas and starts the threads.

        Args:
            model: replica 0; owns the weights. The `.grad` of its parameters become views of one
                flat tensor.
            num_threads: number of replicas; 1 on CUDA.
            micro_batch: rows processed at once; None: all rows of a piece, and of a forward pass
                without gradient as many as `FORWARD_ROWS`.
            row_multiple: rows of a pass are filled up to a multiple of this, by rows that count for
                nothing.
            is_compiled: whether `prepare` lets torch compile the network, and on CUDA the gradient
                is recorded as a graph. For one replica.
        """
        replicas = [model] + [_sharing_weights(model) for _ in range(num_threads - 1)]
        layout = FlatLayout.of(model)
        self._replicas = [(replica, layout.flatten_gradients(replica)) for replica in replicas]
        # Recordings call no hooks. They are for several threads, which else run Python in turn.
        is_recorded = num_threads > 1 and not model.material_weight.is_cuda
        self._passes = [
            recorded_passes(replica) if is_recorded else plain_passes(replica)
            for replica in replicas
        ]
        self._micro_batch = micro_batch
        self._row_multiple = row_multiple
        self._compiled: Forward | None = None
        self._is_to_be_compiled = is_compiled
        self._graphs: GradientGraphs | None = None
        self._threads = ThreadPoolExecutor(
            max(1, num_threads - 1), "gradients", initializer=torch.set_num_threads, initargs=(1,)
        )

    @property
    def flat(self) -> Tensor:
        """[F] gradients of all trained parameters; `compute` overwrites them."""
        return self._replicas[0][1]

    def prepare(self) -> None:
        """Lets torch compile the network, the first time, if that is wanted; 10 s or more."""
        if self._is_to_be_compiled:
            self._is_to_be_compiled = False
            model, gradient = self._replicas[0]
            self._compiled = _compiled(model)
            if self._compiled is not None and gradient.is_cuda:
                self._graphs = GradientGraphs(model, gradient, row_multiple=self._row_multiple)

    def halve_micro_batch(self, rows: int) -> int:
        """Halves the number of rows processed at once; returns it.

        Args:
            rows: rows of a minibatch, all of which are processed at once where nothing else is set.
        """
        self._micro_batch = (min(rows, self._micro_batch or rows) + 1) // 2
        return self._micro_batch

    def compute(
        self,
        fields: Mapping[str, Tensor],
        rows: Tensor,
        *,
        num_rows: int | None = None,
        loss_scale: Tensor | None,
        coefs: LossCoefs[float],
    ) -> PPOSums[Tensor]:
        """Computes the gradient of the minibatch's mean loss and leaves it in `flat`.

        Of several learners each computes the part that its rows have in it.

        Args:
            fields: [B, ...] rows of the update on the model's device, see `BATCH_FIELDS`.
            rows: [M] int64, indices of the minibatch's rows here; there may be none.
            num_rows: rows of the minibatch over all learners, by which the loss is divided. None:
                there are no others.
            loss_scale: factor on the loss before the backward pass (fp16), or None.
            coefs: numbers of the loss, the same for all minibatches of an update.

        Returns:
            Sums over `rows`, without the loss scale.
        """
        if not len(rows):
            self.flat.zero_()
            return PPOSums(*self.flat.new_zeros(len(PPOSums._fields)))
        divisor = num_rows or len(rows)
        if self._graphs is not None and self._micro_batch is None:
            try:
                return self._graphs.compute(
                    fields, rows, num_rows=divisor, loss_scale=loss_scale, coefs=coefs
                )
            except torch.OutOfMemoryError:
                self._graphs = None
                raise
            except RuntimeError as error:  # Base of what compiling and recording raise.
                self._graphs = None
                cause = (str(error).splitlines() or [type(error).__name__])[0]
                logger.warning("gradients are not compiled, which is slower: %s", cause)
        process = partial(
            self._process_piece,
            fields,
            num_rows=divisor,
            loss_scale=loss_scale,
            coefs=coefs,
        )
        pieces = rows.tensor_split(min(len(rows), len(self._replicas)))
        if len(pieces) == 1:
            return process(0, pieces[0])
        total, *others = self._in_parallel(process, pieces)
        for (_, gradient), sums in zip(self._replicas[1:], others, strict=False):
            self.flat.add_(gradient)
            total = _add(total, sums)
        return total

    def _in_parallel(
        self, process: Callable[[int, Tensor], Result], pieces: Sequence[Tensor]
    ) -> list[Result]:
        """Processes each piece by the replica of its index, the first in this thread.

        Returns, or raises, when all threads have ended.
        """
        others = [
            self._threads.submit(process, index, piece)
            for index, piece in enumerate(pieces[1:], start=1)
        ]
        try:
            first = process(0, pieces[0])
        finally:
            wait(others)
        return [first, *(other.result() for other in others)]

    def _process_piece(
        self,
        fields: Mapping[str, Tensor],
        index: int,
        piece: Tensor,
        *,
        num_rows: int,
        loss_scale: Tensor | None,
        coefs: LossCoefs[float],
    ) -> PPOSums[Tensor]:
        """Leaves one replica's part of the gradient in its flat tensor; runs in its thread.

        Args:
            fields: as in `compute`.
            index: the replica.
            piece: indices of the rows that it processes, at least one.
            num_rows: as in `compute`.
            loss_scale: as in `compute`.
            coefs: as in `compute`.

        Returns:
            Sums over the piece, without the loss scale.
        """
        _, gradient = self._replicas[index]
        gradient.zero_()
        parts: list[PPOSums[Tensor]] = []
        for micro in torch.split(piece, self._micro_batch or len(piece)):
            filled, is_counted = self._filled_up(micro)
            sums = self._passes[index].sums(fields, filled, coefs, is_counted)
            loss = sums.loss / num_rows
            if loss_scale is not None:
                loss = loss * loss_scale
            torch.autograd.backward(loss)
            parts.append(sums._replace(loss=sums.loss.detach()))
        return reduce(_add, parts)

    def log_probs(self, fields: Mapping[str, Tensor], rows: Tensor) -> Tensor:
        """Computes the log-probabilities of actions by the current weights; no gradient.

        Args:
            fields: [B, ...] rows of the update on the model's device.
            rows: [M] int64, indices of rows.

        Returns:
            [M] float32, the log-probability of each row's action.
        """
        pieces = rows.tensor_split(max(1, min(len(rows), len(self._replicas))))
        process = partial(self._log_probs_of_piece, fields)
        if len(pieces) == 1:
            return process(0, pieces[0])
        return torch.cat(self._in_parallel(process, pieces))

    def _log_probs_of_piece(
        self, fields: Mapping[str, Tensor], index: int, piece: Tensor
    ) -> Tensor:
        """Computes one replica's part of `log_probs`; runs in its thread."""
        compiled = self._compiled
        passes = self._passes[index] if compiled is None else plain_passes(compiled)
        parts = []
        for micro in torch.split(piece, self._micro_batch or FORWARD_ROWS):
            filled, _ = self._filled_up(micro)
            with torch.no_grad():
                policy, _ = passes.outputs(fields, filled)
            parts.append(policy.log_probs[: len(micro)])
        return torch.cat(parts)

    def are_outputs_finite(self, fields: Mapping[str, Tensor], rows: Tensor) -> bool:
        """Returns whether the current weights give finite logits of all labels, and outcomes.

        Args:
            fields: [B, ...] rows of the update on the model's device.
            rows: [M] int64, indices of rows.
        """
        model, _ = self._replicas[0]
        forward: Forward = model if self._compiled is None else self._compiled
        filled, _ = self._filled_up(rows)
        with torch.no_grad():
            logits, outcomes = forward(
                *(fields[name][filled] for name in ("boards", "hands", "scalars"))
            )
            return bool(torch.isfinite(logits).all() & torch.isfinite(outcomes).all())

    def _filled_up(self, rows: Tensor) -> tuple[Tensor, Tensor | None]:
        """Rows filled up to the multiple, by the update's row 0, and which of them count."""
        missing = -len(rows) % self._row_multiple
        if not missing:
            return rows, None
        is_counted = torch.ones(len(rows), dtype=torch.bool, device=rows.device)
        return functional.pad(rows, (0, missing)), functional.pad(is_counted, (0, missing))


def _compiled(model: PolicyValueNet) -> Forward | None:
    """Lets torch compile a network, for any number of rows; None where that does not work.

    Tried without gradient, on rows of zeros.
    """
    device = model.material_weight.device
    rows = 2 * CUDA_ROW_MULTIPLE
    boards, hands, scalars = (
        torch.zeros(rows, n, dtype=torch.uint8, device=device) for n in (81, 14, NUM_SCALARS)
    )
    started = time.perf_counter()
    try:
        forward: Forward = torch.compile(model, dynamic=True)
        with torch.no_grad():
            forward(boards, hands, scalars)
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:  # Base of what torch's compiler raises.
        cause = (str(error).splitlines() or [type(error).__name__])[0]
        logger.warning("torch could not compile the network (%s): it is used as it is", cause)
        return None
    logger.info("torch compiled the network in %.0f s", time.perf_counter() - started)
    return forward


def _add(left: PPOSums[Tensor], right: PPOSums[Tensor]) -> PPOSums[Tensor]:
    """Adds two sums field by field."""
    return PPOSums(*torch._foreach_add(list(left), list(right)))


def _sharing_weights(model: PolicyValueNet) -> PolicyValueNet:
    """Copies a model; the copy shares the memory of the weights and has gradients of its own."""
    replica = copy.deepcopy(model)
    for own, shared in zip(replica.parameters(), model.parameters(), strict=True):
        own.data = shared.data
    return replica
