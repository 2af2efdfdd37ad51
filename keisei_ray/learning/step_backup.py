"""The newest optimizer steps can be undone: copies of the weights and of the optimizer's state.

Costs a copy of the parameters and of Adam's moments for each step (1 MB each for a 4x64 network).
"""

import torch
from torch import Tensor


class StepBackup:
    """Copies of the weights and the optimizer from before each of the last steps."""

    def __init__(self, optimizer: torch.optim.Optimizer, *, depth: int = 1) -> None:
        """Args:
        optimizer: its parameters and its state are what is kept and put back.
        depth: number of copies kept.
        """
        self._optimizer = optimizer
        self._parameters = [p for group in optimizer.param_groups for p in group["params"]]
        self._kept = [_Copy() for _ in range(depth)]
        self._saves = 0

    def save(self) -> int:
        """Keeps everything that the step to come will change, in place of the oldest copy.

        Returns:
            Number of this copy, for `undo`.
        """
        number = self._saves
        self._saves += 1
        kept = self._kept[number % len(self._kept)]
        tensors = self._tensors()
        if len(kept.tensors) != len(tensors):
            kept.tensors = [torch.empty_like(tensor) for tensor in tensors]
        kept.is_before_first_step = not self._optimizer.state
        torch._foreach_copy_(kept.tensors, tensors)
        return number

    def undo(self, number: int) -> None:
        """Puts back what that `save` kept, one of the last `depth` ones."""
        assert 0 < self._saves - number <= len(self._kept), f"copy {number} of {self._saves}"
        kept = self._kept[number % len(self._kept)]
        if kept.is_before_first_step:  # The step made the optimizer's state.
            self._optimizer.state.clear()
        torch._foreach_copy_(self._tensors(), kept.tensors)

    def _tensors(self) -> list[Tensor]:
        """The parameters' data, then the state's tensors, in a fixed order."""
        state = self._optimizer.state
        return [p.detach() for p in self._parameters] + [
            tensor for p in self._parameters if p in state for tensor in state[p].values()
        ]


class _Copy:
    """Weights and optimizer's state from before one step."""

    def __init__(self) -> None:
        """Makes an empty copy; `StepBackup.save` fills it."""
        self.tensors: list[Tensor] = []
        self.is_before_first_step = False
