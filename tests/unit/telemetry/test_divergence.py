"""One divergence is found once, a healthy run is left alone, and doubts show at once."""

import math
from collections.abc import Iterable, Iterator

import numpy as np
import pytest

from keisei_ray.telemetry.divergence import (
    LONG_WINDOW,
    MAX_KL,
    RECOVERY,
    WINDOW,
    Divergence,
    RunHealth,
)
from tests.helpers.run_events import diagnosed, fake_metrics

Figures = dict[str, float | None]

CALM: Figures = {
    "kl_proximal": 0.03,
    "clip_fraction": 0.25,
    "value_loss": 1.0,
    "entropy": 2.5,
    "explained_variance": 0.6,
    "optimizer_steps": 32,
}
"""Figures of an update of the preset `quickstart`."""


def calm(updates: int, **changes: float | None) -> list[Figures]:
    return [CALM | changes] * updates


def quickstart(seed: int, updates: int = 200) -> list[Figures]:
    """Figures of a healthy run, with the noise and the fast beginning of a real one."""
    rng = np.random.default_rng(seed)
    run: list[Figures] = []
    for n in range(updates):
        spread = 1.0 if n < 5 else 0.15
        run.append(
            {
                "kl_proximal": 0.03 * rng.lognormal(sigma=0.4) + (0.5 if n % 40 == 30 else 0.0),
                "clip_fraction": rng.uniform(0.1, 0.42),
                "value_loss": rng.uniform(0.7, 1.05),
                "entropy": 3.0 * 0.99**n + max(0.0, 1 - n / 10) + rng.uniform(-0.1, 0.1),
                "explained_variance": rng.normal(0.0 if n < 5 else 0.6, spread),
                "optimizer_steps": 32,
            }
        )
    return run


def observe(health: RunHealth, run: Iterable[Figures]) -> Iterator[Divergence | None]:
    """Hands over updates of 1,000 timesteps each."""
    for n, figures in enumerate(run, 1):
        ours = {name: figures[name] for name in ("kl_proximal", "optimizer_steps")}
        metrics = fake_metrics(n, **{k: v for k, v in figures.items() if k not in ours})
        yield health.observe(metrics, diagnosed(n, **ours).diagnostics)


def found_in(run: Iterable[Figures]) -> list[Divergence]:
    return [found for found in observe(RunHealth(), run) if found is not None]


def trouble_after(run: Iterable[Figures], health: RunHealth | None = None) -> str | None:
    health = health or RunHealth()
    list(observe(health, run))
    return health.trouble


@pytest.mark.parametrize("seed", range(10))
def test_a_healthy_run_is_left_alone(seed: int) -> None:
    assert found_in(quickstart(seed)) == []


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"kl_proximal": 0.81}, "kl_proximal 0.81 (expected up to 0.2)"),
        ({"kl_proximal": 1e8}, "kl_proximal 1e+08 (expected up to 0.2)"),
        ({"kl_proximal": 0.15, "clip_fraction": 0.89}, "clip_fraction 0.89 (expected up to 0.6)"),
        ({"value_loss": 1e17}, "value_loss 1e+17 (expected up to 2.2)"),
        ({"explained_variance": -0.5}, "explained_variance -0.50 (expected at least -0.3)"),
        ({"optimizer_steps": 0}, "the KL stop undid all optimizer steps of 3 updates"),
        ({"kl_proximal": math.inf}, "kl_proximal not finite"),
        ({"value_loss": math.nan}, "value_loss not finite"),
        ({"approx_kl": math.nan, "entropy": math.nan}, "approx_kl, entropy not finite"),
        ({"grad_norm": None}, "grad_norm not finite"),
    ],
)
def test_each_sign_that_lasts_is_found_once_with_its_number(
    changes: Figures, expected: str
) -> None:
    (found,) = found_in(calm(20) + calm(50, **changes))
    assert found.signs == expected
    assert trouble_after(calm(20) + calm(50, **changes)) == f"diverging: {expected}"


def test_a_large_value_loss_that_falls_is_a_network_that_learns() -> None:
    """From a pretraining; the updates of a run that diverges do not each improve on the last."""
    falling = [CALM | {"value_loss": loss} for loss in (4.71, 3.12, 2.4, 2.3, 2.25, 1.35)]
    assert found_in(falling + calm(20)) == []
    long_fall = [CALM | {"value_loss": 4.7 - 0.25 * n} for n in range(LONG_WINDOW)]  # To 2.45.
    assert found_in(long_fall + calm(20)) == []
    (found,) = found_in(long_fall + [CALM | {"value_loss": 2.5}] + calm(20))
    assert found.signs == "value_loss 2.5 (expected up to 2.2)"


@pytest.mark.parametrize(
    ("losses", "signs"),
    [
        ((2.9, 3.1, 3.2, 2.7, 2.8, 2.6, 2.5, 2.3, 1.8), []),
        ((2.9, 4.4, 4.5, 4.6), ["value_loss 4.4 (expected up to 4.35)"]),
        ((1.1, 2.3, 2.3), ["value_loss 2.3 (expected up to 2.2)"]),
        ((9.0, 11.0, 11.0), ["value_loss 11 (expected up to 10)"]),
        ((2.9,) * LONG_WINDOW, ["value_loss 2.9 (expected up to 2.2)"]),
    ],
)
def test_a_run_may_begin_with_a_large_value_loss_that_goes_up_and_down(
    losses: tuple[float, ...], signs: list[str]
) -> None:
    run = [CALM | {"value_loss": loss} for loss in losses]
    assert [found.signs for found in found_in(run + calm(20))] == signs


def test_a_fall_of_the_entropy_within_few_updates_is_a_divergence() -> None:
    """From a run whose updates 11 to 13 lost what was learned."""
    fall = [CALM | {"entropy": entropy} for entropy in (3.5, 3.5, 3.0, 2.4, 2.0, 2.0, 2.1)]
    (found,) = found_in(fall + calm(50, entropy=2.0))
    assert found == Divergence(
        4, "entropy 3.50 to 2.40 in 3 updates (expected a fall of up to 1)", sound_until=0
    )


def test_a_slow_fall_of_the_entropy_is_learning() -> None:
    run = [CALM | {"entropy": entropy} for entropy in np.arange(4.0, 0.2, -0.3).tolist()]
    assert found_in(run) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"kl_proximal": 9.0},
        {"kl_proximal": 0.15, "clip_fraction": 0.9},
        {"value_loss": 9.0},
        {"optimizer_steps": 0},
    ],
)
def test_one_bad_update_of_three_is_noise(changes: Figures) -> None:
    run = [CALM | changes if n % WINDOW == 0 else CALM for n in range(60)]
    assert found_in(run) == []


def test_explained_variance_is_judged_over_more_updates() -> None:
    noisy = [CALM | {"explained_variance": (0.3, -4.0)[n % 2]} for n in range(LONG_WINDOW - 1)]
    assert found_in(noisy + calm(50)) == []


def test_many_clipped_ratios_of_small_steps_are_no_divergence() -> None:
    """With a small clip_coef most ratios of a healthy run are clipped."""
    assert found_in(calm(50, clip_fraction=0.9)) == []


def test_a_run_that_diverges_at_once_is_found() -> None:
    (found,) = found_in(calm(WINDOW, kl_proximal=5.0, entropy=0.1))
    assert found.update == WINDOW


def test_a_figure_that_is_not_finite_is_found_at_once_and_once() -> None:
    bad = calm(
        1, kl_proximal=math.nan, value_loss=math.nan, entropy=math.nan, explained_variance=math.nan
    )
    (found,) = found_in(calm(20) + bad + calm(50))
    assert found.update == 21


def test_only_after_a_recovery_is_another_divergence_found() -> None:
    bad = calm(WINDOW, kl_proximal=1.0)
    assert len(found_in(bad + calm(RECOVERY - 1) + bad)) == 1
    # The last bad updates stay in the window for one more.
    assert len(found_in(bad + calm(RECOVERY + 1) + bad)) == 2


def test_the_updates_before_the_signs_are_sound() -> None:
    (found,) = found_in(calm(20) + calm(5, kl_proximal=1.0))
    # The second bad update shows it; the windows hold ten.
    assert (found.update, found.sound_until) == (22, 12_000)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"kl_proximal": 1e8}, "doubtful: kl_proximal 1e+08 (expected up to 0.2)"),
        ({"value_loss": 1e17}, "doubtful: value_loss 1e+17 (expected up to 2.2)"),
    ],
)
def test_one_bad_update_makes_the_weights_doubtful_at_once_and_the_next_clears_them(
    changes: Figures, expected: str
) -> None:
    assert str(trouble_after(calm(20) + calm(1, **changes))).startswith(expected)
    assert trouble_after(calm(20) + calm(1, **changes) + calm(1)) is None


def test_weights_are_healthy_again_after_a_recovery() -> None:
    bad = calm(WINDOW, kl_proximal=2 * MAX_KL)
    # The last bad updates stay in the window for one more.
    assert str(trouble_after(bad + calm(RECOVERY))).startswith("diverging: kl_proximal")
    assert trouble_after(bad + calm(RECOVERY + 1)) is None


def test_a_policy_that_has_died_is_not_healthy_however_calm_it_is() -> None:
    """As after a learning rate of 100: no change, no loss, and always the same moves."""
    dead = calm(5 * RECOVERY, kl_proximal=0.0, value_loss=0.0, entropy=0.0)
    bad = calm(WINDOW, kl_proximal=1e4)
    assert str(trouble_after(calm(20) + bad + dead)).startswith("diverging: ")
    assert trouble_after(calm(20) + dead + calm(2)) is not None
    assert trouble_after(dead) == "doubtful: entropy 0 (expected at least 0.1)"
    assert len(found_in(calm(20) + bad + dead)) == 1


def test_a_run_that_goes_on_from_troubled_weights_has_to_recover() -> None:
    assert trouble_after(calm(RECOVERY - 1), RunHealth.resumed("diverging: x")) == "diverging: x"
    assert trouble_after(calm(RECOVERY), RunHealth.resumed("diverging: x")) is None
    assert trouble_after(calm(1), RunHealth.resumed(None)) is None
