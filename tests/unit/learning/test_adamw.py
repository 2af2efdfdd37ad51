"""The learner's AdamW is torch's, bit for bit; on the CPU a learner loads no compiler for it."""

import subprocess
import sys

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


@pytest.mark.parametrize("fused", [True, False])
def test_steps_and_state_are_those_of_torchs_own(fused: bool) -> None:
    def stepped(kind: type[torch.optim.AdamW]) -> tuple[nn.Linear, torch.optim.AdamW]:
        """A model and its optimizer after six steps, the last three by another optimizer."""
        torch.manual_seed(1)
        model = nn.Linear(3, 2)
        optimizer = kind(model.parameters(), lr=0.1, weight_decay=0.3, fused=fused)
        for step in range(6):
            if step == 3:
                state, optimizer = optimizer.state_dict(), kind(model.parameters(), fused=fused)
                optimizer.load_state_dict(state)
            model(torch.tensor([[1.0, -2.0, 0.5]])).square().sum().backward()
            optimizer.step()
            optimizer.zero_grad()
        return model, optimizer

    (model, optimizer), (expected, torchs) = stepped(AdamW), stepped(torch.optim.AdamW)
    assert torch.equal(model.weight, expected.weight)
    found, wanted = optimizer.state_dict(), torchs.state_dict()
    assert found["param_groups"] == wanted["param_groups"]
    assert found["state"].keys() == wanted["state"].keys() == {0, 1}
    for number, state in wanted["state"].items():
        for name, tensor in state.items():
            assert torch.equal(found["state"][number][name], tensor)


@pytest.mark.slow
def test_a_learner_on_the_cpu_does_not_load_torchs_compiler() -> None:
    assert subprocess.run([sys.executable, "-c", LEARNS], cwd=ROOT, check=False).returncode == 0
