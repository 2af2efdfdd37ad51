"""The network as a graph of operators that other programs know: floats in, no integer bits.

The same weights and, up to float rounding, the same function as `network/model.py`, which is made
for speed in torch. Here positions come as one-hot planes, so convolutions and matrix products are
nearly all there is; attackers and origins are found by gathers instead of bit operations.

B: positions. C: channels. Squares are numbered file * 9 + rank from the side to move.
"""

from typing import Final, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from keisei_ray.network.attackers import NUM_SLOTS, Attackers
from keisei_ray.network.model import CHECK_STREAK_LIMIT, DRAW, LOSS, WIN, PolicyValueNet
from keisei_ray.network.origins import OriginHead, line_rows
from keisei_ray.rollouts.rollout import NUM_PIECE_CODES
from keisei_ray.shogi.actions import FIRST_DROP, NUM_PLANES

NUM_FEATURES: Final = 17
"""Numbers that describe a position besides its board: 14 hand counts, 3 scalars."""
_LINES: Final = 8
"""Directions from which pieces attack along a line."""
_SQUARE: Final = 32.0
"""Added to a piece's code for each square before its own; more than the largest code."""


class PlanesNet(nn.Module):
    """A network on one-hot planes, which shares its weights with a `PolicyValueNet`."""

    def __init__(self, model: PolicyValueNet) -> None:
        """Wraps a network on the CPU, in eval mode and float32."""
        super().__init__()
        self.model = model
        config = model.config
        self.lines = _Lines(model.attackers) if config.attackers or config.origins else None
        self.attacks = _AttackVectors(model) if config.attackers else None
        self.origins = _OriginLogits(model.origins) if config.origins else None

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
        pieces = None if self.lines is None else self.lines(planes)
        if self.attacks is not None and pieces is not None:
            x = x + self.attacks(*pieces)
        x = model.blocks(model.activation(x))
        squares = model.activation(model.value_squares(x)).permute(0, 2, 3, 1)
        outcomes = model.value_out(model.activation(model.value_hidden(squares.flatten(1))))
        if model.config.material_prior:
            on_board = (planes * model.board_material[:, None, None]).sum((1, 2, 3))
            in_hand = (hands * model.hand_material).sum(1)
            prior = model.material_weight * (on_board + in_hand)
            outcomes = outcomes + prior[:, None] * model.prior_signs
        logits = model.policy_head(x)
        if self.origins is not None and pieces is not None:
            logits = logits + self.origins(x, pieces.nearest)
        return logits, self._wdl(outcomes)

    def _wdl(self, outcomes: Tensor) -> Tensor:
        """[B, 3] probabilities of win, draw and loss; a scalar head knows no draws."""
        if self.model.config.value_head == "wdl":
            return torch.softmax(outcomes, 1)[:, [WIN, DRAW, LOSS]]
        values = torch.tanh(outcomes)
        return torch.cat([(1 + values) / 2, torch.zeros_like(values), (1 - values) / 2], 1)


class _Pieces(NamedTuple):
    """Pieces around each square. Each is a number: its code, plus 32 times its own square."""

    adjacent: Tensor
    """[B, 81 * 8] the piece next to the square in each direction, 0 if there is none."""
    nearest: Tensor
    """[B, 81 * 8] the nearest piece in each direction, 0 if there is none."""
    knights: Tensor
    """[B, 81 * 4] the piece a knight's jump away, 0 if there is none."""


class _Lines(nn.Module):
    """Finds the pieces around each square along the lines of `attackers.py`."""

    def __init__(self, lines: Attackers) -> None:
        """Takes over the tables of squares."""
        super().__init__()
        self.near: Tensor
        self.further: Tensor
        self.knight_from: Tensor
        self.codes: Tensor
        self.squares: Tensor
        for name, tensor in {
            "near": lines.near.long(),
            "further": lines.further.long(),
            "knight_from": lines.knight_from.long(),
            "codes": torch.arange(NUM_PIECE_CODES).float(),
            "squares": torch.arange(81).float() * _SQUARE,
        }.items():
            self.register_buffer(name, tensor, persistent=False)

    def forward(self, planes: Tensor) -> _Pieces:
        """Finds the pieces on [B, 29, 9, 9] one-hot planes."""
        codes = (planes * self.codes[:, None, None]).sum(1).flatten(1)
        pieces = codes + self.squares * (1 - _is_empty(codes))
        pieces = functional.pad(pieces, (0, 1))  # Outside the board there is nothing.
        adjacent = pieces.index_select(1, self.near)
        nearest = adjacent
        for jump in self.further:
            # Each round doubles the distance at which the nearest piece is found.
            beyond = nearest.index_select(1, jump)
            nearest = nearest + beyond * _is_empty(nearest)
        knights = pieces.index_select(1, self.knight_from)
        return _Pieces(adjacent[:, :-1], nearest[:, :-1], knights)


class _AttackVectors(nn.Module):
    """Sum of the vectors of each square's attackers, as `attackers.py` defines them.

    A square has twenty slots: the adjacent piece in each of eight directions, the nearest piece
    beyond an empty adjacent square in each, and four knights. A table has the vector of each slot
    and piece code, zero where such a piece does not attack from there.
    """

    def __init__(self, model: PolicyValueNet) -> None:
        """Builds the table from the network's vectors."""
        super().__init__()
        self.first_rows: Tensor
        self.table: Tensor
        slots = torch.arange(2 * _LINES + NUM_SLOTS - _LINES)
        self.register_buffer("first_rows", slots * NUM_PIECE_CODES, persistent=False)
        table = _table(model.attackers, model.attacker_vectors.detach())
        self.register_buffer("table", table, persistent=False)

    def forward(self, adjacent: Tensor, nearest: Tensor, knights: Tensor) -> Tensor:
        """Pieces as `_Lines` finds them -> [B, C, 9, 9] sums of vectors."""
        far = nearest * _is_empty(adjacent)
        slots = [part.view(-1, 81, part.shape[1] // 81) for part in (adjacent, far, knights)]
        pieces = torch.cat(slots, 2)
        codes = pieces - _SQUARE * torch.floor(pieces / _SQUARE)
        vectors = functional.embedding(codes.long() + self.first_rows, self.table).sum(2)
        return vectors.view(-1, 9, 9, self.table.shape[1]).permute(0, 3, 1, 2)


class _OriginLogits(nn.Module):
    """Logits of board moves at the squares that they come from, as `origins.py` defines them."""

    def __init__(self, head: OriginHead) -> None:
        """Shares the layer of the network."""
        super().__init__()
        self.logits = head.logits
        self.rows: Tensor
        self.kind_base: Tensor
        self.squares: Tensor
        self.register_buffer("squares", torch.arange(81).float(), persistent=False)
        rows = torch.from_numpy(line_rows()).long().flatten()
        self.register_buffer("rows", rows, persistent=False)
        kinds = torch.arange(FIRST_DROP).repeat_interleave(81) * 81
        self.register_buffer("kind_base", kinds, persistent=False)

    def forward(self, x: Tensor, nearest: Tensor) -> Tensor:
        """Adds nothing to drops.

        Args:
            x: [B, C, 9, 9] the tower's output.
            nearest: [B, 81 * 8] pieces as `_Lines` finds them.

        Returns:
            [B, 27, 9, 9] what is added to the logits of each kind of move and destination.
        """
        squares = torch.zeros_like(nearest[:, :81]) + self.squares
        known = torch.cat([torch.floor(nearest / _SQUARE), squares], 1)
        origins = known.index_select(1, self.rows).long()
        index = torch.cat([origins, origins], 1) + self.kind_base
        board_moves = torch.gather(self.logits(x).flatten(1), 1, index)
        return functional.pad(board_moves, (0, (NUM_PLANES - FIRST_DROP) * 81)).view(
            -1, NUM_PLANES, 9, 9
        )


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
