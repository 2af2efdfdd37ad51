"""Sums over the minibatches of an update, and the means that its report is made of."""

import math
from dataclasses import dataclass, field

from keisei_ray.learning.ppo import PPOSums
from keisei_ray.learning.update_guard import NotFiniteError


@dataclass
class UpdateTotals:
    """Sums over the minibatches of one update that a step followed."""

    rows: int = 0
    """Rows of all minibatches: a row counts once for every epoch."""
    sampled_rows: float = 0.0
    """Rows among them whose ply the policy chose."""
    policy_loss: float = 0.0
    """Sum over rows, as are the next five; see `PPOSums`."""
    mate_loss: float = 0.0
    value_loss: float = 0.0
    value_errors: float = 0.0
    value_error_squares: float = 0.0
    entropy: float = 0.0
    clipped_rows: float = 0.0
    """Number of rows whose ratio was outside the clip range."""
    truncated_weights: float = 0.0
    """Number of rows whose importance weight was cut."""
    epoch_sampled_rows: float = 0.0
    """Sampled rows of the last epoch that has any: the KL stop may come at the first minibatch."""
    epoch_kl_proximal: float = 0.0
    """Sum of kl_proximal over the rows of that epoch."""
    epoch_kl_behavior: float = 0.0
    """Sum of kl_behavior over the rows of that epoch."""
    first_kl_behavior: float = 0.0
    """Mean kl_behavior of the first minibatch."""
    grad_norms: list[float] = field(default_factory=list)
    """L2 norm of the gradient before clipping, of every optimizer step made and not undone."""
    skipped_steps: int = 0
    """Optimizer steps that the loss scaler skipped."""
    last_save: int = 0
    """Number of the backup from before the last optimizer step, see `StepBackup`."""
    steps_undone: int = 0
    """Optimizer steps undone by the KL stop: 0 or 1."""
    _is_epoch_new: bool = False
    """Whether an epoch has begun and none of its minibatches has been added."""

    @property
    def place(self) -> str:
        """Place in the update, for a message."""
        return f"in optimizer step {len(self.grad_norms) + self.skipped_steps + 1}"

    def per_row(self, total: float) -> float:
        """Mean over the rows of a sum; NaN where there are none, as of an update undone."""
        return total / self.rows if self.rows else math.nan

    @property
    def value_error_variance(self) -> float:
        """Variance over the rows of value target minus value; NaN where there are none."""
        return self.per_row(self.value_error_squares) - self.per_row(self.value_errors) ** 2

    @property
    def mean_kl_proximal(self) -> float:
        """Mean kl_proximal of the sampled rows of the last epoch that has any, in nats."""
        return self.epoch_kl_proximal / max(1.0, self.epoch_sampled_rows)

    def start_epoch(self) -> None:
        """Lets the next minibatch be the first of an epoch."""
        self._is_epoch_new = True

    def add_minibatch(self, sums: PPOSums[float], rows: int) -> None:
        """Adds the sums of a minibatch.

        Raises:
            NotFiniteError: the loss is not finite.
        """
        if not math.isfinite(sums.loss):
            raise NotFiniteError(
                f"the loss is {sums.loss} {self.place} (policy {sums.policy_loss:g}, mates "
                f"{sums.mate_loss:g}, value {sums.value_loss:g}, entropy {sums.entropy:g})"
            )
        if self._is_epoch_new:
            self.epoch_sampled_rows = self.epoch_kl_proximal = self.epoch_kl_behavior = 0.0
            self._is_epoch_new = False
        if self.rows == 0:
            self.first_kl_behavior = sums.kl_behavior / max(1.0, sums.sampled)
        self.rows += rows
        self.sampled_rows += sums.sampled
        self.policy_loss += sums.policy_loss
        self.mate_loss += sums.mate_loss
        self.value_loss += sums.value_loss
        self.value_errors += sums.value_errors
        self.value_error_squares += sums.value_error_squares
        self.entropy += sums.entropy
        self.clipped_rows += sums.clipped
        self.truncated_weights += sums.truncated_weights
        self.epoch_sampled_rows += sums.sampled
        self.epoch_kl_proximal += sums.kl_proximal
        self.epoch_kl_behavior += sums.kl_behavior
