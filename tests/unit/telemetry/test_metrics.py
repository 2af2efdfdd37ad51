"""The metrics record is the contract, and it is built from the counts and reports of an update."""

import json
from dataclasses import dataclass, replace
from typing import Annotated, Any

import numpy as np
import pytest

from keisei_ray.rollouts.rollout import RolloutHeader
from keisei_ray.telemetry import metrics
from keisei_ray.telemetry.diagnostics import DIAGNOSTICS
from keisei_ray.telemetry.metrics import Metric, UpdateMetrics
from keisei_ray.telemetry.progress import Progress
from keisei_ray.telemetry.reports import CollectReport, UpdateReport
from tests.helpers.run_events import fake_metrics, game, record

KEYS = (
    "timestep, update, weights_version, wall_time_s, sps, sps_total, games_total, black_wins, "
    "white_wins, draws, truncated, game_length_mean, policy_loss, value_loss, entropy, "
    "approx_kl, clip_fraction, explained_variance, learning_rate, grad_norm, amp_dtype, "
    "amp_scale, amp_skipped, policy_lag_mean, policy_lag_max, batch_timesteps, "
    "rollout_bytes_raw, rollout_bytes_wire, weights_bytes_wire, collect_time_s, update_time_s, "
    "publish_time_s, wait_time_s, actors_alive, actor_restarts, "
    "updates_undone"
)
"""The keys of metrics.jsonl that scripts rely on, in their order."""
CONTRACT = KEYS.split(", ")


def test_names_and_order_are_the_contract() -> None:
    assert [metric.name for metric in metrics.METRICS] == CONTRACT


@pytest.mark.parametrize("metric", [*metrics.METRICS, *DIAGNOSTICS], ids=lambda m: m.name)
def test_every_metric_has_a_meaning_and_seconds_and_bytes_have_their_unit(metric: Metric) -> None:
    assert metric.meaning.endswith(".")
    if metric.name.endswith("_s"):
        assert metric.unit == "s"
    if "_bytes_" in metric.name:
        assert metric.unit == "bytes"


def test_a_table_is_read_off_the_fields_of_a_record() -> None:
    @dataclass
    class Record:
        """Two figures."""

        games: Annotated[int, "games"]
        """Games that
        ended."""
        length: Annotated[float | None, "plies"] = None
        """Mean length."""

    assert metrics.table_of(Record) == (
        Metric("games", "int", "games", "Games that ended."),
        Metric("length", "float", "plies", "Mean length."),
    )


def test_a_record_is_a_mapping_in_the_contracts_order() -> None:
    made = fake_metrics(7)
    assert list(made) == CONTRACT
    assert made == record(7)
    assert (made["entropy"], made.get("loss")) == (made.entropy, None)
    assert list(json.loads(json.dumps(dict(made)))) == CONTRACT
    assert replace(made, draws=0)["draws"] == 0


@pytest.mark.parametrize("name", CONTRACT)
def test_a_record_without_one_name_is_refused_by_that_name(name: str) -> None:
    incomplete = record(1)
    del incomplete[name]
    with pytest.raises(TypeError, match=f"'{name}'"):
        UpdateMetrics(**incomplete)  # type: ignore[arg-type]


def test_a_record_with_another_name_is_refused_by_that_name() -> None:
    with pytest.raises(TypeError, match="'global_step'"):
        fake_metrics(1, global_step=3)


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
        UpdateMetrics(**wrong)


def test_a_float_may_be_undefined_or_whole() -> None:
    fake_metrics(1, game_length_mean=None, policy_loss=float("nan"), sps=1000)


def test_an_updates_metrics_are_the_runs_counts_and_the_figures_of_its_reports() -> None:
    progress = Progress(
        timestep=1000,
        updates=5,
        weights_version=5,
        games_total=40,
        black_wins=19,
        white_wins=12,
        draws=6,
        truncated=3,
        wall_time_s=50.0,
        actor_restarts=2,
        updates_undone=0,
    )
    report = UpdateReport(
        weights_version=5,
        batch_timesteps=24,
        rollout_bytes_raw=101,
        rollout_bytes_wire=102,
        weights_bytes_wire=103,
        policy_loss=0.1,
        value_loss=0.2,
        entropy=0.3,
        approx_kl=0.4,
        clip_fraction=0.5,
        explained_variance=0.6,
        learning_rate=0.7,
        mate_loss=0.0,
        kl_proximal=0.0,
        truncated_weights=0.0,
        forced_timesteps=0,
        steps_undone=0,
        ent_coef=0.8,
        grad_norm=0.9,
        amp_dtype="fp16",
        amp_scale=1024.0,
        amp_skipped=4,
        policy_lag_mean=1.5,
        policy_lag_max=7,
        first_log_ratio=0.0,
        optimizer_steps=8,
        update_time_s=2.5,
        publish_time_s=3.5,
    )
    header = RolloutHeader(0, 0, 0, 4, T=4, N=3)
    rollout = CollectReport(header, (), 12, 1.0, 0, 0, 6.0, "", "")
    rollouts = [rollout, replace(rollout, games=(game(0), game(1)), collect_time_s=8.0)]
    built = metrics.update_metrics(
        progress, report, rollouts, since_last_s=4.0, waited_s=4.5, actors_alive=9
    )
    named = {name: value for name, value in vars(progress).items() if name in CONTRACT}
    named |= {name: value for name, value in vars(report).items() if name in CONTRACT}
    assert built == named | {
        "update": 5,
        "sps": 6.0,
        "sps_total": 20.0,
        "game_length_mean": 12.0,
        "collect_time_s": 7.0,
        "wait_time_s": 4.5,
        "actors_alive": 9,
    }
