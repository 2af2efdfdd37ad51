"""Muon: AdamW, but a step of a residual block's kernel is made nearly orthogonal.

AdamW scales the step of each number by itself, and steps of whole kernels follow few directions.
Muon follows all directions in which a kernel's gradients have pointed, as far as one another. A
kernel counts as a matrix: a row for each output channel, a column for each number of its filter.

Source: Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/. Steps are scaled as by Liu
et al. 2025, arXiv 2502.16982, so that learning rates are those of AdamW. The momentum is AdamW's
first moment, so the optimizer's state has the names and shapes of AdamW's. Everything outside of
the blocks, and their biases, take AdamW's own steps.
"""

from typing import Final

import torch
from torch import Tensor, nn

from keisei_ray.learning.adamw import AdamW
from keisei_ray.learning.flat_layout import FlatLayout

BLOCKS: Final = "blocks."
"""Beginning of the names of the parameters in the network's residual blocks."""
STEP_RMS: Final = 0.2
"""Root mean square of a matrix's step at a learning rate of 1, about that of AdamW's steps."""
_COEFFICIENTS: Final = (3.4445, -4.7750, 2.0315)
_ITERATIONS: Final = 5


def orthogonalized(matrices: Tensor) -> Tensor:
    """Returns matrices with the same singular vectors, whose singular values are about 1.

    By five Newton-Schulz iterations of degree five, with the coefficients of Jordan et al.:
    singular values from 0.68 to 1.2, but less where one was below 0.002 of the matrix's norm.

    Args:
        matrices: [..., rows, columns].
    """
    a, b, c = _COEFFICIENTS
    is_tall = matrices.shape[-2] > matrices.shape[-1]
    x: Tensor = matrices.mT if is_tall else matrices
    x = x / torch.linalg.matrix_norm(x, keepdim=True).clamp(min=1e-7)
    for _ in range(_ITERATIONS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * (gram @ gram)) @ x
    return x.mT if is_tall else x


class Muon(AdamW):
    """AdamW of one flat parameter that takes Muon's steps with the kernels in it."""

    def __init__(
        self,
        weights: nn.Parameter,
        layout: FlatLayout,
        *,
        lr: float,
        eps: float,
        weight_decay: float,
    ) -> None:
        """Args:
        weights: [F] all trained weights.
        layout: of `weights`.
        lr: learning rate.
        eps: epsilon of AdamW's steps.
        weight_decay: decoupled weight decay.
        """
        super().__init__(weights, lr=lr, eps=eps, weight_decay=weight_decay)
        self._weights = weights
        self._parts: dict[tuple[int, int], list[slice]] = {}
        """Shape as a matrix -> the places of the kernels of this shape in the flat tensor."""
        for place in layout.places:
            if place.name.startswith(BLOCKS) and len(place.shape) > 1:
                rows, numbers = place.shape[0], place.shape.numel()
                self._parts.setdefault((rows, numbers // rows), []).append(
                    slice(place.start, place.start + numbers)
                )

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        """Makes one step from the gradient; none where `found_inf`, if it is set, is 1."""
        weights, gradient = self._weights.detach(), self._weights.grad
        assert gradient is not None, "the gradient is computed before the step"
        before = {shape: self._matrices(weights, shape) for shape in self._parts}
        super().step()
        (group,) = self.param_groups
        momentum = self.state[self._weights]["exp_avg"]
        is_withheld = getattr(self, "found_inf", None)
        for shape, old in before.items():
            now = self._matrices(gradient, shape)
            ahead = self._matrices(momentum, shape).lerp_(now, 1 - group["betas"][0])
            size = STEP_RMS * max(shape) ** 0.5
            new = old * (1 - group["lr"] * group["weight_decay"])
            new -= group["lr"] * size * orthogonalized(ahead)
            if is_withheld is not None:
                new = torch.where(is_withheld.bool(), old, new)
            for part, matrix in zip(self._parts[shape], new, strict=True):
                weights[part] = matrix.flatten()

    def _matrices(self, flat: Tensor, shape: tuple[int, int]) -> Tensor:
        """Copies the kernels of one shape out of a flat tensor: [kernels, rows, columns]."""
        return torch.stack([flat[part].view(shape) for part in self._parts[shape]])
