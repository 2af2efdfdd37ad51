"""Positions mirrored left to right: the rules are the same there, so they are further examples."""

import numpy as np

from keisei_ray.records.positions import Positions
from keisei_ray.shogi.actions import MIRRORED_LABEL, MIRRORED_SQUARE

_FROM_LABEL = np.argsort(MIRRORED_LABEL)
"""[1496] label that comes to stand in the place of this one."""


def mirrored(positions: Positions) -> Positions:
    """Returns each position with its files in reverse, and the same moves there."""
    legal = np.unpackbits(positions.legal_bits, axis=1)
    other_side = {
        "boards": positions.boards[:, MIRRORED_SQUARE],
        "legal_bits": np.packbits(legal[:, _FROM_LABEL], axis=1),
        "actions": MIRRORED_LABEL[positions.actions],
        "drawn": MIRRORED_LABEL[positions.drawn],
    }
    return Positions(**positions._asdict() | other_side)


def some_mirrored(positions: Positions, rng: np.random.Generator) -> Positions:
    """Returns the positions, each of them mirrored with a probability of one half.

    Args:
        positions: not changed.
        rng: what decides.
    """
    chosen = np.nonzero(rng.random(len(positions)) < 0.5)[0]
    mixed = positions.rows(np.arange(len(positions)))
    mixed.write(chosen, mirrored(positions.rows(chosen)))
    return mixed
