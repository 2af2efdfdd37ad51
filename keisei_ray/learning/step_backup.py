"""One optimizer step can be undone: copies of the weights and of the optimizer's state.

Costs a copy of the parameters and of Adam's moments for each step (1 MB each for a 4x64 network).
"""

import torch
from torch import Tensor


class StepBackup:
    """Copies of the weights and the optimizer from before the last step."""

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        """Args:
        optimizer: its parameters and its state are what is kept and put back.
        """
        self._optimizer = optimizer
        self._parameters = [p for group in optimizer.param_groups for p in group["params"]]
        self._copies: list[Tensor] = []
        self._is_first_step = False

    def save(self) -> None:
        """Keeps everything that the step to come will change; what was kept before is forgotten."""
        tensors = self._tensors()
        if len(self._copies) != len(tensors):
            self._copies = [torch.empty_like(tensor) for tensor in tensors]
        self._is_first_step = not self._optimizer.state
        torch._foreach_copy_(self._copies, tensors)

    def undo(self) -> None:
        """Puts back what `save` kept."""
        if self._is_first_step:  # The step made the optimizer's state.
            self._optimizer.state.clear()
        torch._foreach_copy_(self._tensors(), self._copies)

    def _tensors(self) -> list[Tensor]:
        """The parameters' data, then the state's tensors, in a fixed order."""
        state = self._optimizer.state
        return [p.detach() for p in self._parameters] + [
            tensor for p in self._parameters if p in state for tensor in state[p].values()
        ]
