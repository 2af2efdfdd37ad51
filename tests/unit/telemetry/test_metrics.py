"""The metrics table is the contract, records are held to it, rates follow from counts."""

from typing import Any

import numpy as np
import pytest

from keisei_ray.telemetry import metrics
from tests.helpers.tracking_fakes import record

KEYS = (
    "timestep, update, weights_version, wall_time_s, sps, sps_total, games_total, black_wins, "
    "white_wins, draws, truncated, game_length_mean, policy_loss, value_loss, entropy, "
    "approx_kl, clip_fraction, explained_variance, learning_rate, grad_norm, amp_dtype, "
    "amp_scale, amp_skipped, policy_lag_mean, policy_lag_max, batch_timesteps, "
    "rollout_bytes_raw, rollout_bytes_wire, weights_bytes_wire, collect_time_s, update_time_s, "
    "publish_time_s, wait_time_s, actors_alive, actor_restarts"
)
"""The keys of metrics.jsonl that scripts rely on, in their order."""
CONTRACT = KEYS.split(", ")


def test_names_and_order_are_the_contract() -> None:
    assert [metric.name for metric in metrics.METRICS] == CONTRACT


def test_every_metric_says_what_it_means_and_seconds_and_bytes_have_their_unit() -> None:
    for metric in metrics.METRICS:
        assert metric.meaning.endswith("."), metric.name
        if metric.name.endswith("_s"):
            assert metric.unit == "s"
        if "_bytes_" in metric.name:
            assert metric.unit == "bytes"


@pytest.mark.parametrize("name", CONTRACT)
def test_a_record_without_one_name_is_refused_by_that_name(name: str) -> None:
    incomplete = record(1)
    del incomplete[name]
    with pytest.raises(ValueError, match=f"'{name}'"):
        metrics.check(incomplete)


def test_a_record_with_another_name_is_refused_by_that_name() -> None:
    with pytest.raises(ValueError, match="'global_step'"):
        metrics.check(record(1) | {"global_step": 3})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("timestep", 1.0),
        ("timestep", None),
        ("timestep", True),
        ("sps", "fast"),
        ("sps", False),
        ("sps", np.float32(1)),
        ("games_total", np.int64(1)),
        ("amp_dtype", None),
    ],
)
def test_a_value_of_another_type_is_refused_by_its_name(name: str, value: object) -> None:
    wrong: dict[str, Any] = record(1) | {name: value}
    with pytest.raises(ValueError, match=name):
        metrics.check(wrong)


def test_a_float_may_be_undefined_or_whole() -> None:
    metrics.check(record(1, game_length_mean=None, policy_loss=float("nan"), sps=1000))


def test_in_order_restores_the_order_and_keeps_the_values() -> None:
    shuffled = dict(reversed(record(7).items()))
    ordered = metrics.in_order(shuffled)
    assert list(ordered) == CONTRACT
    assert ordered == record(7)
    with pytest.raises(ValueError, match="'draws'"):
        metrics.in_order({name: v for name, v in shuffled.items() if name != "draws"})


def test_rates_from_known_batches_and_a_fake_clock_are_exact() -> None:
    batches, clock = [4096, 8192, 4096], [0.0, 2.0, 4.0, 5.0]
    timestep, rates = 0, []
    for i, batch in enumerate(batches):
        timestep += batch
        rates.append(metrics.per_second(batch, clock[i + 1] - clock[i]))
    assert rates == [2048.0, 4096.0, 4096.0]
    assert metrics.per_second(timestep, clock[-1]) == 16384 / 5


def test_a_rate_over_no_time_is_undefined_and_a_backward_clock_is_an_error() -> None:
    assert metrics.per_second(5, 0.0) is None
    with pytest.raises(ValueError, match=r"-1\.0 s"):
        metrics.per_second(5, -1.0)
    with pytest.raises(ValueError, match="-5"):
        metrics.per_second(-5, 1.0)


def test_mean_and_share_of_nothing_are_undefined() -> None:
    assert metrics.mean(197, 2) == 98.5
    assert metrics.share(1, 4) == 0.25
    assert metrics.mean(0, 0) is None
    assert metrics.share(0, 0) is None


def test_time_left_is_the_rest_over_the_rate() -> None:
    assert metrics.remaining_s(400, 1000, 20.0) == 30.0
    assert metrics.remaining_s(1000, 1000, None) == 0.0
    assert metrics.remaining_s(1001, 1000, 20.0) == 0.0
    assert metrics.remaining_s(400, 1000, None) is None
    assert metrics.remaining_s(400, 1000, 0.0) is None
