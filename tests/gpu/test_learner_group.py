"""One of two learners on a GPU, where the other has no rollout and adds nothing."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import distributed
from torch.distributed import FileStore  # type: ignore[attr-defined]

from keisei_ray.learning.learner import Learner
from keisei_ray.learning.learner_group import LearnerGroup, join_group
from keisei_ray.network.weights import state_arrays
from tests.helpers.tiny import N, T, played, tiny_config

pytestmark = pytest.mark.filterwarnings("ignore:.*TF32.*:UserWarning")


@pytest.fixture
def group(device: torch.device, tmp_path: Path) -> Iterator[LearnerGroup]:
    """A group of NCCL with a single member, which takes itself for the first of two."""
    group = join_group(FileStore(str(tmp_path / "store"), 1), 0, 1, device=device.type)
    group.size = 2
    yield group
    distributed.destroy_process_group()


def test_sums_on_both_devices_are_exact(group: LearnerGroup, device: torch.device) -> None:
    gradient, sums = torch.arange(7.0, device=device), torch.ones(2, device=device)
    group.sum_(gradient, sums)
    assert gradient.tolist() == [0, 1, 2, 3, 4, 5, 6]
    assert sums.tolist() == [1, 1]
    assert group.gather([3, 2**40]) == [[3, 2**40], [0, 0]]  # Of the CPU.


def test_an_update_is_that_of_a_single_learner(group: LearnerGroup, device: torch.device) -> None:
    learner = {"device": device.type, "num_minibatches": 4, "target_kl": 0.1, "adam_eps": 1e-3}
    config = tiny_config()
    config = config.model_copy(update={"learner": config.learner.model_copy(update=learner)})
    alone, together = Learner(config), Learner(config, group)
    for update in range(3):
        rollout = played(config, alone)
        reports = [one.update([rollout], update * T * N) for one in (alone, together)]
        assert reports[0].optimizer_steps == reports[1].optimizer_steps == 8
        assert reports[1].policy_loss == pytest.approx(reports[0].policy_loss, abs=1e-4)
    for name, weights in state_arrays(alone.model).items():
        np.testing.assert_allclose(state_arrays(together.model)[name], weights, atol=1e-4)
