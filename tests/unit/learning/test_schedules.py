"""Schedules of learning rate and entropy bonus against their closed forms."""

import math
from typing import Any

import pytest

from keisei_ray.config.sections import LearnerConfig
from keisei_ray.learning.schedules import (
    adapted_learning_rate,
    resumed_learning_rate,
    scheduled_ent_coef,
    scheduled_learning_rate,
)


@pytest.mark.parametrize(
    ("schedule", "at_quarter"),
    [
        ("constant", 1.0),
        ("linear", 0.1 + 0.9 * 0.75),
        ("cosine", 0.1 + 0.9 * (1 + math.sqrt(0.5)) / 2),
    ],
)
def test_the_learning_rate_follows_its_closed_form(schedule: Any, at_quarter: float) -> None:
    config = LearnerConfig(learning_rate=2e-3, lr_schedule=schedule, lr_final_fraction=0.1)
    end = 1.0 if schedule == "constant" else 0.1
    for progress, share in ((0, 1), (0.25, at_quarter), (1, end), (1.7, end), (-0.1, 1)):
        assert scheduled_learning_rate(config, progress) == pytest.approx(2e-3 * share)


@pytest.mark.parametrize(
    ("rate", "kl", "expected"),
    [
        (1e-3, 0.041, 1e-3 / 1.5),
        (1e-3, math.inf, 1e-3 / 1.5),
        (1e-3, 0.039, 1e-3),
        (1e-3, 0.011, 1e-3),
        (1e-3, 0.009, 1.5e-3),
        (1.1e-5, 1.0, 1e-5),  # Not below a hundredth of the first,
        (9e-3, 0.0, 1e-2),  # nor above ten times the first.
    ],
)
def test_the_adaptive_learning_rate_follows_the_policy_change(
    rate: float, kl: float, expected: float
) -> None:
    config = LearnerConfig(learning_rate=1e-3, lr_schedule="adaptive", lr_adaptive_kl=0.02)
    assert adapted_learning_rate(config, rate, kl) == pytest.approx(expected)


def test_the_entropy_bonus_changes_evenly_over_the_run() -> None:
    config = LearnerConfig(ent_coef=0.02, ent_final_fraction=0.25)
    for progress, share in ((0, 1), (0.5, 0.625), (1, 0.25), (1.7, 0.25), (-0.1, 1)):
        assert scheduled_ent_coef(config, progress) == pytest.approx(0.02 * share)
    rising = LearnerConfig(ent_coef=0.02, ent_final_fraction=2)
    assert scheduled_ent_coef(rising, 0.5) == pytest.approx(0.03)


@pytest.mark.parametrize(
    ("saved", "setting", "factor", "expected"),
    [
        (5e-4, 1e-4, 1.0, 5e-4),  # The same setting: the very rate,
        (0.01 * 1e-4 / 2, 1e-4, 0.5, 5e-7),  # also the smallest one, halved.
        (2.5e-3, 1e-3, 1.0, 2.5e-4),  # A tenth of the setting: a tenth of the rate.
        (2e-5, 2e-5, 1.0, 1e-4),
        (0.0, 1e-4, 1.0, 1e-6),  # Another schedule had ended at 0.
        (2.5e-3, None, 1.0, 1e-3),  # Not known: at most what this setting allows.
        (1e-9, None, 1.0, 1e-6),
        (2e-4, None, 1.0, 2e-4),
    ],
)
def test_an_adaptive_learning_rate_goes_on_as_the_setting_has_changed(
    saved: float, setting: float | None, factor: float, expected: float
) -> None:
    config = LearnerConfig(learning_rate=1e-4, lr_schedule="adaptive")
    found = resumed_learning_rate(config, saved, setting, factor)
    assert found == pytest.approx(expected)
    assert found == saved or setting != 1e-4 or saved == 0
