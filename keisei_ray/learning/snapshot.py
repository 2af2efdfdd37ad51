"""A copy of the learner's newest version, to be packed while the next update runs."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from keisei_ray.config.sections import WireConfig
from keisei_ray.learning.learner_state import write_learner_state
from keisei_ray.network.weights import HostWeights, pack_host_weights, write_model_file
from keisei_ray.rollouts.packed_buffer import PackedBuffer
from keisei_ray.storage.run_layout import LEARNER_FILE, MODEL_FILE


@dataclass(frozen=True)
class LearnerSnapshot:
    """Weights and state of one version, on the host and shared with no learner."""

    weights: HostWeights
    weights_version: int
    """Updates behind the weights."""
    state: Mapping[str, Any]
    """Content of the learner's file, see `learner_state.copied_state`."""

    def packed_weights(self, wire: WireConfig) -> PackedBuffer:
        """Returns the weights as a packed buffer with their version and digest."""
        return pack_host_weights(
            self.weights,
            self.weights_version,
            weights_format=wire.weights_format,
            zstd_level=wire.zstd_level,
        )

    def state_files(self) -> dict[str, bytes]:
        """Returns everything that a later learner needs to continue, as files: name -> content."""
        return {
            MODEL_FILE: write_model_file(self.weights, self.weights_version),
            LEARNER_FILE: write_learner_state(self.state),
        }
