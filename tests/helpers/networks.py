"""Small networks of every kind, with weights that make their answers differ from one another."""

from typing import Any

import torch

from keisei_ray.config.sections import ModelConfig
from keisei_ray.network.model import PolicyValueNet, build_model

KINDS: dict[str, dict[str, Any]] = {
    "plain": {"attackers": False, "origins": False},
    "attackers": {"origins": False, "squeeze_excitation": True, "activation": "silu"},
    "origins": {"attackers": False},
    "scalar": {"value_head": "scalar"},
    "no prior": {"material_prior": 0.0},
}


def shaken_model(kind: str = "attackers") -> PolicyValueNet:
    """Returns a network of a kind whose heads are no longer near zero."""
    config = ModelConfig(depth=2, width=16, value_hidden=8, **KINDS[kind])
    model = build_model(config, seed=1).eval()
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for weights in model.parameters():
            if weights.requires_grad:
                weights.add_(0.1 * torch.randn(weights.shape, generator=generator))
    return model


SMALL_NETWORKS = [
    ModelConfig(depth=2, width=16, value_hidden=8),
    ModelConfig(
        depth=1,
        width=16,
        value_hidden=8,
        activation="silu",
        squeeze_excitation=True,
        value_head="scalar",
    ),
    ModelConfig(depth=1, width=16, value_hidden=8, attackers=False, origins=False),
    ModelConfig(depth=1, width=16, value_hidden=8, attackers=False, origins=True),
    ModelConfig(depth=1, width=16, value_hidden=8, attackers=True, origins=False),
]
"""Architectures that between them have every layer and input."""
