"""A pull towards the policy that a run began with, through the advantages.

The gradient of the KL divergence from the policy p to a reference policy q is

    grad KL(p || q) = E_{a ~ p} [ (log p(a) - log q(a)) * grad log p(a) ]

since E[grad log p] = 0. So it is a policy gradient whose advantage is -(log p(a) - log q(a)), and

    A' = A - weight * (log p(a) - log q(a))

adds weight * KL(p || q) to what is minimized, within the clip range of PPO like everything else.
The loss itself does not change.

B: rows.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from keisei_ray.config.sections import LearnerConfig
from keisei_ray.learning.gradients import CUDA_ROW_MULTIPLE, ParallelGradients
from keisei_ray.network.model import build_model
from keisei_ray.network.weights import load_arrays, read_network


class StartPolicy:
    """The policy of the network that a run began with."""

    def __init__(self, model_file: bytes, config: LearnerConfig, device: torch.device) -> None:
        """Loads the network.

        Args:
            model_file: content of its `model.safetensors`.
            config: the learner section; precision, threads and micro-batch are the learner's.
            device: where the learner is.

        Raises:
            CheckpointError: it cannot be read.
        """
        arrays, section = read_network(model_file)
        network = build_model(section, seed=0, amp=config.amp)
        load_arrays(network, arrays)
        self._passes = ParallelGradients(
            network.to(device),
            num_threads=config.num_threads or 1,
            micro_batch=config.micro_batch if device.type == "cpu" else None,
            row_multiple=CUDA_ROW_MULTIPLE if device.type == "cuda" else 1,
        )

    def pull(self, fields: Mapping[str, Tensor], num_rows: int, weight: float) -> tuple[float, int]:
        """Penalizes leaving this policy, in the advantages of an update, in place.

        Args:
            fields: [B, ...] rows of the update on the learner's device, see `BATCH_FIELDS`.
            num_rows: rows of the update; those beyond hold old data.
            weight: of the penalty, in the unit of the advantages per nat.

        Returns:
            Sum over the drawn actions of what estimates the KL divergence from the policy that
            played to this one, in nats, and their number.
        """
        rows = torch.arange(num_rows, device=fields["advantages"].device)
        reference = self._passes.log_probs(fields, rows)
        drawn, is_forced = fields["behavior_log_probs"][rows], fields["is_forced"][rows]
        fields["advantages"][rows] = anchored_advantages(
            fields["advantages"][rows], drawn, reference, is_forced, weight
        )
        return divergence_sum(drawn, reference, is_forced), int((~is_forced).sum())


def anchored_advantages(
    advantages: Tensor,
    log_probs: Tensor,
    reference_log_probs: Tensor,
    is_forced: Tensor,
    weight: float,
) -> Tensor:
    """Returns advantages with the penalty on leaving the reference policy.

    Args:
        advantages: [B] float32; weight is in their unit per nat.
        log_probs: [B] log-probability of the action by the policy that drew it.
        reference_log_probs: [B] the same by the reference policy.
        is_forced: [B] bool, rows whose action no policy drew; their advantages stay.
        weight: at least 0.
    """
    penalty = weight * (log_probs - reference_log_probs)
    return advantages - penalty.where(~is_forced, 0.0)


def divergence_sum(log_probs: Tensor, reference_log_probs: Tensor, is_forced: Tensor) -> float:
    """Returns the sum of log p(a) - log q(a) over drawn actions; its mean estimates KL(p || q)."""
    return float((log_probs - reference_log_probs).where(~is_forced, 0.0).sum())
