"""How far a search looks, and the constants of its selection rule."""

from dataclasses import dataclass
from typing import Literal

RootRule = Literal["puct", "gumbel"]
"""Choice among the moves of a root: as everywhere in the tree, or by sequential halving."""


@dataclass(frozen=True)
class SearchSettings:
    """Settings of a search.

    The exploration term of AlphaZero (Silver et al. 2018) grows with the visits n of a node:

        c_puct(n) = c_init + log((1 + n + c_base) / c_base)
    """

    simulations: int
    """Visits that the root of a tree has when the search ends."""
    c_init: float = 1.25
    """Weight of the policy against the values found."""
    c_base: float = 19_652.0
    """Visits at which that weight begins to grow."""
    policy_temperature: float = 5.0
    """Temperature of the policy as the search weighs moves by it: softmax(logits / temperature).
    Training sharpens a policy towards the moves that it plays; a search has to try others too."""
    fpu_reduction: float = 0.25
    """Value of a move not yet tried: that of the node, less fpu_reduction * sqrt(p), where p is the
    prior of the moves tried so far (first play urgency)."""
    root: RootRule = "puct"
    """Rule at the root: halving (`search/gumbel.py`) is better where simulations are few."""
    draw_value: float = 0.0
    """Value of a draw to the side to move at the root, in [-1, 1]; its negative to the other. It
    moves what is searched and how positions are valued, not what is proven."""
    mate_positions: int = 0
    """Positions looked at, before the simulations, for a mate by checks from the root; see
    `shogi/mates.py`."""
    leaves_per_step: int = 1
    """Leaves that a tree adds to each forward pass. Above 1, a leaf in flight counts as lost for
    the side that chose it (virtual loss), so that the next one is looked for elsewhere. Many trees
    fill a forward pass with one leaf each; a single tree needs more."""

    def __post_init__(self) -> None:
        if self.simulations < 1 or self.leaves_per_step < 1 or self.mate_positions < 0:
            raise ValueError(
                f"simulations = {self.simulations}, leaves_per_step = {self.leaves_per_step}: "
                f"expected at least 1. mate_positions = {self.mate_positions}: at least 0."
            )
