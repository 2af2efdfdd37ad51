"""Legal moves as one list over many positions."""

import numpy as np
import torch

from keisei_ray.network.listed_moves import ListedMoves, list_moves, listed_log_probs
from keisei_ray.rollouts.rollout import NUM_ACTIONS


def random_bits(rows: int) -> np.ndarray:
    """[rows, 187] legal bits of few or many labels, at least the first."""
    rng = np.random.default_rng(0)
    mask = rng.random((rows, NUM_ACTIONS)) < rng.random((rows, 1)) / 5
    mask[:, 0] = True
    mask[0, 1:] = False
    return np.packbits(mask, axis=1)


def test_moves_are_listed_by_position_and_label() -> None:
    bits = random_bits(50)
    moves = list_moves(torch.from_numpy(bits))
    rows, labels = np.nonzero(np.unpackbits(bits, axis=1))
    assert moves.rows.dtype == moves.labels.dtype == torch.int64
    assert moves.rows.tolist() == rows.tolist()
    assert moves.labels.tolist() == labels.tolist()


def test_of_no_position_no_move_is_listed() -> None:
    """A learner among several may have no row of a minibatch."""
    moves = list_moves(torch.zeros(0, 187, dtype=torch.uint8))
    assert [len(part) for part in moves] == [0, 0]
    assert len(listed_log_probs(torch.zeros(0), moves, 0)) == 0


def test_log_probabilities_are_those_of_each_position_alone() -> None:
    moves = list_moves(torch.from_numpy(random_bits(20)))
    generator = torch.Generator().manual_seed(0)
    logits = 40 * torch.randn(len(moves.rows), generator=generator)
    weights = torch.randn(len(moves.rows), generator=generator)
    together, apart = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    found = listed_log_probs(together, moves, 20)
    expected = torch.cat([torch.log_softmax(apart[moves.rows == i], 0) for i in range(20)])
    torch.testing.assert_close(found, expected)
    for log_probs in (found, expected):
        (log_probs * weights).sum().backward()
    torch.testing.assert_close(together.grad, apart.grad)


def test_the_order_of_positions_does_not_matter() -> None:
    moves = list_moves(torch.from_numpy(random_bits(20)))
    logits = torch.randn(len(moves.rows), generator=torch.Generator().manual_seed(0))
    order = torch.randperm(len(logits), generator=torch.Generator().manual_seed(1))
    shuffled = ListedMoves(moves.rows[order], moves.labels[order])
    found = listed_log_probs(logits[order], shuffled, 20)
    torch.testing.assert_close(found, listed_log_probs(logits, moves, 20)[order])
