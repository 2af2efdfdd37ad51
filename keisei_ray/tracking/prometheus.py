"""What a run exports to Prometheus: every name, once. Pure; `ray_metrics` does the exporting.

Names follow Prometheus' conventions (base units, unit at the end, `_total` on what only grows)
and are fixed: boards and alerts rely on them. Ray puts `ray_` before each.

Gauges show the run, over all resumes. Counters and histograms begin at nothing with each process,
as Prometheus expects: look at their rates.
"""

from typing import Final

RAY_PREFIX: Final = "ray_"
RUN_LABEL: Final = "run"
"""On every series: the name of the run directory."""

GAUGES: Final[dict[str, str]] = {
    "timestep": "keisei_timestep_plies",
    "update": "keisei_updates",
    "weights_version": "keisei_weights_version",
    "wall_time_s": "keisei_wall_time_seconds",
    "sps": "keisei_timesteps_per_second",
    "sps_total": "keisei_run_timesteps_per_second",
    "game_length_mean": "keisei_game_length_mean_plies",
    "policy_loss": "keisei_policy_loss",
    "value_loss": "keisei_value_loss",
    "entropy": "keisei_entropy_nats",
    "approx_kl": "keisei_approx_kl_nats",
    "clip_fraction": "keisei_clip_fraction_ratio",
    "explained_variance": "keisei_explained_variance_ratio",
    "learning_rate": "keisei_learning_rate",
    "grad_norm": "keisei_grad_norm",
    "amp_scale": "keisei_amp_scale",
    "policy_lag_mean": "keisei_policy_lag_mean_updates",
    "policy_lag_max": "keisei_policy_lag_max_updates",
    "rollout_bytes_raw": "keisei_rollout_raw_bytes",
    "rollout_bytes_wire": "keisei_rollout_wire_bytes",
    "weights_bytes_wire": "keisei_weights_wire_bytes",
    "actors_alive": "keisei_actors_alive",
}
"""Metric of `keisei_ray.telemetry.metrics` -> gauge of its newest value; none if undefined."""

COUNTERS: Final[dict[str, str]] = {
    "batch_timesteps": "keisei_timesteps_total",
    "amp_skipped": "keisei_amp_skipped_steps_total",
    "collect_time_s": "keisei_collect_seconds_total",
    "update_time_s": "keisei_update_seconds_total",
    "publish_time_s": "keisei_publish_seconds_total",
    "wait_time_s": "keisei_wait_seconds_total",
}
"""Metric of one update -> the counter that it adds to."""

HISTOGRAMS: Final[dict[str, str]] = {
    "collect_time_s": "keisei_collect_duration_seconds",
    "update_time_s": "keisei_update_duration_seconds",
}
"""Metric -> the histogram that gets one observation an update. Ray exports no more of it than how
many fell into which bucket, and makes up `_sum` from that: for sums there are the counters."""

BUCKETS_S: Final = [0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0]
"""Upper bounds of the histograms' buckets."""

GAMES: Final = "keisei_games_total"
"""Counter of finished games, by RESULT_LABEL. Stands for games_total and its four parts."""
RESULT_LABEL: Final = "result"
"""As in games.jsonl: black_win, white_win, draw or truncated."""
GAME_METRICS: Final = ("games_total", "black_wins", "white_wins", "draws", "truncated")

RESTARTS: Final = "keisei_actor_restarts_total"
"""Counter of actors that died, hung or failed and were replaced, by ROLE_LABEL. Stands for
actor_restarts, and counts the learner's too."""
ROLE_LABEL: Final = "role"
"""self_play or learner."""
REJECTED_ROLLOUTS: Final = "keisei_rejected_rollouts_total"
"""Counter of rollouts that were refused."""

SCORE: Final = "keisei_evaluation_score_ratio"
"""Gauge: points in the newest match, in [0, 1], by OPPONENT_LABEL and KIND_LABEL."""
OPPONENT_LABEL: Final = "opponent"
"""As configured; `earlier` for all own earlier versions."""
KIND_LABEL: Final = "kind"
"""bare or finishing."""
ELO: Final[dict[str, str]] = {
    "elo": "keisei_elo",
    "low": "keisei_elo_low",
    "high": "keisei_elo_high",
}
"""Field of a rating -> gauge of the newest weights' rating, by KIND_LABEL; absent where unknown."""


def series() -> frozenset[str]:
    """Every series as Prometheus sees it: with Ray's prefix, and the parts of histograms."""
    names = {*GAUGES.values(), *COUNTERS.values(), *ELO.values()}
    names |= {GAMES, RESTARTS, REJECTED_ROLLOUTS, SCORE}
    names |= {
        f"{name}_{part}" for name in HISTOGRAMS.values() for part in ("bucket", "sum", "count")
    }
    return frozenset(RAY_PREFIX + name for name in names)
