"""The network as a graph of common operators is the network."""

import pytest
import torch

from keisei_ray.export.checking import random_positions
from keisei_ray.export.graphs import CompactGraph
from keisei_ray.network.model import outcome_values
from tests.helpers.networks import KINDS, shaken_model


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_the_graph_computes_what_the_network_computes(kind: str) -> None:
    model = shaken_model(kind)
    found = random_positions()
    inputs = [torch.from_numpy(part) for part in (found.boards, found.hands, found.scalars)]
    inputs[2][:, 1] = torch.arange(len(found.boards)) % 9  # Longer series of checks look the same.
    logits, outcomes = model(*inputs)
    values, draws = outcome_values(outcomes)
    policy, wdl, value = CompactGraph(model)(*inputs)
    assert logits.std() > 0.05
    torch.testing.assert_close(policy, logits, atol=2e-6, rtol=0)
    torch.testing.assert_close(value, values, atol=2e-6, rtol=0)
    torch.testing.assert_close(wdl[:, 1], draws, atol=2e-6, rtol=0)
    torch.testing.assert_close(wdl.sum(1), torch.ones(len(value)))
