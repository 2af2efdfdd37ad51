"""Networks as recordings, whose operations torch runs by itself, without Python.

A pass of a small network is hundreds of short operations. Python calls them one by one, and of
several threads of one process only one at a time. torch records the operations once
(`torch.jit.trace`) and then runs them by itself, the backward pass too. They are those of the
network but for the sum of the attackers' vectors (`attackers.py`), which has others that add in the
same order: results and gradients are the same bits.

torch keeps a few MiB of each recording as long as the process lives. So networks of one
architecture that are evaluated share few recordings, which compute with the weights of one network
after another.

B: rows (positions). A: policy labels.
"""

import copy
import logging
import threading
import warnings
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final
from weakref import ref

import torch
from torch import Tensor, nn

from keisei_ray.config.sections import ModelConfig
from keisei_ray.network.model import NUM_SCALARS, PolicyValueNet

CANNOT_RECORD: Final = (AttributeError, RuntimeError)
"""Errors of `recorded` where torch cannot record a module."""
MAX_RECORDINGS: Final = 4
"""Recordings of one architecture, unless more threads than that evaluate its networks at once."""
_LOCK: Final = threading.RLock()
"""Held while torch records, since what it changes meanwhile belongs to the whole process, and while
recordings are taken or given back."""
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
    with _LOCK, warnings.catch_warnings():
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


def evaluate(
    model: PolicyValueNet, boards: Tensor, hands: Tensor, scalars: Tensor
) -> tuple[Tensor, Tensor]:
    """Computes the outputs of a network without gradient, on a CPU by a recording.

    The first call for an architecture takes 20 to 60 ms longer.

    Args:
        model: the network. Its weights may be overwritten in place between two calls.
        boards, hands, scalars: B compact positions on its device, see `PolicyValueNet.forward`.

    Returns:
        [B, A] logits of all labels and [B, 3] or [B, 1] logits of the outcome, float32.
    """
    with torch.inference_mode():
        if boards.device.type != "cpu":
            return model(boards, hands, scalars)  # type: ignore[no-any-return]
        with _recording_of(model) as recording:
            return run(recording, boards, hands, scalars)  # type: ignore[no-any-return]


class _SharedRecording:
    """A recording that computes with the weights of any network of one architecture.

    Attributes:
        recording: what is run.
        user: the network whose weights it has now.
    """

    @torch.inference_mode(False)
    def __init__(self, model: PolicyValueNet) -> None:
        """Records a copy of a network; without one, where torch cannot, the copy itself is used."""
        shell = copy.deepcopy(model)
        self._parameters = list(shell.parameters())
        self.recording: nn.Module = shell
        self.user = ref(model)
        self.use(model)
        example = (torch.zeros(2, n, dtype=torch.uint8) for n in (81, 14, NUM_SCALARS))
        try:
            with torch.no_grad():
                self.recording = recorded(shell, *example)
        except CANNOT_RECORD as error:
            not_recorded(error)

    @torch.inference_mode(False)  # Inside of it torch makes no parameters.
    def use(self, model: PolicyValueNet) -> None:
        """Shares the weights of a network from now on, without a copy."""
        self.user = ref(model)
        for own, shared in zip(self._parameters, model.parameters(), strict=True):
            own.data = shared.data


_Architecture = tuple[ModelConfig, torch.dtype | None]
_FREE: Final[defaultdict[_Architecture, list[_SharedRecording]]] = defaultdict(list)
"""Architecture and precision -> recordings that are not running, the one used last at the end."""
_MADE: Final[defaultdict[_Architecture, int]] = defaultdict(int)
"""Architecture and precision -> number of recordings that there are."""


@contextmanager
def _recording_of(model: PolicyValueNet) -> Iterator[nn.Module]:
    """Lends a recording that has the weights of a network, for the length of the block."""
    architecture = model.config, model.tower_dtype
    free = _FREE[architecture]
    with _LOCK:
        shared = _choice(free, model, may_make=_MADE[architecture] < MAX_RECORDINGS)
        if shared is None:
            shared = _SharedRecording(model)
            _MADE[architecture] += 1
        else:
            free.remove(shared)
    if shared.user() is not model:
        shared.use(model)
    try:
        yield shared.recording
    finally:
        with _LOCK:
            free.append(shared)


def _choice(
    free: list[_SharedRecording], model: PolicyValueNet, *, may_make: bool
) -> _SharedRecording | None:
    """Chooses the network's own recording, one whose network is gone, or the longest unused.

    Args:
        free: see `_FREE`.
        model: the network.
        may_make: whether to make another rather than to take one from a network that is in use.
    """
    for wanted in (model, None):
        for shared in free:
            if shared.user() is wanted:
                return shared
    return None if may_make or not free else free[0]
