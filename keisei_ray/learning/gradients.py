"""The gradient of one minibatch, computed by several single-thread replicas at once.

On a CPU, two intra-op threads do less than two single-thread workers, and far less when
somebody else uses one of the cores. So a minibatch is split into one contiguous piece a
thread; each piece is worked through in micro-batches small enough for the core's cache; the
replicas share the weights, own a flat gradient each, and the gradients are added in a fixed
order. The same rows give the same bits, whatever the timing.

On CUDA there is one replica and one piece.
"""

import copy
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from keisei_ray.learning.ppo import PPOSums, ppo_sums
from keisei_ray.network.model import PolicyValueNet, legal_mask, masked_log_probs


class ParallelGradients:
    """Replicas of one model, and the threads that work on them."""

    def __init__(
        self,
        model: PolicyValueNet,
        *,
        num_threads: int,
        micro_batch: int | None,
        autocast_dtype: torch.dtype | None,
    ) -> None:
        """Args:
        model: the weights; replica 0. Its `.grad` become views of one flat tensor.
        num_threads: replicas; 1 on CUDA.
        micro_batch: rows worked on at once, None for a whole piece.
        autocast_dtype: mixed precision for forward and loss, None for float32.
        """
        replicas = [model] + [_sharing_weights(model) for _ in range(num_threads - 1)]
        self._replicas = [(replica, _flatten_gradients(replica)) for replica in replicas]
        self._micro_batch = micro_batch
        self._autocast_dtype = autocast_dtype
        self._threads = ThreadPoolExecutor(
            num_threads, "gradients", initializer=torch.set_num_threads, initargs=(1,)
        )

    @property
    def flat(self) -> Tensor:
        """[P] the gradient of every trained parameter, one after the other; a live view."""
        return self._replicas[0][1]

    def compute(
        self,
        fields: Mapping[str, Tensor],
        rows: Tensor,
        *,
        loss_scale: Tensor | None,
        clip_coef: float,
        vf_coef: float,
        ent_coef: float,
    ) -> PPOSums:
        """Leaves the gradient of the mean loss over `rows` in `flat`.

        Args:
            fields: [B, ...] the update's rows, on the model's device.
            rows: [M] int64, the minibatch's rows.
            loss_scale: a factor on the loss before the backward pass (fp16), or None.

        Returns:
            Sums over the minibatch, unscaled.
        """

        def work(index: int, piece: Tensor) -> PPOSums:
            replica, gradient = self._replicas[index]
            gradient.zero_()
            sums: PPOSums | None = None
            for micro in torch.split(piece, self._micro_batch or len(piece)):
                with self._autocast(micro.device):
                    logits, outcomes = replica(
                        *(fields[name][micro] for name in ("boards", "hands", "scalars"))
                    )
                    part = ppo_sums(
                        masked_log_probs(logits, legal_mask(fields["legal_bits"][micro])),
                        outcomes,
                        fields["actions"][micro].long(),
                        fields["behavior_log_probs"][micro],
                        fields["advantages"][micro],
                        fields["value_targets"][micro],
                        fields["draw_targets"][micro],
                        clip_coef=clip_coef,
                        vf_coef=vf_coef,
                        ent_coef=ent_coef,
                    )
                    loss = part.loss / len(rows)
                if loss_scale is not None:
                    loss = loss * loss_scale
                torch.autograd.backward(loss)
                part = part._replace(loss=part.loss.detach())
                sums = part if sums is None else _add(sums, part)
            assert sums is not None, "a piece of a minibatch has no rows"
            return sums

        pieces = rows.tensor_split(min(len(rows), len(self._replicas)))
        if len(pieces) == 1:
            return work(0, pieces[0])
        results = list(self._threads.map(work, range(len(pieces)), pieces))
        total = results[0]
        for (_, gradient), sums in zip(self._replicas[1:], results[1:], strict=False):
            self.flat.add_(gradient)
            total = _add(total, sums)
        return total

    def _autocast(self, device: torch.device) -> AbstractContextManager[object]:
        if self._autocast_dtype is None:
            return nullcontext()
        # The cache would keep half-precision copies of weights that an optimizer step changes
        # under another thread; a micro-batch uses each weight once, so nothing is lost.
        return torch.autocast(device.type, dtype=self._autocast_dtype, cache_enabled=False)


def _add(left: PPOSums, right: PPOSums) -> PPOSums:
    return PPOSums(*(a + b for a, b in zip(left, right, strict=True)))


def _sharing_weights(model: PolicyValueNet) -> PolicyValueNet:
    """A copy whose parameters are the same memory and whose gradients are its own."""
    replica = copy.deepcopy(model)
    for own, shared in zip(replica.parameters(), model.parameters(), strict=True):
        own.data = shared.data
    return replica


def _flatten_gradients(model: nn.Module) -> Tensor:
    """Makes every trained parameter's `.grad` a view of one new flat tensor."""
    trained = [p for p in model.parameters() if p.requires_grad]
    flat = torch.zeros(sum(p.numel() for p in trained), device=trained[0].device)
    start = 0
    for parameter in trained:
        view = flat[start : start + parameter.numel()]
        # The parameter's own strides (channels-last), so that backward adds without a copy.
        parameter.grad = view.as_strided(parameter.shape, parameter.stride(), start)
        start += parameter.numel()
    return flat
