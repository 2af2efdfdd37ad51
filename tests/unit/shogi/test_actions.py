"""Labels against those of rsshogi, and under a change of colour."""

import numpy as np
import pytest
from rsshogi import policy
from rsshogi.core import Board, Move
from rsshogi.types import Color

from keisei_ray.rollouts.rollout import NUM_ACTIONS
from keisei_ray.shogi.actions import LABEL_OF_MOVE, LABEL_TO_PLANE_SQUARE

COLORS = (Color.BLACK, Color.WHITE)


def random_positions(num_positions: int, seed: int) -> list[Board]:
    """Positions along random games, both colours to move."""
    rng = np.random.default_rng(seed)
    positions: list[Board] = []
    board = Board()
    while len(positions) < num_positions:
        legal = board.legal_moves()
        if not legal or board.game_ply > 300:
            board = Board()
            continue
        positions.append(Board(board.to_sfen()))
        board.apply_move(legal[rng.integers(len(legal))])
    return positions


def test_every_16_bit_move_has_the_label_that_rsshogi_gives_it() -> None:
    for turn, color in enumerate(COLORS):
        named = np.flatnonzero(LABEL_OF_MOVE[turn] >= 0)
        assert len(named) > 2 * NUM_ACTIONS
        for value in named.tolist():
            label = policy.compact_move_label(Move(value), color)
            assert label == LABEL_OF_MOVE[turn, value], Move(value)


def test_planes_are_the_27_x_81_indices_of_rsshogi() -> None:
    assert LABEL_TO_PLANE_SQUARE.shape == (NUM_ACTIONS,)
    assert tuple(LABEL_TO_PLANE_SQUARE.tolist()) == policy.COMPACT_TO_MOVE_LABEL


def test_labels_of_legal_moves_are_distinct_and_rsshogis_on_thousands_of_positions() -> None:
    positions = random_positions(3000, seed=1)
    turns = [int(board.turn.value) for board in positions]
    assert 1000 < sum(turns) < 2000
    for board, turn in zip(positions, turns, strict=True):
        legal = board.legal_moves()
        labels = LABEL_OF_MOVE[turn, [move.value for move in legal]]
        assert labels.min() >= 0
        assert len(set(labels.tolist())) == len(legal)
        # Asking the library is slow; every tenth move is asked, over all positions thousands.
        for move, label in list(zip(legal, labels.tolist(), strict=True))[::10]:
            assert label == policy.compact_move_label(move, COLORS[turn])


def test_a_rotated_position_with_swapped_colours_has_the_same_labels() -> None:
    for board in random_positions(1000, seed=2):
        twin = Board(board.to_sfen_flipped())
        labels = [
            set(LABEL_OF_MOVE[int(b.turn.value), [m.value for m in b.legal_moves()]].tolist())
            for b in (board, twin)
        ]
        assert twin.turn != board.turn
        assert labels[0] == labels[1]


@pytest.mark.parametrize(
    "usi",
    ["5e6b", "5e3d", "7g7f+", "P*5a", "N*5b", "L*1a", "5d4b"],
    ids=lambda usi: usi.replace("*", "x"),
)
def test_moves_that_no_black_piece_can_make_have_no_label(usi: str) -> None:
    assert LABEL_OF_MOVE[0, Move.from_usi(usi).value] == -1


def test_tables_cannot_be_written_to() -> None:
    with pytest.raises(ValueError, match="read-only"):
        LABEL_OF_MOVE[0, 0] = 0
