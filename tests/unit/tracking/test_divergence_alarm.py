"""One warning per divergence, none for a healthy run, another only after a recovery."""

import math
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

from keisei_ray.storage import checkpoint
from keisei_ray.telemetry.events import Event, Notice
from keisei_ray.tracking.divergence_alarm import LONG_WINDOW, RECOVERY, WINDOW, DivergenceAlarm
from tests.helpers.run_events import diagnosed, updated

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


def events(run: Iterable[Figures]) -> list[Event]:
    """The two events of each update: 1,000 timesteps each."""
    found: list[Event] = []
    for n, figures in enumerate(run, 1):
        ours = {name: figures[name] for name in ("kl_proximal", "optimizer_steps")}
        found += [updated(n, **{k: v for k, v in figures.items() if k not in ours})]
        found += [diagnosed(n, **ours)]
    return found


def warnings(run: Iterable[Figures], checkpoints_dir: Path = Path("none")) -> list[str]:
    published: list[Event] = []
    alarm = DivergenceAlarm(published.append, checkpoints_dir)
    for event in events(run):
        alarm.handle(event)
    assert all(isinstance(event, Notice) and event.level == "WARNING" for event in published)
    return [event.message for event in published if isinstance(event, Notice)]


@pytest.mark.parametrize("seed", range(10))
def test_a_healthy_run_is_left_alone(seed: int) -> None:
    assert warnings(quickstart(seed)) == []


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
def test_each_sign_that_lasts_causes_one_warning_with_its_number(
    changes: Figures, expected: str
) -> None:
    (warning,) = warnings(calm(20) + calm(50, **changes))
    assert f": {expected}. Lower learner.learning_rate" in warning


def test_a_fall_of_the_entropy_within_few_updates_is_a_divergence() -> None:
    """From a run whose updates 11 to 13 lost what was learned."""
    fall = [CALM | {"entropy": entropy} for entropy in (3.5, 3.5, 3.0, 2.4, 2.0, 2.0, 2.1)]
    (warning,) = warnings(fall + calm(50, entropy=2.0))
    assert "at update 4: entropy 3.50 to 2.40 in 3 updates (expected a fall of up to 1)" in warning


def test_a_slow_fall_of_the_entropy_is_learning() -> None:
    run = [CALM | {"entropy": entropy} for entropy in np.arange(4.0, 0.2, -0.3).tolist()]
    assert warnings(run) == []


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
    assert warnings(run) == []


def test_explained_variance_is_judged_over_more_updates() -> None:
    noisy = [CALM | {"explained_variance": (0.3, -4.0)[n % 2]} for n in range(LONG_WINDOW - 1)]
    assert warnings(noisy + calm(50)) == []


def test_many_clipped_ratios_of_small_steps_are_no_divergence() -> None:
    """With a small clip_coef most ratios of a healthy run are clipped."""
    assert warnings(calm(50, clip_fraction=0.9)) == []


def test_a_run_that_diverges_at_once_is_found() -> None:
    (warning,) = warnings(calm(WINDOW, kl_proximal=5.0, entropy=0.1))
    assert f"at update {WINDOW}" in warning


def test_a_figure_that_is_not_finite_is_found_at_once_and_once() -> None:
    bad = calm(
        1, kl_proximal=math.nan, value_loss=math.nan, entropy=math.nan, explained_variance=math.nan
    )
    (warning,) = warnings(calm(20) + bad + calm(50))
    assert "at update 21:" in warning


def test_only_a_recovery_allows_another_warning() -> None:
    bad = calm(WINDOW, kl_proximal=1.0)
    assert len(warnings(bad + calm(RECOVERY - 1) + bad)) == 1
    # The last bad updates stay in the window for one more.
    assert len(warnings(bad + calm(RECOVERY + 1) + bad)) == 2


def test_the_warning_names_the_newest_checkpoint_from_before(tmp_path: Path) -> None:
    for timestep in (2_000, 5_000, 10_000, 22_000):
        checkpoint.save(tmp_path, timestep, {"weights": b"w"}, {})
    (tmp_path / "step-000000010000" / "weights").write_bytes(b"damaged")
    (warning,) = warnings(calm(20) + calm(5, kl_proximal=1.0), tmp_path)
    assert warning.endswith(f"from before: --resume {tmp_path / 'step-000000005000'}")
    (warning,) = warnings(calm(1) + calm(5, kl_proximal=1.0), tmp_path)
    assert warning.endswith("no checkpoint is from before.")


def test_directories_that_cannot_be_listed_do_not_cost_the_warning(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (warning,) = warnings(calm(5, kl_proximal=1.0), tmp_path / "file")
    assert "no checkpoint is from before" in warning
