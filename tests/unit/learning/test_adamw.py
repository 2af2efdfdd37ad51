"""The learner's AdamW is torch's, bit for bit; on the CPU a learner loads no compiler for it."""

import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import nn

from keisei_ray.learning.adamw import AdamW
from tests.helpers.program import ROOT

LEARNS = """
import sys
from keisei_ray.learning.learner import Learner
from tests.helpers.tiny import played, tiny_config

config = tiny_config()
learner = Learner(config)
learner.update([played(config, learner)], 0)
resumed = Learner(config)
resumed.load_state_files(learner.state_files())
resumed.update([played(config, resumed)], 0)
sys.exit("torch._dynamo" in sys.modules)
"""


def torchs(weights: nn.Parameter, *, lr: float, eps: float, weight_decay: float) -> Any:
    return torch.optim.AdamW([weights], lr=lr, eps=eps, weight_decay=weight_decay, fused=True)


def test_steps_and_state_are_those_of_torchs_own() -> None:
    def stepped(kind: Any) -> tuple[nn.Parameter, torch.optim.AdamW]:
        """Weights and their optimizer after six steps, the last three by another optimizer."""
        weights = nn.Parameter(torch.linspace(-1, 1, 7))
        optimizer = kind(weights, lr=0.1, eps=1e-5, weight_decay=0.3)
        for step in range(6):
            if step == 3:
                state = optimizer.state_dict()
                optimizer = kind(weights, lr=0.01, eps=1e-8, weight_decay=0.0)
                optimizer.load_state_dict(state)
            optimizer.zero_grad()
            (weights - step).square().sum().backward()
            # As where an update is stopped: the fifth step is withheld.
            optimizer.found_inf = torch.tensor(float(step == 4))
            optimizer.step()
        return weights, optimizer

    (weights, optimizer), (expected, reference) = stepped(AdamW), stepped(torchs)
    assert torch.equal(weights, expected)
    found, wanted = optimizer.state_dict(), reference.state_dict()
    assert found["param_groups"] == wanted["param_groups"]
    assert found["state"].keys() == wanted["state"].keys() == {0}
    assert wanted["state"][0]["step"] == 5
    assert found["state"][0].keys() == wanted["state"][0].keys()
    for name, tensor in wanted["state"][0].items():
        assert torch.equal(found["state"][0][name], tensor)


@pytest.mark.slow
def test_a_learner_on_the_cpu_does_not_load_torchs_compiler() -> None:
    assert subprocess.run([sys.executable, "-c", LEARNS], cwd=ROOT, check=False).returncode == 0
