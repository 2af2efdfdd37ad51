"""Weights of a network as those of a larger one that computes the same.

What is added begins without effect: each tensor of the larger network is that of a new network,
except that

    [:o, :i]  the old weights
    [:o, i:]  0: nothing new reaches what was there before

with o and i the numbers of outputs and inputs before. A new block's second convolution is 0 in a
new network, and activation(x + 0) = x behind a ReLU, so a deeper network computes the same too. New
channels have outputs of their own, so that gradients reach the zeros. Attackers and origins, which
are added to what was there, begin as zeros.

Source: Chen, Goodfellow and Shlens 2016, "Net2Net", arXiv:1511.05641, with zeros instead of copies.
"""

from collections.abc import Mapping
from typing import Final

import numpy as np
import numpy.typing as npt

from keisei_ray.config.sections import ModelConfig
from keisei_ray.errors import CheckpointError

Arrays = Mapping[str, npt.NDArray[np.float32]]
_GROWING: Final = ("depth", "width", "value_hidden")
_EQUAL: Final = ("activation", "squeeze_excitation", "value_head")
_ADDED: Final = {"attackers": "attacker_vectors", "origins": "origins."}
"""Setting -> how the names of its weights begin."""


def check_growth(old: ModelConfig, new: ModelConfig) -> None:
    """Refuses a network that cannot compute what another one does.

    Raises:
        CheckpointError: names the settings.
    """
    odd = [key for key in _EQUAL if getattr(old, key) != getattr(new, key)]
    odd += [key for key in (*_GROWING, *_ADDED) if getattr(old, key) > getattr(new, key)]
    if (old.material_prior > 0) != (new.material_prior > 0):
        odd.append("material_prior")
    if odd:
        then = ", ".join(f"model.{key} = {getattr(old, key)}" for key in odd)
        now = ", ".join(str(getattr(new, key)) for key in odd)
        raise CheckpointError(
            f"--init-from: the checkpoint has {then}, this run has {now}. Expected the same "
            "network or one with more: blocks, channels, hidden units, attackers, origins. Give "
            "its model section."
        )
    if new.depth > old.depth and new.activation != "relu":
        raise CheckpointError(
            f"--init-from: model.depth = {new.depth}, the checkpoint has {old.depth}, and "
            f"model.activation = {new.activation}: only behind relu does a new block begin without "
            "effect. Use the same depth."
        )


def grown(arrays: Arrays, fresh: Arrays) -> dict[str, npt.NDArray[np.float32]]:
    """Returns the weights of a larger network that computes what a smaller one does.

    Args:
        arrays: weights of the smaller one, by name.
        fresh: weights of a new network of the larger architecture, see `check_growth`.
    """
    return {
        name: _grown(arrays[name], array) if name in arrays else _new(name, array)
        for name, array in fresh.items()
    }


def _new(name: str, fresh: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    return np.zeros_like(fresh) if name.startswith(tuple(_ADDED.values())) else fresh


def _grown(old: npt.NDArray[np.float32], fresh: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    result = fresh.copy()
    if old.ndim:
        result[: old.shape[0]] = 0
    result[tuple(slice(0, size) for size in old.shape)] = old
    return result
