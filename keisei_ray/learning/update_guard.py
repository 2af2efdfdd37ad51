"""A guard on updates: one that makes something infinite or not a number is undone as a whole.

An update that is undone leaves weights, optimizer, loss scaler and random generator as they were.
`PATIENCE` of them in a row halve the learning rate, once for each `learner.learning_rate`. As many
again end the run with a `NumericalError`.
"""

from typing import Final

import torch
from torch import nn

from keisei_ray.errors import NumericalError
from keisei_ray.learning.flat_layout import FlatLayout
from keisei_ray.learning.step_backup import StepBackup
from keisei_ray.telemetry.reports import UndoneUpdate

PATIENCE: Final = 3
"""Updates undone in a row after which the learning rate is halved, or the run ends."""


class NotFiniteError(Exception):
    """Something in an update is infinite or not a number; the message says what, and where."""


class UpdateGuard:
    """State of the learner from before an update, and the number of updates undone in a row.

    Attributes:
        halved_rate: the `learner.learning_rate` that has been halved; None: none has.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        scaler: torch.amp.GradScaler,
        generator: torch.Generator,
        learning_rate: float,
        layout: FlatLayout,
    ) -> None:
        """Args:
        model: the network under training.
        optimizer: the learner's, of one flat parameter of all trained weights.
        scaler: the learner's.
        generator: the learner's.
        learning_rate: the setting `learner.learning_rate`.
        layout: of the optimizer's parameter.
        """
        self._model = model
        self._layout = layout
        self._optimizer = optimizer
        self._scaler = scaler
        self._generator = generator
        self._setting = learning_rate
        self._backup = StepBackup(optimizer)
        self._in_a_row = 0
        self.halved_rate: float | None = None

    @property
    def rate_factor(self) -> float:
        """Factor on every learning rate: 0.5 once the setting has been halved.

        Another `learner.learning_rate`, given on a resume, counts as it stands.
        """
        return 0.5 if self.halved_rate == self._setting else 1.0

    def begin(self) -> None:
        """Keeps everything that the update to come may change."""
        self._save = self._backup.save()
        self._scaler_state = self._scaler.state_dict()
        self._generator_state = self._generator.get_state()

    def accept(self) -> None:
        """Takes the update that has just been made as a good one.

        Raises:
            NotFiniteError: a weight or the optimizer's state is not finite.
        """
        check_finite(self._model, self._optimizer, self._layout)
        self._in_a_row = 0

    def restore(self) -> None:
        """Puts back what `begin` kept."""
        self._backup.undo(self._save)
        self._scaler.load_state_dict(self._scaler_state)
        self._generator.set_state(self._generator_state)

    def undo(self, cause: NotFiniteError, *, update: int, learning_rate: float) -> UndoneUpdate:
        """Undoes the update for a cause, and halves the learning rate if that is due.

        Args:
            cause: what is not finite.
            update: weights version that the update was to make.
            learning_rate: learning rate of the update.

        Raises:
            NumericalError: too many updates in a row were undone.
        """
        self.restore()
        self._in_a_row += 1
        if self._in_a_row < PATIENCE:
            return UndoneUpdate(str(cause), is_rate_halved=False)
        if self.rate_factor < 1:
            raise NumericalError(
                f"{PATIENCE} updates in a row were undone, although learner.learning_rate = "
                f"{self._setting:g} had been halved. Update {update}, at a learning rate of "
                f"{learning_rate:.3g}: {cause}. The weights from before are saved: go on by "
                "--resume latest with a lower --set learner.learning_rate=..., or with other "
                "settings of the loss if it is they that are too large."
            ) from cause
        self._in_a_row = 0
        self.halved_rate = self._setting
        return UndoneUpdate(str(cause), is_rate_halved=True)


def check_finite(model: nn.Module, optimizer: torch.optim.Optimizer, layout: FlatLayout) -> None:
    """Checks the weights and the optimizer's state; one transfer from the device.

    Args:
        model: its trained weights are views of the optimizer's one parameter.
        optimizer: of one flat parameter.
        layout: of that parameter.

    Raises:
        NotFiniteError: names the first tensor with an infinite value or one that is not a number.
    """
    (weights,) = optimizer.param_groups[0]["params"]
    state = optimizer.state.get(weights, {})
    trained = {place.name for place in layout.places}
    others = [tensor for name, tensor in model.state_dict().items() if name not in trained]
    flat = [weights, *others, *state.values()]
    if all(torch.stack([torch.isfinite(tensor).all() for tensor in flat]).tolist()):
        return
    named = [(f"the weight {name}", tensor) for name, tensor in model.state_dict().items()]
    for key, whole in state.items():
        parts = [whole] if not whole.ndim else layout.views(whole)
        named += [
            (f"the optimizer's {key} of {place.name}", part)
            for place, part in zip(layout.places, parts, strict=False)
        ]
    first = next(name for name, tensor in named if not torch.isfinite(tensor).all())
    raise NotFiniteError(f"{first} is not finite after its last step")
