"""Signs that training diverges: the updates destroy what was learned.

The limits lie between healthy runs and runs that diverged. The presets `quickstart` and `debug` and
the default network (53 runs, 775 updates, November 2026) had a KL divergence of up to 0.07 and, in
the median of three updates without a policy lag, of up to 0.04; a `clip_fraction` of up to 0.42; a
`value_loss` of up to 1.04; and falls of the entropy of up to 0.5 nats in three updates. A run of 32
actors with a policy lag of 1, whose ratios were clipped against the acting policy, had 0.6 to 1.1,
up to 0.89, and a fall from 3.5 to 2.0 nats in three updates. A learning rate of 1e3 without a KL
stop gave a KL divergence of 1e8 and a value loss of 1e17.

Single updates are noisy, so each sign must last for several. Only a figure that is not finite is a
sign at once.
"""

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import median
from typing import Final

from keisei_ray.telemetry.diagnostics import Diagnostics
from keisei_ray.telemetry.metrics import UpdateMetrics

WINDOW: Final = 3
"""Updates over which the medians are taken, so that one bad update of three is no sign."""
MAX_KL: Final = 0.2
"""Upper limit of the median of `kl_proximal`, in nats: five times that of healthy runs, a third of
that of a bad update. It does not contain the policy lag, unlike `approx_kl`."""
MAX_CLIP_FRACTION: Final = 0.6
"""Upper limit of the median of `clip_fraction`, the geometric middle of 0.42 and 0.89. It counts
only where the KL divergence is above half its limit: a small learner.clip_coef clips most ratios of
a healthy run."""
MAX_VALUE_LOSS: Final = 2.2
"""Upper limit of the median of `value_loss`, in nats. A value head that knows nothing has
log 3 = 1.1; twice as much means that it is sure of the wrong results. A new network is that where
the material count misleads it: on records its first updates had 4.7, 3.1, 1.6 and 1.4. So a loss
that falls from update to update is no sign, and a run that begins with a large one may have up to
`START_FACTOR` times that in its first `LONG_WINDOW` updates, but `MAX_START_VALUE_LOSS` at most.
The loss of a scalar head is never above 2, so there the explained variance is the sign."""
START_FACTOR: Final = 1.5
"""Largest rise of the value loss above its first, where that is large. A run that begins with the
1.1 of an empty value head has reached 1.7 by it, which is below `MAX_VALUE_LOSS`."""
MAX_START_VALUE_LOSS: Final = 10.0
"""Upper limit of the value loss of the first updates, in nats: twice the largest seen, 4.7."""
MAX_ENTROPY_FALL: Final = 1.0
"""Upper limit of the fall of the entropy within `WINDOW` updates, in nats: the middle of 0.5 and
1.5."""
MIN_ENTROPY: Final = 0.1
"""Lower limit of the entropy, in nats, for weights that are worth keeping. Runs that diverged end
below it, with figures that are calm because nothing changes any more; healthy runs end at 0.47 or
more, and a run that collapsed had 0.13."""
LONG_WINDOW: Final = 10
"""Updates over which the median of the explained variance is taken: where few games end, single
updates of healthy runs have values down to -4."""
MIN_EXPLAINED_VARIANCE: Final = -0.3
"""Lower limit of that median. 0 is as good as a constant. Runs of `debug`, whose updates are the
smallest, have medians down to -0.11; the first ten updates on records of `greedy` down to -0.26."""
RECOVERY: Final = 10
"""Updates without sign or doubt after which a run counts as healthy again, and may be found to
diverge again."""


@dataclass(frozen=True)
class Divergence:
    """A run that has just been found to diverge."""

    update: int
    """Update that showed it."""
    signs: str
    """Each sign with its number and what was expected."""
    sound_until: int
    """Timestep of the run before the updates that the signs are from."""


@dataclass(frozen=True)
class _Update:
    """Figures of one update.

    A NaN makes the medians meaningless, but it is a sign itself, and after `RECOVERY` updates
    without a sign no window contains it any more.
    """

    began: int
    """Timestep of the run before the update."""
    kl: float
    clip_fraction: float
    value_loss: float
    entropy: float
    explained_variance: float
    optimizer_steps: int
    not_finite: tuple[str, ...]
    """Names of the figures that are not finite."""


@dataclass
class RunHealth:
    """Judge of a run's updates, one after the other: whether the weights are worth keeping.

    A run diverges when an update shows one of these signs, until there have been `RECOVERY` updates
    without any and without doubts:

    - a figure is not finite,
    - over the last `WINDOW` updates the median of the KL divergence, of the clip fraction or of the
      value loss is above its limit, the entropy has fallen by more than `MAX_ENTROPY_FALL`, or the
      KL stop has undone every optimizer step,
    - over the last `LONG_WINDOW` updates the median of the explained variance is below
      `MIN_EXPLAINED_VARIANCE`.
    """

    trouble: str | None = None
    """Objection to the newest weights; None if they are healthy. One update beyond a limit makes
    them doubtful, although it is a sign of divergence only with others."""
    _recent: deque[_Update] = field(default_factory=lambda: deque(maxlen=LONG_WINDOW))
    _calm_updates: int = RECOVERY
    """Updates since the last sign of divergence."""
    _divergence: str | None = None
    """Signs of the last divergence."""

    @classmethod
    def resumed(cls, trouble: str | None) -> "RunHealth":
        """Returns the judge of a run that goes on from weights with this `trouble`."""
        if trouble is None:
            return cls()
        return cls(trouble, _calm_updates=0, _divergence=trouble)

    def observe(self, metrics: UpdateMetrics, diagnostics: Diagnostics) -> Divergence | None:
        """Takes the next update into account.

        Args:
            metrics: the update's.
            diagnostics: those of the same update.

        Returns:
            What was found, if training has just been found to diverge.
        """
        self._recent.append(_figures(metrics, diagnostics))
        recent = list(self._recent)
        found = ", ".join(_signs_of_divergence(recent))
        was_healthy = self._calm_updates >= RECOVERY
        doubts = ", ".join(_doubts(recent))
        if found:
            self._divergence = f"diverging: {found}"
            self._calm_updates = 0
        elif not doubts:
            self._calm_updates += 1
        if self._calm_updates < RECOVERY:
            self.trouble = self._divergence
        else:
            self.trouble = f"doubtful: {doubts}" if doubts else None
        if not found or not was_healthy:
            return None
        return Divergence(metrics.update, found, self._recent[0].began)


def _figures(metrics: UpdateMetrics, diagnostics: Diagnostics) -> _Update:
    known = {
        "kl_proximal": diagnostics.kl_proximal,
        "approx_kl": metrics.approx_kl,
        "clip_fraction": metrics.clip_fraction,
        "policy_loss": metrics.policy_loss,
        "value_loss": metrics.value_loss,
        "entropy": metrics.entropy,
        "explained_variance": metrics.explained_variance,
        "grad_norm": metrics.grad_norm,
    }
    # None stands for a value that was not finite, where the metrics come from a file.
    values = {name: math.nan if value is None else value for name, value in known.items()}
    return _Update(
        began=metrics.timestep - metrics.batch_timesteps,
        kl=values["kl_proximal"],
        clip_fraction=values["clip_fraction"],
        value_loss=values["value_loss"],
        entropy=values["entropy"],
        explained_variance=values["explained_variance"],
        optimizer_steps=diagnostics.optimizer_steps,
        not_finite=tuple(name for name, value in values.items() if not math.isfinite(value)),
    )


def _signs_of_divergence(recent: Sequence[_Update]) -> list[str]:
    """Returns the signs of divergence, each with its number and what was expected.

    Args:
        recent: the last updates, oldest first, at most `LONG_WINDOW`, at least one.
    """
    signs = _figures_beyond(recent, WINDOW)
    if recent[-1].not_finite:
        return signs
    last = recent[-WINDOW:]
    if len(last) == WINDOW and not any(update.optimizer_steps for update in last):
        signs.append(f"the KL stop undid all optimizer steps of {WINDOW} updates")
    if len(recent) > WINDOW:
        before, now = recent[-WINDOW - 1].entropy, recent[-1].entropy
        if before - now > MAX_ENTROPY_FALL:
            signs.append(
                f"entropy {before:.2f} to {now:.2f} in {WINDOW} updates (expected a fall of up to "
                f"{MAX_ENTROPY_FALL:g})"
            )
    if len(recent) == LONG_WINDOW:
        explained = median(update.explained_variance for update in recent)
        if explained < MIN_EXPLAINED_VARIANCE:
            signs.append(
                f"explained_variance {explained:.2f} (expected at least {MIN_EXPLAINED_VARIANCE})"
            )
    return signs


def _doubts(recent: Sequence[_Update]) -> list[str]:
    """Returns what speaks against the weights after the last of these updates."""
    doubts = _figures_beyond(recent, 1)
    if (entropy := recent[-1].entropy) < MIN_ENTROPY:
        doubts.append(f"entropy {entropy:.2g} (expected at least {MIN_ENTROPY})")
    return doubts


def _figures_beyond(recent: Sequence[_Update], window: int) -> list[str]:
    """Returns the figures whose median over the last `window` updates is beyond its limit."""
    if broken := recent[-1].not_finite:
        return [f"{', '.join(broken)} not finite"]
    signs = []
    last = recent[-window:]
    if len(last) == window:
        kl = median(update.kl for update in last)
        clip_fraction = median(update.clip_fraction for update in last)
        value_loss = median(update.value_loss for update in last)
        if kl > MAX_KL:
            signs.append(f"kl_proximal {kl:.3g} (expected up to {MAX_KL})")
        if clip_fraction > MAX_CLIP_FRACTION and kl > MAX_KL / 2:
            signs.append(f"clip_fraction {clip_fraction:.2f} (expected up to {MAX_CLIP_FRACTION})")
        limit = _max_value_loss(recent)
        if value_loss > limit and not _is_falling(last):
            signs.append(f"value_loss {value_loss:.3g} (expected up to {limit:.3g})")
    return signs


def _max_value_loss(recent: Sequence[_Update]) -> float:
    """Upper limit of the median of the value loss.

    Args:
        recent: the last updates, oldest first; fewer than `LONG_WINDOW` where a run has just begun.
    """
    if len(recent) == LONG_WINDOW:
        return MAX_VALUE_LOSS
    at_start = min(START_FACTOR * recent[0].value_loss, MAX_START_VALUE_LOSS)
    return max(MAX_VALUE_LOSS, at_start)


def _is_falling(updates: Sequence[_Update]) -> bool:
    """Whether the value loss of each of several updates is below that of the one before."""
    losses = [update.value_loss for update in updates]
    return len(losses) > 1 and all(after < before for before, after in pairwise(losses))
