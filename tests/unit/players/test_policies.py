"""Moves sampled from a policy."""

import numpy as np
import pytest

from keisei_ray.players.policies import sample_legal


def test_sampling_follows_the_softmax_over_legal_labels() -> None:
    """Chi-square over 30,000 draws in each of three rows with 4, 1 and 30 legal labels."""
    rng = np.random.default_rng(0)
    counts, draws = [4, 1, 30], 30_000
    labels = [rng.choice(1496, count, replace=False) for count in counts]
    logits = rng.normal(0, 1.5, (3, 1496)).astype(np.float32)
    tallies = [np.zeros(count) for count in counts]
    rows = np.repeat(np.arange(3), draws // 30)
    for _ in range(30):
        offsets = np.concatenate([[0], np.cumsum(np.take(counts, rows))]).astype(np.int64)
        flat = np.concatenate([labels[row] for row in rows]).astype(np.int16)
        choices, log_probs = sample_legal(logits[rows], flat, offsets, rng.random(len(rows)))
        for row in range(3):
            tallies[row] += np.bincount(choices[rows == row], minlength=counts[row])
            exact = logits[row, labels[row]].astype(np.float64)
            exact -= np.log(np.exp(exact).sum())
            picked = choices[rows == row]
            np.testing.assert_allclose(log_probs[rows == row], exact[picked], atol=1e-5)
    for row, count in enumerate(counts):
        odds = np.exp(logits[row, labels[row]].astype(np.float64))
        expected = draws * odds / odds.sum()
        assert tallies[row].shape == (count,)
        statistic = ((tallies[row] - expected) ** 2 / expected).sum()
        # Five deviations of a chi-square variable above its mean.
        assert statistic <= count - 1 + 5 * np.sqrt(2 * count)


@pytest.mark.parametrize("uniform", [0.0, 0.5, np.nextafter(1.0, 0.0)])
def test_the_edges_of_the_uniform_stay_within_the_row(uniform: float) -> None:
    logits = np.random.default_rng(1).normal(0, 30, (200, 1496)).astype(np.float32)
    counts = np.random.default_rng(2).integers(1, 60, 200)
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    labels = np.concatenate([np.arange(count) for count in counts]).astype(np.int16)
    choices, log_probs = sample_legal(logits, labels, offsets, np.full(200, uniform))
    assert ((choices >= 0) & (choices < counts)).all()
    assert np.isfinite(log_probs).all()
    assert (log_probs <= 0).all()
