"""The inputs and outputs of each format, put around the network. docs/export.md describes them.

B: positions. A: policy labels (1,496).
"""

from typing import Final

import torch
from torch import Tensor, nn

from keisei_ray.export.planes_net import NUM_FEATURES, PlanesNet
from keisei_ray.network.model import PolicyValueNet
from keisei_ray.rollouts.rollout import NUM_PIECE_CODES
from keisei_ray.shogi.actions import LABEL_TO_PLANE_SQUARE

DLSHOGI_PIECES: Final = 14
"""Piece types of dlshogi, in the order of this program: P L N S B R G K +P +L +N +S +B +R."""
DLSHOGI_PLANES: Final = 31
"""Planes of one side in `input1`: pieces, squares attacked by each piece type, numbers of
attackers."""
DLSHOGI_HANDS: Final = (8, 4, 4, 4, 4, 2, 2)
"""Planes of P L N S G B R in one hand: the first n are 1 where there are n pieces or more."""
HAND_ORDER: Final = (0, 1, 2, 3, 6, 4, 5)
"""Index of P L N S G B R in a hand of this program."""
_HANDS: Final = 2 * sum(DLSHOGI_HANDS)
DLSHOGI_FEATURES: Final = _HANDS + 1
"""Planes of `input2`: both hands, then whether the side to move is in check."""
_OPPONENT_CHECKS: Final = 16
"""Index of the checks in a row that the opponent gave, among the features of `PlanesNet`."""


class CompactGraph(nn.Module):
    """Compact positions in, as in `shogi/observation.py`; policy, outcome and value out."""

    INPUTS: Final = {"boards": 81, "hands": 14, "scalars": 3}
    """Name -> bytes of a position."""
    OUTPUTS: Final = ("policy", "wdl", "value")

    def example(self) -> tuple[Tensor, ...]:
        """Returns inputs of two positions, for a trace."""
        return tuple(torch.zeros(2, size, dtype=torch.uint8) for size in self.INPUTS.values())

    def __init__(self, model: PolicyValueNet) -> None:
        """Wraps a network on the CPU, in eval mode and float32."""
        super().__init__()
        self.net = PlanesNet(model)
        self.codes: Tensor
        self.label_index: Tensor
        codes = torch.arange(NUM_PIECE_CODES)[:, None]
        self.register_buffer("codes", codes, persistent=False)
        labels = torch.tensor(LABEL_TO_PLANE_SQUARE.tolist())
        self.register_buffer("label_index", labels, persistent=False)

    def forward(
        self, boards: Tensor, hands: Tensor, scalars: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Evaluates positions.

        Args:
            boards: [B, 81] uint8 piece codes.
            hands: [B, 14] uint8 counts.
            scalars: [B, 3] uint8, see `Observation.scalars`.

        Returns:
            policy: [B, A] float32 logits of all labels.
            wdl: [B, 3] float32 probabilities of win, draw and loss.
            value: [B] float32, win - loss.
        """
        planes = (boards.long()[:, None, :] == self.codes).float().view(-1, NUM_PIECE_CODES, 9, 9)
        logits, wdl = self.net(planes, torch.cat([hands, scalars], 1).float())
        policy = logits.flatten(1).index_select(1, self.label_index)
        return policy, wdl, wdl[:, 0] - wdl[:, 2]


class DlshogiGraph(nn.Module):
    """Planes of dlshogi in; its 2,187 move labels and the expected score out.

    Its kinds of moves and their order are those of this program's policy head, and so are its
    squares and its piece types. Not among its planes: more than eight pawns in hand, which count as
    eight, earlier occurrences of the position, and checks in a row, of which only one is known.
    """

    INPUTS: Final = {"input1": 2 * DLSHOGI_PLANES, "input2": DLSHOGI_FEATURES}
    """Name -> planes of a position, 9 x 9 each."""
    OUTPUTS: Final = ("output_policy", "output_value")

    def example(self) -> tuple[Tensor, ...]:
        """Returns inputs of two positions, for a trace."""
        return tuple(torch.zeros(2, planes, 9, 9) for planes in self.INPUTS.values())

    def __init__(self, model: PolicyValueNet) -> None:
        """Wraps a network on the CPU, in eval mode and float32."""
        super().__init__()
        self.net = PlanesNet(model)
        self.features: Tensor
        self.register_buffer("features", _feature_matrix(), persistent=False)

    def forward(self, input1: Tensor, input2: Tensor) -> tuple[Tensor, Tensor]:
        """Evaluates positions.

        Args:
            input1: [B, 62, 9, 9] float32; only the planes of pieces are looked at.
            input2: [B, 57, 9, 9] float32.

        Returns:
            output_policy: [B, 2187] float32 logits, kind of move * 81 + destination.
            output_value: [B, 1] float32 in [0, 1], expected score of the side to move.
        """
        own = input1[:, :DLSHOGI_PIECES]
        other = input1[:, DLSHOGI_PLANES : DLSHOGI_PLANES + DLSHOGI_PIECES]
        pieces = torch.cat([own, other], 1)
        planes = torch.cat([1 - pieces.sum(1, keepdim=True), pieces], 1)
        logits, wdl = self.net(planes, input2[:, :, 0, 0] @ self.features)
        return logits.flatten(1), wdl[:, :1] + wdl[:, 1:2] / 2


def _feature_matrix() -> Tensor:
    """[57, 17] what each plane of `input2` adds to the features of `PlanesNet`."""
    matrix = torch.zeros(DLSHOGI_FEATURES, NUM_FEATURES)
    row = 0
    for side in range(2):
        for piece, planes in zip(HAND_ORDER, DLSHOGI_HANDS, strict=True):
            matrix[row : row + planes, 7 * side + piece] = 1
            row += planes
    matrix[row, _OPPONENT_CHECKS] = 1
    return matrix
