"""Networks as recordings, whose operations torch runs by itself, without Python.

A pass of a small network is hundreds of short operations. Python calls them one by one, and of
several threads of one process only one at a time. torch records the operations once
(`torch.jit.trace`) and then runs them by itself, the backward pass too: the same ones in the same
order, so results and gradients are the same bits.

B: rows (positions). A: policy labels.
"""

import logging
import warnings
from typing import Any, Final
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from keisei_ray.network.model import NUM_SCALARS, PolicyValueNet

CANNOT_RECORD: Final = (AttributeError, RuntimeError)
"""Errors of `recorded` where torch cannot record a module."""
_RECORDINGS: Final[WeakKeyDictionary[PolicyValueNet, nn.Module | None]] = WeakKeyDictionary()
"""Recordings of networks that are evaluated again and again; None where torch cannot record one."""
logger = logging.getLogger(__name__)


def recorded(module: nn.Module, *example: Tensor) -> nn.Module:
    """Records a module's operations on an example.

    Args:
        module: its sizes follow from those of its arguments in any call. The recording has the same
            parameters: it sees what is written into them in place, and adds to their `grad`.
        example: arguments of the module.

    Returns:
        The recording, to be called by `run`. It calls no hooks.

    Raises:
        CANNOT_RECORD: torch cannot do it.
    """
    with warnings.catch_warnings():
        # torch warns that tracing is deprecated, and that constant sizes become constants.
        warnings.simplefilter("ignore")
        recording: nn.Module = torch.jit.trace(module, example, check_trace=False)
    return recording


def run(recording: nn.Module, *tensors: Tensor) -> Any:
    """Runs a recording."""
    # The optimizer would make code for the sizes of the first calls, and anew for others.
    with torch.jit.optimized_execution(False):  # type: ignore[attr-defined]
        return recording(*tensors)


def not_recorded(error: BaseException) -> None:
    """Says that a network is used as it is, because torch cannot record it."""
    cause = (str(error).splitlines() or [type(error).__name__])[0]
    logger.warning("torch cannot record the network, so its passes are slower: %s", cause)


def record_forward(model: PolicyValueNet) -> None:
    """Makes `evaluate` faster for a network on the CPU, once; takes 20 to 60 ms.

    Args:
        model: its weights may be overwritten in place afterwards. On another device nothing is
            done.
    """
    if model in _RECORDINGS or model.material_weight.device.type != "cpu":
        return
    example = (torch.zeros(2, n, dtype=torch.uint8) for n in (81, 14, NUM_SCALARS))
    try:
        with torch.no_grad():
            _RECORDINGS[model] = recorded(model, *example)
    except CANNOT_RECORD as error:
        not_recorded(error)
        _RECORDINGS[model] = None


def evaluate(
    model: PolicyValueNet, boards: Tensor, hands: Tensor, scalars: Tensor
) -> tuple[Tensor, Tensor]:
    """Computes the outputs of a network without gradient, by its recording if there is one.

    Args:
        model: the network.
        boards, hands, scalars: B compact positions on its device, see `PolicyValueNet.forward`.

    Returns:
        [B, A] logits of all labels and [B, 3] or [B, 1] logits of the outcome, float32.
    """
    recording = _RECORDINGS.get(model)
    with torch.inference_mode():
        if recording is None:
            return model(boards, hands, scalars)  # type: ignore[no-any-return]
        return run(recording, boards, hands, scalars)  # type: ignore[no-any-return]
