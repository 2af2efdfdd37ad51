"""Sums over the minibatches of an update: which epoch its KL divergence is of."""

import pytest

from keisei_ray.learning.ppo import PPOSums
from keisei_ray.learning.update_totals import UpdateTotals


def minibatch(kl: float) -> PPOSums[float]:
    """Sums of 10 sampled rows with this mean of both KL divergences."""
    nothing = dict.fromkeys(PPOSums._fields, 0.0)
    return PPOSums(**nothing | {"sampled": 10.0, "kl_proximal": 10 * kl, "kl_behavior": 10 * kl})


def test_the_kl_divergence_is_that_of_the_last_epoch() -> None:
    totals = UpdateTotals()
    for kls in ((0.0, 0.01), (0.02, 0.04)):
        totals.start_epoch()
        for kl in kls:
            totals.add_minibatch(minibatch(kl), 10)
    assert totals.mean_kl_proximal == pytest.approx(0.03)
    assert totals.epoch_kl_behavior == pytest.approx(0.6)
    assert totals.epoch_sampled_rows == 20


def test_an_epoch_whose_first_minibatch_ends_the_update_leaves_the_one_before() -> None:
    """Its KL divergence would be 0 otherwise, where the policy changed most."""
    totals = UpdateTotals()
    totals.start_epoch()
    totals.add_minibatch(minibatch(0.12), 10)
    totals.start_epoch()
    assert totals.mean_kl_proximal == pytest.approx(0.12)
