"""The trained weights of a network side by side in one flat tensor.

The optimizer, the clipping of the gradient and the backups work on a few flat tensors instead of a
hundred small ones: on a GPU each small one costs launches that take longer than its numbers do.
Parameters and their gradients are views of the flat tensors, with their own shapes and strides.

F: numbers of a flat tensor, the gaps between parameters included.
"""

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn

CUDA_ALIGNMENT: Final = 64
"""On CUDA each parameter begins at a multiple of this many numbers, 256 bytes: kernels that read by
the vector need it. The numbers in the gaps are zero and stay so."""


@dataclass(frozen=True)
class Place:
    """Place of one parameter in a flat tensor."""

    name: str
    start: int
    shape: torch.Size
    stride: tuple[int, ...]


@dataclass(frozen=True)
class FlatLayout:
    """Places of all trained parameters of a network, in their order.

    Attributes:
        places: see above.
        size: F.
    """

    places: tuple[Place, ...]
    size: int

    @staticmethod
    def of(model: nn.Module, *, alignment: int | None = None) -> "FlatLayout":
        """Lays the trained parameters of a model out.

        Args:
            model: its parameters are on one device.
            alignment: each parameter begins at a multiple of this many numbers. None: 1 on a CPU,
                so that there are no gaps, and `CUDA_ALIGNMENT` on CUDA.
        """
        if alignment is None:
            alignment = CUDA_ALIGNMENT if next(model.parameters()).is_cuda else 1
        places = []
        start = 0
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                places.append(Place(name, start, parameter.shape, parameter.stride()))
                start += -(-parameter.numel() // alignment) * alignment
        return FlatLayout(tuple(places), start)

    def views(self, flat: Tensor) -> list[Tensor]:
        """Returns the part of each parameter in a flat tensor, with its shape and strides.

        Args:
            flat: [F] numbers side by side; it may itself be a part of a tensor.
        """
        first = flat.storage_offset()
        return [flat.as_strided(p.shape, p.stride, first + p.start) for p in self.places]

    def flatten_weights(self, model: nn.Module) -> nn.Parameter:
        """Makes every trained parameter a view of one new flat tensor [F], and returns that."""
        trained = _trained(model)
        flat = torch.zeros(self.size, device=trained[0].device)
        for parameter, view in zip(trained, self.views(flat), strict=True):
            view.copy_(parameter.data)
            parameter.data = view
        return nn.Parameter(flat)

    def flatten_gradients(self, model: nn.Module) -> Tensor:
        """Makes the gradient of every trained parameter a view of one new flat tensor [F] of zeros.

        A backward pass adds to it without a copy.

        Returns:
            The flat tensor.
        """
        trained = _trained(model)
        flat = torch.zeros(self.size, device=trained[0].device)
        for parameter, view in zip(trained, self.views(flat), strict=True):
            parameter.grad = view
        return flat


def _trained(model: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in model.parameters() if parameter.requires_grad]
