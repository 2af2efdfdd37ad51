"""The network as a graph of operators that other programs know: floats in, no integer bits.

The same weights and, up to float rounding, the same function as `network/model.py`, which is made
for speed in torch. Here positions come as one-hot planes, so convolutions and matrix products are
nearly all there is; attackers are found by gathers instead of bit operations.

B: positions. C: channels. Squares are numbered file * 9 + rank from the side to move.
"""

from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from keisei_ray.network.attackers import NUM_SLOTS, Attackers
from keisei_ray.network.model import CHECK_STREAK_LIMIT, DRAW, LOSS, WIN, PolicyValueNet
from keisei_ray.rollouts.rollout import NUM_PIECE_CODES

NUM_FEATURES: Final = 17
"""Numbers that describe a position besides its board: 14 hand counts, 3 scalars."""
_LINES: Final = 8
"""Directions from which pieces attack along a line."""


class PlanesNet(nn.Module):
    """A network on one-hot planes, which shares its weights with a `PolicyValueNet`."""

    def __init__(self, model: PolicyValueNet) -> None:
        """Wraps a network on the CPU, in eval mode and float32."""
        super().__init__()
        self.model = model
        self.attacks = _AttackVectors(model) if model.config.attackers else None

    def forward(self, planes: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
        """Evaluates positions.

        Args:
            planes: [B, 29, 9, 9] float32, 1 where a square has the piece code of its plane.
            features: [B, 17] float32: hand counts as in `Observation.hand`, then its scalars.

        Returns:
            logits: [B, 27, 9, 9] float32, one for each kind of move and destination.
            wdl: [B, 3] float32, probabilities of win, draw and loss for the side to move.
        """
        model = self.model
        hands, scalars = features[:, :14], features[:, 14:].clamp(max=float(CHECK_STREAK_LIMIT))
        scaled = torch.cat([hands, scalars], 1) * model.global_scale
        x = model.stem(planes) + model.globals(scaled)[:, :, None, None]
        if self.attacks is not None:
            x = x + self.attacks(planes)
        x = model.blocks(model.activation(x))
        squares = model.activation(model.value_squares(x)).permute(0, 2, 3, 1)
        outcomes = model.value_out(model.activation(model.value_hidden(squares.flatten(1))))
        if model.config.material_prior:
            on_board = (planes * model.board_material[:, None, None]).sum((1, 2, 3))
            in_hand = (hands * model.hand_material).sum(1)
            prior = model.material_weight * (on_board + in_hand)
            outcomes = outcomes + prior[:, None] * model.prior_signs
        return model.policy_head(x), self._wdl(outcomes)

    def _wdl(self, outcomes: Tensor) -> Tensor:
        """[B, 3] probabilities of win, draw and loss; a scalar head knows no draws."""
        if self.model.config.value_head == "wdl":
            return torch.softmax(outcomes, 1)[:, [WIN, DRAW, LOSS]]
        values = torch.tanh(outcomes)
        return torch.cat([(1 + values) / 2, torch.zeros_like(values), (1 - values) / 2], 1)


class _AttackVectors(nn.Module):
    """Sum of the vectors of each square's attackers, as `attackers.py` defines them.

    A square has twenty slots: the adjacent piece in each of eight directions, the nearest piece
    beyond an empty adjacent square in each, and four knights. A table has the vector of each slot
    and piece code, zero where such a piece does not attack from there.
    """

    def __init__(self, model: PolicyValueNet) -> None:
        """Builds the table from the network's vectors."""
        super().__init__()
        self.near: Tensor
        self.further: Tensor
        self.knight_from: Tensor
        self.codes: Tensor
        self.first_rows: Tensor
        self.table: Tensor
        lines: Attackers = model.attackers
        slots = torch.arange(2 * _LINES + NUM_SLOTS - _LINES)
        for name, tensor in {
            "near": lines.near.long(),
            "further": lines.further.long(),
            "knight_from": lines.knight_from.long(),
            "codes": torch.arange(NUM_PIECE_CODES).float(),
            "first_rows": slots * NUM_PIECE_CODES,
            "table": _table(lines, model.attacker_vectors.detach()),
        }.items():
            self.register_buffer(name, tensor, persistent=False)

    def forward(self, planes: Tensor) -> Tensor:
        """[B, 29, 9, 9] one-hot planes -> [B, C, 9, 9] sums of vectors."""
        codes = (planes * self.codes[:, None, None]).sum(1).flatten(1)
        pieces = functional.pad(codes, (0, 1))  # Outside the board there is nothing.
        adjacent = pieces.index_select(1, self.near)
        nearest = adjacent
        for jump in self.further:
            # Each round doubles the distance at which the nearest piece is found.
            beyond = functional.pad(nearest, (0, 1)).index_select(1, jump)
            nearest = nearest + beyond * _is_empty(nearest)
        far = nearest * _is_empty(adjacent)
        knights = pieces.index_select(1, self.knight_from)
        slots = [part.view(-1, 81, part.shape[1] // 81) for part in (adjacent, far, knights)]
        rows = torch.cat(slots, 2).long() + self.first_rows
        vectors = functional.embedding(rows, self.table).sum(2)
        return vectors.view(-1, 9, 9, self.table.shape[1]).permute(0, 3, 1, 2)


def _is_empty(codes: Tensor) -> Tensor:
    """1 where a square is empty, else 0."""
    return 1 - codes.clamp(max=1.0)


def _table(lines: Attackers, vectors: Tensor) -> Tensor:
    """[20 * 29, C] vector of each slot and piece code."""
    packed = lines.packed
    codes = torch.arange(NUM_PIECE_CODES)
    parts = []
    steps_or_slides = lines.step_bit[:_LINES] | lines.slide_bit[:_LINES]
    for bits in (steps_or_slides, lines.slide_bit[:_LINES]):
        rows = vectors[lines.slot_base[:_LINES] + codes]
        parts.append(rows * ((packed & bits) != 0)[:, :, None])
    num_knights = NUM_SLOTS - _LINES
    rows = vectors[lines.knight_vector[:num_knights]].expand(-1, NUM_PIECE_CODES, -1)
    parts.append(rows * ((packed & lines.knight_bit[:num_knights]) != 0)[:, :, None])
    return torch.cat(parts).flatten(0, 1)
