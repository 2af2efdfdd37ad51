"""The policy and value network, and the functions that read its outputs.

Positions arrive as the compact arrays of `shogi/observation.py` and become planes here, on the
device of the model. A residual tower processes them. A spatial policy head returns one logit for
each policy label, or for listed moves; a value head returns logits of win, draw and loss for the
side to move, or one number (`model.value_head`).

No layer keeps statistics that differ between acting and learning, so with a policy lag of 0 the
probability ratio is 1 in the first minibatch. The tower may compute in half precision; weights,
heads and all outputs are float32.

B: rows (positions). A: policy labels (1,496). L: moves of all positions together, where they are
listed. C: channels (`model.width`). Squares are numbered file * 9 + rank from the side to move.
Memory is channels-last throughout, which is the layout that one-hot rows of the board have by
nature. Indices are written without full slices (`[..., None]`, not `[:, None]`): a recording
(`recording.py`) would fill and copy the whole gradient for each.
"""

import hashlib
from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from keisei_ray.config.saved_model_section import section_identity
from keisei_ray.config.sections import ModelConfig
from keisei_ray.network.attackers import NUM_VECTORS, Attackers, sum_of_vectors
from keisei_ray.network.listed_moves import ListedMoves
from keisei_ray.network.origins import OriginHead
from keisei_ray.rollouts.rollout import NUM_ACTIONS, NUM_PIECE_CODES
from keisei_ray.shogi.actions import LABEL_TO_PLANE_SQUARE, NUM_PLANES
from keisei_ray.shogi.rules import PIECE_VALUES

HAND_LIMITS = (18, 4, 4, 4, 2, 2, 4)
"""Largest number of pawns, lances, knights, silvers, bishops, rooks and golds in a hand."""
NUM_SCALARS = 3
"""Scalars of a position, see `Observation.scalars`."""
CHECK_STREAK_LIMIT = 4
"""Longer series of checks look the same to the network."""
WIN, DRAW, LOSS = range(3)
"""Order of the outcome's logits, for the side to move."""
INITIAL_DRAW_LOGIT = -2.0
"""Bias of the draw logit in a new network: few games are drawn."""
Amp = Literal["auto", "off", "bf16", "fp16"]
AMP_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
VALUE_COLUMNS = 4
"""Numbers that the value head computes of each square."""
ILLEGAL_LOGIT = -1e9
"""Logit of illegal moves. Finite, so that p * log(p) of an illegal move is 0 and not NaN."""


class SqueezeExcitation(nn.Module):
    """Scales each channel by a gate computed from the channels' means over the board.

    Source: Hu et al. 2018, arXiv:1709.01507.
    """

    def __init__(self, width: int) -> None:
        """Makes the two layers of the gate for `width` channels."""
        super().__init__()
        self.squeeze = nn.Linear(width, max(8, width // 4))
        self.excite = nn.Linear(max(8, width // 4), width)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, 9, 9] -> [B, C, 9, 9]."""
        gate = torch.sigmoid(self.excite(functional.relu(self.squeeze(x.mean((2, 3))))))
        return x * gate[..., None, None]


class ResidualBlock(nn.Module):
    """activation(x + f(x)), where f has two 3x3 convolutions.

    In a new network f is zero, so that deep networks are as stable as shallow ones.
    """

    def __init__(self, config: ModelConfig) -> None:
        """Makes the layers for `config.width` channels."""
        super().__init__()
        self.first = nn.Conv2d(config.width, config.width, 3, padding=1)
        self.second = nn.Conv2d(config.width, config.width, 3, padding=1)
        self.gate: nn.Module = (
            SqueezeExcitation(config.width) if config.squeeze_excitation else nn.Identity()
        )
        self.activation = _activation(config)
        nn.init.zeros_(self.second.weight)
        nn.init.zeros_(self.second.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, 9, 9] -> [B, C, 9, 9]."""
        out: Tensor = self.gate(self.second(self.activation(self.first(x))))
        return self.activation(x + out)  # type: ignore[no-any-return]


class PolicyValueNet(nn.Module):
    """Residual tower with a spatial policy head and a value head.

    Attributes:
        config: the architecture; two models fit the same weights exactly if it is equal.
        tower_dtype: half precision of stem and tower under autocast, but for `globals`; None:
            float32.
    """

    def __init__(self, config: ModelConfig, *, amp: Amp = "off") -> None:
        """Initializes the weights from torch's global generator; use `build_model` for a seed."""
        super().__init__()
        width = config.width
        self.config = config
        self.tower_dtype = AMP_DTYPES.get(amp)
        self.stem = nn.Conv2d(NUM_PIECE_CODES, width, 3, padding=1)
        self.globals = nn.Linear(14 + NUM_SCALARS, width)
        self.blocks = nn.Sequential(*(ResidualBlock(config) for _ in range(config.depth)))
        self.policy_head = nn.Conv2d(width, NUM_PLANES, 1)
        self.value_squares = nn.Conv2d(width, VALUE_COLUMNS, 1)
        self.value_hidden = nn.Linear(VALUE_COLUMNS * 81, config.value_hidden)
        self.value_out = nn.Linear(config.value_hidden, 3 if config.value_head == "wdl" else 1)
        self.material_weight = nn.Parameter(
            torch.tensor(config.material_prior), requires_grad=config.material_prior > 0
        )
        self.activation = _activation(config)
        # Small heads: a new policy is close to uniform, a new value close to the material prior.
        nn.init.normal_(self.policy_head.weight, std=0.01)
        nn.init.zeros_(self.policy_head.bias)  # type: ignore[arg-type]
        nn.init.normal_(self.value_out.weight, std=0.01)
        nn.init.zeros_(self.value_out.bias)
        if config.value_head == "wdl":
            with torch.no_grad():
                self.value_out.bias[DRAW] = INITIAL_DRAW_LOGIT
        if config.attackers or config.origins:
            self.attackers = Attackers()
        if config.origins:
            self.origins = OriginHead(width, first_column=NUM_PLANES + VALUE_COLUMNS)
        if config.attackers:
            self.attacker_vectors = nn.Parameter(torch.randn(NUM_VECTORS, width) / 8)

        planes = torch.from_numpy(np.asarray(LABEL_TO_PLANE_SQUARE, dtype=np.int64))
        self.one_hot: Tensor
        self.label_index: Tensor
        self.global_scale: Tensor
        self.prior_signs: Tensor
        self.board_material: Tensor
        self.hand_material: Tensor
        self._constant("one_hot", torch.eye(NUM_PIECE_CODES))
        # Label -> index into the [81, columns] of `_by_square`.
        columns = sum(layer.out_channels for layer in self._square_layers())
        self._constant("label_index", planes % 81 * columns + planes // 81)
        self._constant("global_scale", _global_scale())
        # With P(draw) = 0 this gives P(win) - P(loss) = tanh(prior), as from a scalar head.
        signs = [1.0, 0.0, -1.0] if config.value_head == "wdl" else [1.0]
        self._constant("prior_signs", torch.tensor(signs))
        values = torch.tensor(PIECE_VALUES, dtype=torch.float32)
        self._constant("board_material", torch.cat([values, -values[1:]]))
        self._constant("hand_material", torch.cat([values[1:8], -values[1:8]]))
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(
        self, boards: Tensor, hands: Tensor, scalars: Tensor, moves: ListedMoves | None = None
    ) -> tuple[Tensor, Tensor]:
        """Computes policy logits and outcome logits of each position.

        Args:
            boards: [B, 81] uint8 piece codes, from the side to move.
            hands: [B, 14] uint8 counts, the mover's first.
            scalars: [B, 3] uint8, see `Observation.scalars`.
            moves: L moves of these positions whose logits are wanted. None: of all labels.

        Returns:
            logits: [L] float32, of these moves; or [B, A], of all labels, legal or not.
            outcomes: float32 logits for the side to move: [B, 3] in the order WIN, DRAW, LOSS, or
                [B, 1] whose hyperbolic tangent is the value. See `outcome_values`.
        """
        codes = boards.long()
        slots, nearest = self.attackers(boards) if self._follows_lines else (None, None)
        # In float32: so small a product takes longer in half precision.
        everywhere = self.globals(self._features(hands, scalars))
        with self._tower_precision(boards.device):
            x = self.blocks(self.activation(self._embed(slots, codes, everywhere)))
        by_square = self._by_square(x.float())
        logits = self._policy_logits(by_square, nearest, moves)
        return logits, self._outcome_logits(by_square, codes, hands)

    def _tower_precision(self, device: torch.device) -> AbstractContextManager[object]:
        """Makes the context in which stem and tower compute."""
        if self.tower_dtype is None:
            return nullcontext()
        # Autocast's cache would keep half-precision copies of weights that an optimizer step then
        # changes in another thread. A pass uses each weight once, so nothing is lost.
        return torch.autocast(device.type, dtype=self.tower_dtype, cache_enabled=False)

    @property
    def _follows_lines(self) -> bool:
        return self.config.attackers or self.config.origins

    def _features(self, hands: Tensor, scalars: Tensor) -> Tensor:
        """[B, 17] float32: counts of the hands and the scalars, each from 0 to 1."""
        numbers = torch.cat([hands, scalars.clamp(max=CHECK_STREAK_LIMIT)], 1).float()
        return numbers * self.global_scale

    def _embed(self, slots: Tensor | None, codes: Tensor, everywhere: Tensor) -> Tensor:
        """Computes the input of the tower.

        Args:
            slots: [B, 81, 12] attackers, see `Attackers.forward`; None if lines are not followed.
            codes: [B, 81] int64 piece codes.
            everywhere: [B, C] float32, added to every square: hands and scalars.

        Returns:
            [B, C, 9, 9] in the tower's precision.
        """
        planes = functional.embedding(codes, self.one_hot).view(-1, 9, 9, NUM_PIECE_CODES)
        x = self.stem(planes.permute(0, 3, 1, 2))
        x = x + everywhere.to(x.dtype)[..., None, None]
        if slots is None or not self.config.attackers:
            return x  # type: ignore[no-any-return]
        attacks = sum_of_vectors(slots.flatten(0, 1), self.attacker_vectors)
        # In the stem's precision: under autocast the tower would be float32 from here on.
        attacks = attacks.to(x.dtype).view(-1, 9, 9, self.config.width)
        return x + attacks.permute(0, 3, 1, 2)  # type: ignore[no-any-return]

    def _square_layers(self) -> list[nn.Conv2d]:
        """Layers of the heads that look at one square each, in the order of their columns."""
        layers = [self.policy_head, self.value_squares]
        return [*layers, self.origins.logits] if self.config.origins else layers

    def _by_square(self, x: Tensor) -> Tensor:
        """[B, 81, columns] outputs of `_square_layers` at the tower's output, all float32.

        As one convolution: a third less time than one for each layer.
        """
        layers = self._square_layers()
        weight = torch.cat([layer.weight for layer in layers])
        bias = torch.cat([layer.bias for layer in layers if layer.bias is not None])
        return functional.conv2d(x, weight, bias).permute(0, 2, 3, 1).flatten(1, 2)

    def _policy_logits(
        self, by_square: Tensor, nearest: Tensor | None, moves: ListedMoves | None
    ) -> Tensor:
        """[L] or [B, A] logits, see `forward`."""
        flat = by_square.flatten(1)
        if moves is not None:
            return self._listed_logits(flat, nearest, moves)
        logits = flat.index_select(1, self.label_index)
        if nearest is None or not self.config.origins:
            return logits
        at_origins = self.origins(flat, nearest)
        return logits + functional.pad(at_origins, (0, NUM_ACTIONS - at_origins.shape[1]))

    def _listed_logits(self, flat: Tensor, nearest: Tensor | None, moves: ListedMoves) -> Tensor:
        """[L] logits of these moves, from the [B, 81 * columns] outputs by square."""
        first = moves.rows * flat.shape[1]
        index = first + self.label_index[moves.labels]
        if nearest is None or not self.config.origins:
            return flat.view(-1).index_select(0, index)
        # Both numbers of a move in one step, whose backward pass fills the gradient of all squares.
        columns, has_origin = self.origins.columns_of(nearest, moves)
        both = flat.view(-1).index_select(0, torch.cat([index, first + columns]))
        at_target, at_origin = both.chunk(2)
        return at_target + at_origin * has_origin

    def _outcome_logits(self, by_square: Tensor, codes: Tensor, hands: Tensor) -> Tensor:
        """[B, 3] or [B, 1] float32 logits, the material prior included."""
        squares = by_square.narrow(2, NUM_PLANES, VALUE_COLUMNS).flatten(1)
        hidden = self.activation(self.value_hidden(self.activation(squares)))
        outcomes: Tensor = self.value_out(hidden)
        if self.config.material_prior:
            material = functional.embedding(codes, self.board_material[:, None]).sum((1, 2))
            material = material + hands.float() @ self.hand_material
            prior = self.material_weight * material
            outcomes = outcomes + prior[..., None] * self.prior_signs
        return outcomes

    def _constant(self, name: str, tensor: Tensor) -> None:
        """Adds a tensor that moves with the module and is not part of its weights."""
        self.register_buffer(name, tensor, persistent=False)


def build_model(config: ModelConfig, *, seed: int, amp: Amp = "off") -> PolicyValueNet:
    """Builds a new network on the CPU; the same config and seed give the same weights.

    Leaves torch's global generator as it was.

    Args:
        config: the architecture.
        seed: seed of the initial weights.
        amp: precision of stem and tower; "auto", which only a running configuration can decide,
            is float32 here.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return PolicyValueNet(config, amp=amp)


def outcome_values(outcomes: Tensor) -> tuple[Tensor, Tensor]:
    """Turns outcome logits into the value and the probability of a draw.

    Args:
        outcomes: [B, 3] or [B, 1], see `PolicyValueNet.forward`.

    Returns:
        values: [B] in [-1, 1] for the side to move: P(win) - P(loss).
        draw_probs: [B] in [0, 1]; 0 from a scalar head.
    """
    if outcomes.shape[1] == 1:
        values = torch.tanh(outcomes[:, 0])
        return values, torch.zeros_like(values)
    probs = torch.softmax(outcomes, 1)
    return probs[:, WIN] - probs[:, LOSS], probs[:, DRAW]


def legal_mask(legal_bits: Tensor) -> Tensor:
    """Unpacks `Rollout.legal_bits`, on the device of its argument.

    Args:
        legal_bits: [B, 187] uint8, most significant bit first.

    Returns:
        [B, A] bool, True = legal.
    """
    shifts = torch.arange(7, -1, -1, dtype=torch.uint8, device=legal_bits.device)
    bits = (legal_bits[:, :, None] >> shifts) & 1
    return bits.flatten(1)[:, :NUM_ACTIONS].bool()


def masked_log_probs(logits: Tensor, mask: Tensor) -> Tensor:
    """Computes log-probabilities over the legal moves.

    Args:
        logits: [B, A] float32.
        mask: [B, A] bool, True = legal; every row has at least one.

    Returns:
        [B, A] float32; about `ILLEGAL_LOGIT` for illegal moves.
    """
    return functional.log_softmax(logits.masked_fill(~mask, ILLEGAL_LOGIT), dim=1)


def architecture_digest(config: ModelConfig) -> str:
    """Returns 16 hexadecimal digits that are equal exactly if the model sections are equal."""
    return hashlib.sha256(section_identity(config).encode()).hexdigest()[:16]


def _activation(config: ModelConfig) -> nn.Module:
    """Makes the activation that the config names."""
    # The backward pass of SiLU needs its input, that of ReLU does not: only ReLU is in place.
    return nn.SiLU() if config.activation == "silu" else nn.ReLU(inplace=True)


def _global_scale() -> Tensor:
    """[17] factors that bring hand counts, repetitions and checks in a row to [0, 1]."""
    limits = HAND_LIMITS + HAND_LIMITS + (3, CHECK_STREAK_LIMIT, CHECK_STREAK_LIMIT)
    return 1.0 / torch.tensor(limits, dtype=torch.float32)
