"""The network: compact positions in, policy logits and the outcome's logits out.

Positions arrive as the compact arrays of `shogi.observation` and become planes here, on the
device that consumes them. A residual tower reads them; a spatial policy head answers with one
logit per policy label; a value head with win, draw and loss, or one number, for the side to move.

The function that acts and the function that is updated are the same: no layer keeps statistics
that differ between the two, so at the first minibatch the probability ratio is 1.

B: rows. A: policy labels (1,496). C: channels. Squares are file-major, from the mover's side.
Memory is channels-last throughout: one-hot rows of the board *are* that layout.
"""

import hashlib

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from keisei_ray.config.sections import ModelConfig
from keisei_ray.network.attackers import NO_ATTACKER, NUM_VECTORS, Attackers
from keisei_ray.rollouts.rollout import NUM_ACTIONS
from keisei_ray.shogi.actions import LABEL_TO_PLANE
from keisei_ray.shogi.rules import PIECE_VALUES

NUM_CODES = 29
"""Board codes: empty, 14 own pieces, 14 of the opponent."""
NUM_DIRECTIONS = 27
"""Directions, promotions and drops of the spatial policy head."""
HAND_LIMITS = (18, 4, 4, 4, 2, 2, 4)
"""The most pawns, lances, knights, silvers, bishops, rooks and golds a hand can hold."""
FIRST_DRAW_LOGIT = -2.0
"""At first a draw is thought unlikely: by repetition few games end."""
WIN, DRAW, LOSS = range(3)
"""Order of the outcome's logits."""
NUM_SCALARS = 3
CHECK_STREAK_LIMIT = 4
ILLEGAL_LOGIT = -1e9
"""Finite, so that probability * log-probability of an illegal move is 0 and not NaN."""


class SqueezeExcitation(nn.Module):
    """Scales each channel by a gate computed from the board's mean (Hu et al. 2018)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.squeeze = nn.Linear(width, max(8, width // 4))
        self.excite = nn.Linear(max(8, width // 4), width)

    def forward(self, x: Tensor) -> Tensor:
        gate = torch.sigmoid(self.excite(functional.relu(self.squeeze(x.mean((2, 3))))))
        return x * gate[:, :, None, None]


class ResidualBlock(nn.Module):
    """x + f(x) with two 3x3 convolutions; f starts at zero, so depth costs no stability."""

    def __init__(self, config: ModelConfig) -> None:
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
        out: Tensor = self.gate(self.second(self.activation(self.first(x))))
        return self.activation(x + out)  # type: ignore[no-any-return]


class PolicyValueNet(nn.Module):
    """Residual tower with a spatial policy head and a value head."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width = config.width
        self.config = config
        self.stem = nn.Conv2d(NUM_CODES, width, 3, padding=1)
        self.globals = nn.Linear(14 + NUM_SCALARS, width)
        self.blocks = nn.Sequential(*(ResidualBlock(config) for _ in range(config.depth)))
        self.policy_head = nn.Conv2d(width, NUM_DIRECTIONS, 1)
        self.value_squares = nn.Conv2d(width, 4, 1)
        self.value_hidden = nn.Linear(4 * 81, config.value_hidden)
        self.value_out = nn.Linear(config.value_hidden, 3 if config.value_head == "wdl" else 1)
        self.material_weight = nn.Parameter(
            torch.tensor(config.material_prior), requires_grad=config.material_prior > 0
        )
        self.activation = _activation(config)
        # Small heads: the first policy is close to uniform, the first value close to the prior.
        nn.init.normal_(self.policy_head.weight, std=0.01)
        nn.init.zeros_(self.policy_head.bias)  # type: ignore[arg-type]
        nn.init.normal_(self.value_out.weight, std=0.01)
        nn.init.zeros_(self.value_out.bias)
        if config.value_head == "wdl":
            with torch.no_grad():
                self.value_out.bias[DRAW] = FIRST_DRAW_LOGIT
        if config.attackers:
            self.attackers = Attackers()
            self.attacker_vectors = nn.Parameter(torch.randn(NUM_VECTORS, width) / 8)

        planes = torch.from_numpy(np.asarray(LABEL_TO_PLANE, dtype=np.int64))
        self.one_hot: Tensor
        self.label_index: Tensor
        self.global_scale: Tensor
        self.prior_signs: Tensor
        self.board_material: Tensor
        self.hand_material: Tensor
        self._buffer("one_hot", torch.eye(NUM_CODES))
        # Label -> index into [81 squares, 27 directions], the channels-last order of the head.
        self._buffer("label_index", planes % 81 * NUM_DIRECTIONS + planes // 81)
        self._buffer("global_scale", _global_scale())
        # Where no draw is possible P(win) - P(loss) is then tanh(prior), as from a scalar head.
        signs = [1.0, 0.0, -1.0] if config.value_head == "wdl" else [1.0]
        self._buffer("prior_signs", torch.tensor(signs))
        values = torch.tensor(PIECE_VALUES, dtype=torch.float32)
        self._buffer("board_material", torch.cat([values, -values[1:]]))
        self._buffer("hand_material", torch.cat([values[1:8], -values[1:8]]))
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, boards: Tensor, hands: Tensor, scalars: Tensor) -> tuple[Tensor, Tensor]:
        """Policy logits and the outcome's logits of each position.

        Args:
            boards: [B, 81] uint8 codes from the mover's side.
            hands: [B, 14] uint8 counts, own first.
            scalars: [B, 3] uint8, see `shogi.observation`.

        Returns:
            logits: [B, A] float32, legal or not.
            outcomes: float32 for the side to move; [B, 3] logits of win, draw and loss, or [B, 1]
                of which the value is the tangens hyperbolicus. See `outcome_values`.
        """
        codes = boards.long()
        planes = functional.embedding(codes, self.one_hot).view(-1, 9, 9, NUM_CODES)
        features = torch.cat([hands, scalars.clamp(max=CHECK_STREAK_LIMIT)], 1).float()
        features = features * self.global_scale
        x = self.stem(planes.permute(0, 3, 1, 2)) + self.globals(features)[:, :, None, None]
        if self.config.attackers:
            slots = self.attackers(boards)
            attacks = functional.embedding_bag(
                slots.flatten(0, 1), self.attacker_vectors, mode="sum", padding_idx=NO_ATTACKER
            )
            # In the stem's precision: under autocast the tower would be float32 from here on.
            attacks = attacks.to(x.dtype).view(-1, 9, 9, self.config.width)
            x = x + attacks.permute(0, 3, 1, 2)
        x = self.blocks(self.activation(x))

        by_square = self.policy_head(x).permute(0, 2, 3, 1).reshape(len(boards), -1)
        logits = by_square.index_select(1, self.label_index).float()

        squares = self.activation(self.value_squares(x)).permute(0, 2, 3, 1)
        hidden = self.activation(self.value_hidden(squares.reshape(len(boards), -1)))
        outcomes = self.value_out(hidden).float()
        if self.config.material_prior:
            material = functional.embedding(codes, self.board_material[:, None]).sum((1, 2))
            material = material + hands.float() @ self.hand_material
            prior = self.material_weight.float() * material
            outcomes = outcomes + prior[:, None] * self.prior_signs
        return logits, outcomes

    def _buffer(self, name: str, tensor: Tensor) -> None:
        """A constant that moves with the module and is not part of its weights."""
        self.register_buffer(name, tensor, persistent=False)


def build_model(config: ModelConfig, *, seed: int) -> PolicyValueNet:
    """A freshly initialised network; the same config and seed give the same weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return PolicyValueNet(config)


def outcome_values(outcomes: Tensor) -> tuple[Tensor, Tensor]:
    """The value and the probability of a draw.

    Args:
        outcomes: [B, 3] or [B, 1], see `PolicyValueNet.forward`.

    Returns:
        values: [B] in [-1, 1] for the side to move, P(win) - P(loss).
        draw_probs: [B]; 0 from a scalar head.
    """
    if outcomes.shape[1] == 1:
        values = torch.tanh(outcomes[:, 0])
        return values, torch.zeros_like(values)
    probs = torch.softmax(outcomes, 1)
    return probs[:, WIN] - probs[:, LOSS], probs[:, DRAW]


def legal_mask(legal_bits: Tensor) -> Tensor:
    """Unpacks `Rollout.legal_bits` on its own device.

    Args:
        legal_bits: [B, 187] uint8, most significant bit first.

    Returns:
        [B, A] bool, True = legal.
    """
    shifts = torch.arange(7, -1, -1, dtype=torch.uint8, device=legal_bits.device)
    bits = (legal_bits[:, :, None] >> shifts) & 1
    return bits.reshape(len(legal_bits), -1)[:, :NUM_ACTIONS].bool()


def masked_log_probs(logits: Tensor, mask: Tensor) -> Tensor:
    """Log-probabilities over legal moves only; illegal ones get a large negative number.

    Args:
        logits: [B, A] float32.
        mask: [B, A] bool, True = legal; every row has at least one.
    """
    return functional.log_softmax(logits.masked_fill(~mask, ILLEGAL_LOGIT), dim=1)


def architecture_digest(config: ModelConfig) -> str:
    """A short name for what the weights fit: equal exactly when the model config is."""
    return hashlib.sha256(config.model_dump_json().encode()).hexdigest()[:16]


def _activation(config: ModelConfig) -> nn.Module:
    # SiLU's backward pass needs its input, ReLU's does not: only ReLU may overwrite it.
    return nn.SiLU() if config.activation == "silu" else nn.ReLU(inplace=True)


def _global_scale() -> Tensor:
    """[17] factors that bring hand counts, repetitions and check streaks to [0, 1]."""
    limits = HAND_LIMITS + HAND_LIMITS + (3, CHECK_STREAK_LIMIT, CHECK_STREAK_LIMIT)
    return 1.0 / torch.tensor(limits, dtype=torch.float32)
