"""The learner: takes packed rollouts, makes one PPO update, and publishes the next weights.

`Learner.update` reads from top to bottom as one update: unpack and check the rollouts, fill the
update's rows (`update_batch.py`), then make one optimizer step after another
(`update_steps.py`), or undo them all (`update_guard.py`).

Several learners (`learner_group.py`) make the same update as one, up to float error: each unpacks
its share of the rollouts and computes its part of every gradient, and the parts are added up.

The learner is the only owner of the weights, the optimizer, the loss scaler, the learning-rate
schedule, the order of minibatches and the weights version. This module does not know Ray: an actor
wraps it (`distributed/actors.py`), tests and the benchmark call it.
"""

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from keisei_ray.config.schema import Config
from keisei_ray.config.sections import LearnerConfig
from keisei_ray.errors import (
    CheckpointError,
    ConfigError,
    DeviceMemoryError,
    NumericalError,
)
from keisei_ray.learning.adamw import AdamW
from keisei_ray.learning.advantages import explained_share
from keisei_ray.learning.flat_layout import FlatLayout
from keisei_ray.learning.gradients import CUDA_ROW_MULTIPLE, ParallelGradients
from keisei_ray.learning.learner_group import LearnerGroup
from keisei_ray.learning.learner_state import copied_state, not_fitting, read_learner_state
from keisei_ray.learning.muon import Muon
from keisei_ray.learning.ppo import LossCoefs
from keisei_ray.learning.received import Received, checked_lags, unpack_all
from keisei_ray.learning.schedules import (
    adapted_learning_rate,
    resumed_learning_rate,
    scheduled_ent_coef,
    scheduled_kl_start_coef,
    scheduled_learning_rate,
)
from keisei_ray.learning.snapshot import LearnerSnapshot
from keisei_ray.learning.start_anchor import StartPolicy
from keisei_ray.learning.update_batch import UpdateBatch
from keisei_ray.learning.update_guard import NotFiniteError, UpdateGuard, check_finite
from keisei_ray.learning.update_steps import UpdateSteps
from keisei_ray.learning.update_totals import UpdateTotals
from keisei_ray.network.compiling import can_compile
from keisei_ray.network.cpu_process import prepare_cpu
from keisei_ray.network.growing import check_growth, grown
from keisei_ray.network.model import build_model
from keisei_ray.network.short_memory import is_short_of_memory, shortage
from keisei_ray.network.weights import (
    HostWeights,
    check_architecture,
    host_weights,
    load_arrays,
    read_model_file,
    read_model_metadata,
    read_network,
    state_arrays,
)
from keisei_ray.rollouts.packed_buffer import BufferLike, PackedBuffer
from keisei_ray.storage.run_layout import LEARNER_FILE, MODEL_FILE
from keisei_ray.telemetry.reports import UndoneUpdate, UpdateReport, UpdateStages
from keisei_ray.telemetry.stage_timer import StageTimer

Result = TypeVar("Result")


@contextlib.contextmanager
def _having_memory() -> Iterator[None]:
    """Turns an error that says that memory is short into one for the user.

    Raises:
        DeviceMemoryError: memory is short, on the device or on the host.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_short_of_memory(error):
            raise
        raise DeviceMemoryError(
            f"The learner does not get the memory that it needs: {shortage(error)}. No checkpoint "
            "is at fault. Leave it more of its GPU or its machine, beside other programs and "
            "self-play, or choose a smaller model or update; then start again, by --resume latest "
            "if the run has a checkpoint."
        ) from error


class Learner:
    """One model under training, on one device.

    Attributes:
        model: the network; its weights change with every update.
        weights_version: updates behind the weights, those of earlier sessions included.
    """

    @_having_memory()
    def __init__(self, config: Config, group: LearnerGroup | None = None) -> None:
        """Builds the model and its optimizer; sets torch's threads or TF32 for the whole process.

        Args:
            config: with every hardware-dependent choice made (`autosize.resolve_auto`).
            group: the learners that make each update together. None: this one alone.

        Raises:
            ConfigError: a CUDA device is asked for where torch sees none.
            DeviceMemoryError: memory is short.
        """
        c = config.learner
        if c.device == "cuda" and not torch.cuda.is_available():
            raise ConfigError(
                "learner.device = 'cuda', but torch sees no CUDA device in the learner's process. "
                "Use learner.device = 'cpu' or a machine with a GPU."
            )
        self._config = config
        self._group = group or LearnerGroup()
        self._device = torch.device(c.device)
        if self._device.type == "cpu":
            prepare_cpu(1)  # Parallelism comes from the replicas.
        else:
            torch.backends.cuda.matmul.allow_tf32 = True
            torch.backends.cudnn.allow_tf32 = True
            torch.backends.cudnn.benchmark = True
        model = build_model(config.model, seed=config.run.seed, amp=c.amp)
        self.model = model.to(self._device)
        self._layout = FlatLayout.of(self.model)
        weights = self._layout.flatten_weights(self.model)
        assert c.num_threads is not None, "learner.num_threads is resolved before the learner"
        self._gradients = ParallelGradients(
            self.model,
            num_threads=c.num_threads,
            micro_batch=c.micro_batch if self._device.type == "cpu" else None,
            row_multiple=CUDA_ROW_MULTIPLE if self._device.type == "cuda" else 1,
            is_compiled=self._device.type == "cuda" and c.compile == "auto" and can_compile(),
        )
        weights.grad = self._gradients.flat
        self._optimizer = _make_optimizer(c, weights, self._layout)
        self._scaler = torch.amp.GradScaler(self._device.type, enabled=c.amp == "fp16")
        self._generator = torch.Generator().manual_seed(config.run.seed)
        self._guard = UpdateGuard(
            self.model,
            self._optimizer,
            self._scaler,
            self._generator,
            c.learning_rate,
            self._layout,
        )
        rollouts = config.effective_rollouts_per_update  # None: as many as the cluster plays.
        self._batch = UpdateBatch(
            (rollouts or 1) * config.timesteps_per_rollout,
            self._device,
            takes_multiples=rollouts is None,
            group=self._group,
        )
        self._steps = UpdateSteps(
            c,
            self._batch,
            self._gradients,
            self._optimizer,
            self._scaler,
            self._generator,
            self._group,
        )
        self._is_micro_batch_halved = False
        self._start: StartPolicy | None = None
        self.weights_version = 0
        self._on_host: HostWeights | None = None
        """The current weights, once they have been asked for since they last changed."""

    def update(self, buffers: Sequence[BufferLike], timestep: int) -> UpdateReport:
        """Makes `num_epochs` passes over the rollouts and raises `weights_version` by 1.

        The weights do not change unless every buffer is a valid rollout within the lag limit, and
        loss, gradients, the new weights and their outputs are finite.

        Of several learners, each is given its share of the rollouts, in the order of their ranks.

        Args:
            buffers: packed rollouts; their rows enter the update in this order.
            timestep: the run's timestep before this update; sets the learning rate and the weight
                of the entropy bonus.

        Returns:
            Figures of the update, the same for all learners but for times. `weights_bytes_wire` and
            `publish_time_s` are 0: they are known only when the weights are packed.

        Raises:
            RejectedRolloutsError: some of the buffers, or of another learner's, are not valid
                rollouts.
            PolicyLagError: a rollout is older than `schedule.max_policy_lag` allows.
            EmptyUpdateError, RolloutFormatError: see `UpdateBatch.fill`.
            NumericalError: several updates in a row made something infinite or not a number and
                were undone, see `UpdateGuard`. The learner is as it was before them.
            DeviceMemoryError: the device's memory does not suffice for half of a minibatch. The
                learner is as it was before the update.
            PeerLostError: another learner is gone.
        """
        started = time.perf_counter()
        timer = StageTimer()
        c = self._config.learner
        with self._group.agreeing():
            rollouts = unpack_all(buffers, self._config.timesteps_per_rollout)
            lags = checked_lags(rollouts, self.weights_version, self._config.effective_max_lag)
        timer.end_stage("unpack_time_s")
        explained = self._batch.fill(rollouts, gamma=c.gamma, gae_lambda=c.gae_lambda)
        if c.normalize_advantages:
            self._batch.normalize_advantages()
        timer.end_stage("advantages_time_s")
        progress = timestep / self._config.run.total_timesteps
        learning_rate = self._learning_rate(progress)
        ent_coef = scheduled_ent_coef(c, progress)
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate
        coefs = LossCoefs(
            clip_coef=c.clip_coef,
            max_importance_weight=c.max_importance_weight,
            mate_coef=1.0 if self._config.pretrain.records else c.mate_coef,
            vf_coef=c.vf_coef,
            ent_coef=ent_coef,
        )
        fields = self._batch.on_device()
        kl_start_coef = scheduled_kl_start_coef(c, progress)
        kl_start = None
        if kl_start_coef:
            assert self._start is not None, "pull_to comes before the first update"
            total, drawn = self._group.sums(
                *self._start.pull(fields, self._batch.rows, kl_start_coef)
            )
            kl_start = total / max(1.0, drawn)

        def make() -> tuple[UpdateTotals, UndoneUpdate | None]:
            self._gradients.prepare()
            self._recompute_stale_log_probs(fields, lags)
            timer.end_stage("gradients_time_s")
            return self._optimize_or_undo(fields, coefs, timer)

        (totals, undone), notice = self._within_memory(make)
        if self._config.pretrain.records:  # No values were acted on: those of the minibatches.
            explained = explained_share(totals.value_error_variance, self._batch.target_variance())
        self.weights_version += 1
        received = Received.by_all(rollouts, buffers, lags, self._group)
        return UpdateReport(
            weights_version=self.weights_version,
            batch_timesteps=self._batch.timesteps,
            rollout_bytes_raw=received.raw_bytes,
            rollout_bytes_wire=received.wire_bytes,
            weights_bytes_wire=0,
            explained_variance=explained,
            learning_rate=learning_rate,
            ent_coef=ent_coef,
            amp_dtype=c.amp,
            amp_scale=float(self._scaler.get_scale()) if self._scaler.is_enabled() else None,
            policy_lag_mean=received.lag_mean,
            policy_lag_max=received.lag_max,
            update_time_s=time.perf_counter() - started,
            publish_time_s=0.0,
            stages=UpdateStages(
                unpack_time_s=timer.seconds["unpack_time_s"],
                advantages_time_s=timer.seconds["advantages_time_s"],
                gradients_time_s=timer.seconds["gradients_time_s"],
                optimizer_time_s=timer.seconds["optimizer_time_s"],
            ),
            policy_loss=totals.per_row(
                totals.policy_loss if totals.sampled_rows else totals.mate_loss
            ),
            mate_loss=totals.mate_loss / max(1.0, totals.rows - totals.sampled_rows),
            value_loss=totals.per_row(totals.value_loss),
            entropy=totals.per_row(totals.entropy),
            clip_fraction=totals.clipped_rows / max(1.0, totals.sampled_rows),
            truncated_weights=totals.truncated_weights / max(1.0, totals.sampled_rows),
            kl_proximal=totals.mean_kl_proximal,
            approx_kl=totals.epoch_kl_behavior / max(1.0, totals.epoch_sampled_rows),
            forced_timesteps=self._batch.forced_rows,
            grad_norm=float(np.mean(totals.grad_norms)) if totals.grad_norms else 0.0,
            # approx_kl is (log ratio)^2 / 2 to second order.
            first_log_ratio=math.sqrt(max(0.0, 2 * totals.first_kl_behavior)),
            steps_undone=totals.steps_undone,
            amp_skipped=totals.skipped_steps,
            optimizer_steps=len(totals.grad_norms),
            undone=undone,
            kl_start=kl_start,
            kl_start_coef=kl_start_coef,
            notice=notice,
        )

    @_having_memory()
    def snapshot(self) -> LearnerSnapshot:
        """Copies the current version. Waits for the device.

        Raises:
            DeviceMemoryError: memory is short.
            NumericalError: a weight or the optimizer's state is not finite.
        """
        try:
            check_finite(self.model, self._optimizer, self._layout)
        except NotFiniteError as error:
            raise NumericalError(f"{error}: such a state is not saved.") from error
        weights = self._host_weights()
        return LearnerSnapshot(
            # Those of a model on the CPU are the model's own, which the next update changes.
            weights.copied() if self._device.type == "cpu" else weights,
            self.weights_version,
            copied_state(
                self.weights_version,
                self._optimizer,
                self._layout,
                self._scaler,
                self._generator,
                self._guard.halved_rate,
                self._config.learner.learning_rate,
            ),
        )

    def weights(self) -> PackedBuffer:
        """Returns the current weights as a packed buffer, see `LearnerSnapshot`."""
        return self.snapshot().packed_weights(self._config.wire)

    def weights_digest(self) -> str:
        """Returns the SHA-256 digest of the current weights, see `weights.digest`."""
        return self._host_weights().digest

    def _host_weights(self) -> HostWeights:
        """The current weights on the host, copied once a version."""
        if self._on_host is None:
            self._on_host = host_weights(self.model)
        return self._on_host

    def state_files(self) -> dict[str, bytes]:
        """Returns the current state as files, see `LearnerSnapshot`."""
        return self.snapshot().state_files()

    @_having_memory()
    def load_state_files(self, files: Mapping[str, bytes]) -> None:
        """Loads the `state_files` of a learner with the same model section.

        The optimizer's settings (learning rate, epsilon, weight decay) stay those of this
        configuration. An adaptive learning rate goes on from the saved one, see
        `resumed_learning_rate`.

        Args:
            files: name -> content; other files than the learner's are ignored.

        Raises:
            CheckpointError: a file is missing, unreadable, of another architecture, or holds
                numbers that are not finite. Nothing has changed.
            DeviceMemoryError: memory is short. Part of the state may have been loaded.
        """
        for name in (MODEL_FILE, LEARNER_FILE):
            if name not in files:
                raise CheckpointError(f"the checkpoint has no {name}; it cannot be resumed from.")
        arrays = read_model_file(files[MODEL_FILE])
        metadata = read_model_metadata(files[MODEL_FILE])
        check_architecture(self.model, metadata.get("architecture", ""))
        state = read_learner_state(
            files[LEARNER_FILE], self._optimizer, self._layout, self._generator, self._device
        )
        load_arrays(self.model, arrays)
        self._on_host = None
        self._optimizer.load_state_dict(state.optimizer)
        if state.scaler and self._scaler.is_enabled():
            try:
                self._scaler.load_state_dict(state.scaler)
            except KeyError as error:
                raise CheckpointError(not_fitting(error)) from error
        self._generator.set_state(state.generator)
        self._guard.halved_rate = state.halved_rate
        if self._config.learner.lr_schedule == "adaptive":
            for group in self._optimizer.param_groups:
                group["lr"] = resumed_learning_rate(
                    self._config.learner, group["lr"], state.learning_rate, self._guard.rate_factor
                )
        self.weights_version = state.weights_version

    @_having_memory()
    def begin_as(self, model_file: bytes) -> None:
        """Takes over the weights of a network of the same size or a smaller one; nothing else.

        Args:
            model_file: content of its `model.safetensors`.

        Raises:
            CheckpointError: it cannot be read, or this network cannot compute what it does.
                Nothing has changed.
            DeviceMemoryError: memory is short.
        """
        arrays, old = read_network(model_file)
        check_growth(old, self._config.model)
        load_arrays(self.model, grown(arrays, state_arrays(self.model)))
        self._on_host = None

    @_having_memory()
    def pull_to(self, model_file: bytes) -> None:
        """Makes a network the one that `learner.kl_start_coef` pulls towards.

        Args:
            model_file: content of its `model.safetensors`.

        Raises:
            CheckpointError: it cannot be read.
            DeviceMemoryError: memory is short.
        """
        self._start = StartPolicy(model_file, self._config.learner, self._device)

    def _learning_rate(self, progress: float) -> float:
        """Learning rate of the next update. An adaptive one is a state, kept by the optimizer."""
        if self._config.learner.lr_schedule == "adaptive":
            return float(self._optimizer.param_groups[0]["lr"])
        return self._guard.rate_factor * scheduled_learning_rate(self._config.learner, progress)

    def _adapt_learning_rate(self, totals: UpdateTotals) -> None:
        """Sets the adaptive learning rate of the next update."""
        # After the KL stop the change that is left is small, but the steps were too large.
        kl = math.inf if totals.steps_undone else totals.mean_kl_proximal
        for group in self._optimizer.param_groups:
            group["lr"] = adapted_learning_rate(self._config.learner, group["lr"], kl)

    def _recompute_stale_log_probs(self, fields: Mapping[str, Tensor], lags: Sequence[int]) -> None:
        """Writes `proximal_log_probs` of the rollouts that older weights played.

        Without lag the behavior policy is the learner's own, and its log-probabilities stand there
        already.
        """
        if self._config.pretrain.records:  # No move was drawn from a policy: there is no ratio.
            return
        stale = [rows for rows, lag in zip(self._batch.rollout_rows, lags, strict=True) if lag > 0]
        if stale:
            rows = torch.cat([torch.arange(r.start, r.stop) for r in stale]).to(self._device)
            fields["proximal_log_probs"][rows] = self._gradients.log_probs(fields, rows)

    def _within_memory(self, make: Callable[[], Result]) -> tuple[Result, str]:
        """Makes an update; if the device's memory does not suffice, again with fewer rows at once.

        Args:
            make: makes the update, or raises and leaves everything as it was.

        Returns:
            What `make` returns, and a notice for the user, if there is something to say.

        Raises:
            DeviceMemoryError: the memory did not suffice a second time; of several learners: once.
        """
        try:
            return make(), ""
        except torch.OutOfMemoryError as error:
            cause = shortage(error)
            if self._is_micro_batch_halved or self._group.size > 1:
                # Several learners: the others are in the middle of the update.
                raise DeviceMemoryError(
                    f"The learner's device has too little memory: {cause}. Half of a minibatch at "
                    "a time was too much too, or something else took the memory, or there are "
                    "several learners, which do not try again. The newest finished update is "
                    "saved: go on by --resume latest with a larger --set "
                    "learner.num_minibatches=... or a smaller model, and with less beside the "
                    "learner on its GPU."
                ) from error
        # Only here, where the error no longer holds the tensors of the failed pass.
        minibatch = math.ceil(self._batch.rows / self._config.learner.num_minibatches)
        rows = self._gradients.halve_micro_batch(minibatch)
        self._is_micro_batch_halved = True
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
        result, _ = self._within_memory(make)
        return result, (
            f"The learner's device has too little memory: {cause}. From now on it processes {rows} "
            "rows at a time, half as many."
        )

    def _optimize_or_undo(
        self, fields: Mapping[str, Tensor], coefs: LossCoefs[float], timer: StageTimer
    ) -> tuple[UpdateTotals, UndoneUpdate | None]:
        """Makes the update, or leaves everything as it was before it; sets the adaptive rate.

        Raises:
            NumericalError: too many updates in a row had to be undone.
        """
        rate = self._optimizer.param_groups[0]["lr"]
        is_adaptive = self._config.learner.lr_schedule == "adaptive"
        self._on_host = None
        self._guard.begin()
        try:
            totals = self._steps.make(fields, coefs, timer)
            self._guard.accept()
        except torch.OutOfMemoryError:
            self._guard.restore()
            raise
        except NotFiniteError as error:
            undone = self._guard.undo(error, update=self.weights_version + 1, learning_rate=rate)
            if is_adaptive and undone.is_rate_halved:
                for group in self._optimizer.param_groups:
                    group["lr"] = rate / 2
            return UpdateTotals(), undone
        if is_adaptive:
            self._adapt_learning_rate(totals)
        return totals, None


def _make_optimizer(c: LearnerConfig, weights: nn.Parameter, layout: FlatLayout) -> AdamW:
    """Makes the optimizer of the flat weights whose layout is given."""
    if c.optimizer == "muon":
        return Muon(
            weights, layout, lr=c.learning_rate, eps=c.adam_eps, weight_decay=c.weight_decay
        )
    return AdamW(weights, lr=c.learning_rate, eps=c.adam_eps, weight_decay=c.weight_decay)
