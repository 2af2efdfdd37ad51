"""Tensors copied to the host, from a GPU all in one transfer."""

from collections.abc import Sequence

import torch
from torch import Tensor


def on_host(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Returns float32 tensors on the CPU, contiguous, without gradients.

    Waits for the device. A tensor that is on the CPU already may share its memory with the result.

    Args:
        tensors: all on one device, of any shapes.
    """
    if tensors[0].is_cuda:
        return together(tensors)
    return [tensor.detach().float().contiguous() for tensor in tensors]


def copied(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Returns copies on the CPU, from a GPU as contiguous float32. Waits for the device.

    Args:
        tensors: all on one device, of any shapes; there may be none.
    """
    if tensors and tensors[0].is_cuda:
        return together(tensors)
    return [tensor.detach().clone() for tensor in tensors]


def together(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Copies float32 tensors as one flat tensor; the results are contiguous views of its copy."""
    flat = torch.cat([tensor.detach().float().reshape(-1) for tensor in tensors])
    host = torch.empty_like(flat, device="cpu", pin_memory=flat.is_cuda).copy_(flat)
    pieces = host.split([tensor.numel() for tensor in tensors])
    return [piece.view(t.shape) for piece, t in zip(pieces, tensors, strict=True)]
