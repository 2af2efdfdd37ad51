"""The steps of one update: every epoch and minibatch of a filled batch, to the end or the KL stop.

`UpdateSteps.make` reads from top to bottom: for each minibatch compute the gradient
(`gradients.py`), add the other learners' parts, clip it, make one optimizer step, and read the
figures of the minibatch, on CUDA one minibatch later.

The learner (`learner.py`) fills the batch before, and undoes an update that failed.

B: rows of the update. M: rows of a minibatch.
"""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from keisei_ray.config.sections import LearnerConfig
from keisei_ray.learning.adamw import AdamW
from keisei_ray.learning.gradients import ParallelGradients
from keisei_ray.learning.kl_stop import is_beyond
from keisei_ray.learning.late_reading import ComingFigures, Step, late
from keisei_ray.learning.learner_group import LearnerGroup
from keisei_ray.learning.ppo import LossCoefs, PPOSums, kl_sums
from keisei_ray.learning.step_backup import StepBackup
from keisei_ray.learning.update_batch import UpdateBatch
from keisei_ray.learning.update_guard import NotFiniteError
from keisei_ray.learning.update_totals import UpdateTotals
from keisei_ray.telemetry.stage_timer import StageTimer

READ_DELAYS = {"cpu": 0, "cuda": 1}
"""Minibatches that are queued behind one before its figures are read, by type of device."""

PROBED_ROWS = 32
"""Rows by which the weights are looked at after the last step of an update: 1% of its cost, or
less."""


class UpdateSteps:
    """Optimizer steps over a batch, each withheld once the update is stopped.

    Attributes:
        is_stopped: 0-dimensional, on the device: 1 once the update is stopped, else 0.
    """

    def __init__(
        self,
        settings: LearnerConfig,
        batch: UpdateBatch,
        gradients: ParallelGradients,
        optimizer: AdamW,
        scaler: torch.amp.GradScaler,
        generator: torch.Generator,
        group: LearnerGroup,
    ) -> None:
        """Args:
        settings: with every hardware-dependent choice made.
        batch: filled anew before each update.
        gradients: of the model whose weights the optimizer changes.
        optimizer: the only one to change them.
        scaler: of the loss, disabled but in float16.
        generator: draws the order of the rows.
        group: the learners that make each update together.
        """
        self._settings = settings
        self._batch = batch
        self._gradients = gradients
        self._optimizer = optimizer
        self._scaler = scaler
        self._generator = generator
        self._group = group
        device = gradients.flat.device
        # The loss scaler decides for itself about each step, so its figures are read at once.
        self._read_delay = 0 if scaler.is_enabled() else READ_DELAYS[device.type]
        # Before a stop is read, the minibatch that shows it and those behind it make a backup too.
        self._backup = StepBackup(optimizer, depth=self._read_delay + 2 if self._read_delay else 1)
        self.is_stopped = torch.zeros((), device=device)
        # The fused optimizer makes no step where this is 1; a loss scaler has its own tensor.
        if not scaler.is_enabled():
            optimizer.found_inf = self.is_stopped  # type: ignore[attr-defined]

    def make(
        self, fields: Mapping[str, Tensor], coefs: LossCoefs[float], timer: StageTimer
    ) -> UpdateTotals:
        """Runs epochs of minibatches over the filled batch, to the end or the KL stop.

        The rule is the same on every device. The first minibatch that shows too large a KL
        divergence, or a loss or gradient that is not finite, stops the update: neither it nor any
        later one makes a step. Steps are withheld by `is_stopped`, a flag on the device, so that
        on CUDA the host may read a minibatch's figures when the next one has already been queued;
        what was queued behind the stop has changed nothing. The step before the KL stop is then
        undone. At the end of an epoch all figures are read, before the next order of rows is drawn.

        Args:
            fields: [B, ...] the rows of the batch, see `UpdateBatch.on_device`.
            coefs: numbers of the loss.
            timer: gets the seconds of gradients and optimizer steps.

        Raises:
            NotFiniteError: the loss, the gradient or an output of the network is not finite.
        """
        totals = UpdateTotals()
        self.is_stopped.zero_()
        for _ in range(self._settings.num_epochs):
            totals.start_epoch()
            for coming in late(self.epoch(fields, coefs, timer), by=self._read_delay):
                if self._ends_update(coming, totals):
                    return totals
                timer.end_stage("gradients_time_s")
        rows = coming.minibatch.rows
        target_kl = self._settings.target_kl
        if target_kl is not None and bool(is_beyond(*self.kl_proximal(fields, rows), target_kl)):
            self._undo_step(totals)
        # No loss has shown what the last step did.
        are_finite = self._gradients.are_outputs_finite(fields, rows[:PROBED_ROWS])
        if self._group.counts(not are_finite) != [0]:
            raise NotFiniteError("the network's outputs are not finite after the last step")
        timer.end_stage("gradients_time_s")
        return totals

    def epoch(
        self, fields: Mapping[str, Tensor], coefs: LossCoefs[float], timer: StageTimer
    ) -> Iterator[ComingFigures]:
        """Queues the gradient and the step of one minibatch after another; waits for none."""
        order = torch.randperm(
            self._batch.update_rows,
            generator=self._generator,
            pin_memory=self.is_stopped.is_cuda,
        )
        for minibatch in self._batch.minibatches(order, self._settings.num_minibatches):
            sums = self._gradients.compute(
                fields,
                minibatch.rows,
                num_rows=minibatch.num_rows,
                loss_scale=self._loss_scale(),
                coefs=coefs,
            )
            sums = self._over_all_learners(sums)
            timer.end_stage("gradients_time_s")
            is_too_far = is_beyond(
                sums.kl_proximal,
                sums.kl_proximal_squares,
                sums.sampled,
                self._settings.target_kl,
            )
            self._stop_if(is_too_far | ~sums.loss.isfinite())
            step = self.step()
            timer.end_stage("optimizer_time_s")
            yield ComingFigures(minibatch, sums, is_too_far, self.is_stopped, step)

    def _over_all_learners(self, sums: PPOSums[Tensor]) -> PPOSums[Tensor]:
        """Adds the other learners' parts to the gradient, in place, and to the sums."""
        if self._group.size == 1:
            return sums
        total = torch.stack(list(sums))
        self._group.sum_(self._gradients.flat, total)
        return PPOSums(*total)

    def _ends_update(self, coming: ComingFigures, totals: UpdateTotals) -> bool:
        """Reads a minibatch's figures and adds them; or undoes the step that was too far.

        Raises:
            NotFiniteError: its loss or its gradient is not finite.
        """
        figures = coming.read()
        if figures.is_beyond:
            self._undo_step(totals)
            return True
        totals.add_minibatch(figures.sums, coming.minibatch.num_rows)
        if figures.is_stopped:
            raise NotFiniteError(f"the gradient's norm is {figures.grad_norm} {totals.place}")
        if coming.step.is_skipped:
            totals.skipped_steps += 1
        else:
            totals.grad_norms.append(figures.grad_norm)
            totals.last_save = coming.step.save
        return False

    def kl_proximal(
        self, fields: Mapping[str, Tensor], rows: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Sums of kl_proximal and of its squares over the sampled ones of `rows`; their number.

        By the weights now: for the last step of an update, which no further minibatch follows.
        """
        sampled = rows[~fields["is_forced"][rows]]
        log_ratio = (
            self._gradients.log_probs(fields, sampled) - fields["proximal_log_probs"][sampled]
        )
        kl, squares = kl_sums(log_ratio)
        found = torch.stack([kl, squares, kl.new_tensor(len(sampled))])
        self._group.sum_(found)
        return found[0], found[1], found[2]

    def _undo_step(self, totals: UpdateTotals) -> None:
        """Takes back the update's last optimizer step, if it made one."""
        if totals.grad_norms:
            self._backup.undo(totals.last_save)
            totals.grad_norms.pop()
            totals.steps_undone += 1

    def _loss_scale(self) -> torch.Tensor | None:
        """The factor on the loss of a minibatch in float16; None where nothing is scaled."""
        if not self._scaler.is_enabled():
            return None
        scale: torch.Tensor = self._scaler.scale(torch.ones((), device=self.is_stopped.device))
        return scale

    def _stop_if(self, condition: Tensor) -> None:
        """Withholds this and all later steps of the update if a condition on the device holds."""
        self.is_stopped.add_(condition).clamp_(max=1)

    def step(self) -> Step:
        """Unscales and clips the gradient, makes one step, updates the scale: in that order.

        Where figures are read at once, nothing of that is done in an update that was stopped.
        """
        if not self._read_delay and bool(self.is_stopped):
            return Step(grad_norm=torch.zeros_like(self.is_stopped))
        scale = self._scaler.get_scale()
        # Before `unscale_`, which may not be called again if memory does not suffice here.
        save = self._backup.save() if self._settings.target_kl is not None else 0
        self._scaler.unscale_(self._optimizer)
        gradient = self._gradients.flat
        norm = gradient.norm()
        # The loss scaler skips a step whose scaled gradient overflows, and lowers the scale. At a
        # scale of 1 it is the gradient itself that is not finite.
        if not (self._scaler.is_enabled() and scale > 1):
            self._stop_if(~norm.isfinite())
        limit = self._settings.max_grad_norm
        is_clipped = norm.isfinite() & (norm > limit)
        gradient.mul_(torch.where(is_clipped, limit / (norm.double() + 1e-6), 1.0))
        self._scaler.step(self._optimizer)
        self._scaler.update()
        return Step(norm, save, is_skipped=self._scaler.get_scale() < scale)
