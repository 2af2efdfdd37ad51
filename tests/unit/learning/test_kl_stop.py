"""The KL stop is decided by all rows of a minibatch, not by one."""

import numpy as np
import pytest
import torch

from keisei_ray.learning.kl_stop import is_beyond, least_mean
from keisei_ray.learning.ppo import kl_sums


@pytest.mark.parametrize(
    ("rows", "target_kl", "expected"),
    [
        ([0.02] * 256, 0.1, False),
        ([0.02] * 255 + [40.0], 0.1, False),  # 0.18 in the mean, 0.16 of it from one row.
        ([0.2] * 256, 0.1, True),
        ([0.2] * 256, None, False),
        ([], 0.1, False),
        ([float("nan")] * 256, 0.1, False),  # The loss is not finite then: another rule.
    ],
)
def test_the_stop_is_not_decided_by_one_row(
    rows: list[float], target_kl: float | None, expected: bool
) -> None:
    estimates = torch.tensor(rows)
    found = is_beyond(
        estimates.sum(), estimates.square().sum(), torch.tensor(float(len(rows))), target_kl
    )
    assert (found.dtype, found.shape) == (torch.bool, ())
    assert bool(found) == expected


def least_mean_of(log_ratios: np.ndarray) -> float:
    sums = kl_sums(torch.from_numpy(log_ratios.astype(np.float32)))
    return float(least_mean(*sums, torch.tensor(float(len(log_ratios)))))


def test_the_least_mean_is_the_mean_less_its_standard_error() -> None:
    log_ratios = np.random.default_rng(0).normal(0, 0.3, 256)
    estimates = np.expm1(log_ratios) - log_ratios
    expected = estimates.mean() - estimates.std() / np.sqrt(len(estimates))
    assert 0 < expected < 0.95 * estimates.mean()
    assert least_mean_of(log_ratios) == pytest.approx(expected, rel=1e-4)


def test_one_row_far_above_the_others_does_not_raise_the_least_mean() -> None:
    """A move whose probability rose from 1 in 1,000 to 6 in 100 makes the plain mean fivefold."""
    log_ratios = np.random.default_rng(0).normal(0, 0.3, 256)
    mean = np.mean(np.expm1(log_ratios) - log_ratios)
    log_ratios[100] = 4.1
    assert np.mean(np.expm1(log_ratios) - log_ratios) > 4 * mean
    assert least_mean_of(log_ratios) < 1.05 * mean


@pytest.mark.parametrize("log_ratio", [1e-4, 0.5, 3.0, 60.0])
def test_a_change_of_all_rows_alike_is_the_least_mean_however_large(log_ratio: float) -> None:
    found = least_mean_of(np.full(64, log_ratio))
    assert found == pytest.approx(np.expm1(log_ratio) - log_ratio, rel=1e-3)


def test_the_least_mean_is_infinite_where_the_sum_has_overflowed() -> None:
    assert least_mean_of(np.full(64, 85.0)) == np.inf
