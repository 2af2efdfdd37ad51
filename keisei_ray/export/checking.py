"""An exported ONNX file against the network that it was made from, by ONNX Runtime.

The positions are those of random games. A file passes if it finds the same likeliest legal moves
and the same values, in a batch and one by one.

K: positions.
"""

from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from keisei_ray.errors import ExportError
from keisei_ray.export.files import missing
from keisei_ray.export.graphs import (
    DLSHOGI_FEATURES,
    DLSHOGI_HANDS,
    DLSHOGI_PIECES,
    DLSHOGI_PLANES,
    HAND_ORDER,
)
from keisei_ray.network.model import PolicyValueNet
from keisei_ray.players.policies import FloatN, network_outputs
from keisei_ray.shogi.actions import LABEL_TO_PLANE_SQUARE
from keisei_ray.shogi.vector_games import VectorGames

NUM_POSITIONS: Final = 64
TOLERANCE: Final = 1e-4
"""Largest difference of a value, and of the logits of two moves that count as equally likely."""
OPENING_PLIES: Final = 150
"""Most plies of the random games before their positions are taken."""

Bytes = npt.NDArray[np.uint8]


class Positions(NamedTuple):
    """Compact positions with their legal moves."""

    boards: Bytes
    hands: Bytes
    scalars: Bytes
    legal: list[npt.NDArray[np.int16]]
    """Legal labels of each position."""


def random_positions() -> Positions:
    """Returns the same positions of random games at each call."""
    games = VectorGames(
        NUM_POSITIONS,
        max_plies=OPENING_PLIES + 1,
        rng_for_game=np.random.default_rng,
        random_opening_plies=OPENING_PLIES,
    )
    legal = np.split(games.legal_labels, games.legal_offsets[1:-1])
    return Positions(games.boards, games.hands, games.scalars, legal)


def check_compact(content: bytes, model: PolicyValueNet) -> float:
    """Compares an ONNX file of a `CompactGraph` with its network.

    Returns:
        The largest difference of a value.

    Raises:
        ExportError: they differ, or onnxruntime cannot be imported.
    """
    found = random_positions()
    inputs = {"boards": found.boards, "hands": found.hands, "scalars": found.scalars}
    policy, _, values = _run(content, inputs)
    return _compare(policy, values, model, found)


def check_dlshogi(content: bytes, model: PolicyValueNet) -> float:
    """Compares an ONNX file of a `DlshogiGraph` with its network; see `check_compact`.

    The network is given the positions as dlshogi's planes tell them.
    """
    found = as_seen_by_dlshogi(random_positions())
    input1, input2 = dlshogi_planes(found.boards, found.hands, found.scalars)
    policy, scores = _run(content, {"input1": input1, "input2": input2})
    return _compare(policy[:, LABEL_TO_PLANE_SQUARE], 2 * scores[:, 0] - 1, model, found)


def as_seen_by_dlshogi(found: Positions) -> Positions:
    """Returns positions without what dlshogi's planes do not tell."""
    hands, scalars = found.hands.copy(), np.zeros_like(found.scalars)
    hands[:, [0, 7]] = hands[:, [0, 7]].clip(max=DLSHOGI_HANDS[0])
    scalars[:, 2] = found.scalars[:, 2] > 0
    return found._replace(hands=hands, scalars=scalars)


def dlshogi_planes(boards: Bytes, hands: Bytes, scalars: Bytes) -> tuple[FloatN, FloatN]:
    """Returns `input1` and `input2`; the planes of attacks, which are not looked at, are zero.

    Args:
        boards, hands, scalars: [K] compact positions.
    """
    num = len(boards)
    input1 = np.zeros((num, 2, DLSHOGI_PLANES, 81), np.float32)
    codes = 1 + np.arange(2 * DLSHOGI_PIECES).reshape(2, DLSHOGI_PIECES)
    input1[:, :, :DLSHOGI_PIECES] = boards[:, None, None, :] == codes[:, :, None]
    input2 = np.zeros((num, DLSHOGI_FEATURES, 81), np.float32)
    row = 0
    for side in range(2):
        for piece, planes in zip(HAND_ORDER, DLSHOGI_HANDS, strict=True):
            counts = hands[:, 7 * side + piece]
            input2[:, row : row + planes] = (counts[:, None] > np.arange(planes))[:, :, None]
            row += planes
    input2[:, row] = scalars[:, 2:] > 0
    return input1.reshape(num, -1, 9, 9), input2.reshape(num, -1, 9, 9)


def _run(content: bytes, inputs: dict[str, npt.NDArray[Any]]) -> list[FloatN]:
    """Returns the outputs for all positions; the first of them is run alone as well."""
    try:
        import onnxruntime
    except ImportError as error:
        raise missing(error) from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    outputs: list[FloatN] = session.run(None, inputs)
    alone = session.run(None, {name: array[:1] for name, array in inputs.items()})
    for whole, part in zip(outputs, alone, strict=True):
        if not np.allclose(whole[:1], part, atol=TOLERANCE):
            raise ExportError(
                "the exported network answers one position otherwise alone than among others. "
                "Nothing is written; try another version of torch, and report it."
            )
    return outputs


def _compare(policy: FloatN, values: FloatN, model: PolicyValueNet, found: Positions) -> float:
    """Returns the largest difference of a value from the network's; refuses a real one."""
    logits, expected, _ = network_outputs(model, found.boards, found.hands, found.scalars)
    furthest = float(np.abs(values - expected).max())
    odd = [
        row
        for row, labels in enumerate(found.legal)
        if logits[row, labels].max() - logits[row, labels[policy[row, labels].argmax()]] > TOLERANCE
    ]
    if odd or furthest > TOLERANCE:
        raise ExportError(
            f"the exported network is another: {len(odd)} of {len(values)} likeliest moves differ, "
            f"and values by up to {furthest:.2g}, expected none and {TOLERANCE:g}. Nothing is "
            "written; try another version of torch, and report it."
        )
    return furthest
