"""Names of everything that a run exports to Prometheus. `ray_metrics` exports it.

Names follow Prometheus' conventions (base units, unit at the end, `_total` for counters) and are
fixed: dashboards and alerts rely on them. Ray puts `ray_` before each.

Gauges show the run, over all resumes. Counters and histograms start at 0 with each process, as
Prometheus expects: look at their rates.
"""

from typing import Final

RAY_PREFIX: Final = "ray_"
RUN_LABEL: Final = "run"
"""Label of every series: the name of the run directory."""

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
    "updates_undone": "keisei_updates_undone",
}
"""Metric of `keisei_ray.telemetry.metrics` -> gauge of its newest value; absent if undefined."""

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
"""Metric -> the histogram that gets one observation per update. Ray exports only the number of
observations per bucket and estimates `_sum` from that; the counters have the exact sums."""

BUCKETS_S: Final = [0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0]
"""Upper bounds of the histograms' buckets."""

GAMES: Final = "keisei_games_total"
"""Counter of finished games, by RESULT_LABEL. It takes the place of GAME_METRICS."""
RESULT_LABEL: Final = "result"
"""Label with the result of a game as in games.jsonl: black_win, white_win, draw or truncated."""
GAME_METRICS: Final = ("games_total", "black_wins", "white_wins", "draws", "truncated")
"""Metrics that are exported as the one counter GAMES."""

RESTARTS: Final = "keisei_actor_restarts_total"
"""Counter of actors that died, failed or started too late and were replaced, by ROLE_LABEL. It
takes the place of actor_restarts, and also counts the learner's."""
ROLE_LABEL: Final = "role"
"""Label with the role of an actor: self_play or learner."""
REJECTED_ROLLOUTS: Final = "keisei_rejected_rollouts_total"
"""Counter of rollouts that were refused."""

SCORE: Final = "keisei_evaluation_score_ratio"
"""Gauge: points in the newest match, in [0, 1], by OPPONENT_LABEL and KIND_LABEL."""
OPPONENT_LABEL: Final = "opponent"
"""Label with the opponent as configured; `earlier` for all earlier versions."""
KIND_LABEL: Final = "kind"
"""Label with the kind of player: bare or finishing."""
ELO: Final[dict[str, str]] = {
    "elo": "keisei_elo",
    "low": "keisei_elo_low",
    "high": "keisei_elo_high",
}
"""Field of a rating -> gauge of the newest weights' rating, by KIND_LABEL; absent where unknown."""


def series() -> frozenset[str]:
    """Returns all names as Prometheus sees them: with Ray's prefix, and histograms by part."""
    names = {*GAUGES.values(), *COUNTERS.values(), *ELO.values()}
    names |= {GAMES, RESTARTS, REJECTED_ROLLOUTS, SCORE}
    names |= {
        f"{name}_{part}" for name in HISTOGRAMS.values() for part in ("bucket", "sum", "count")
    }
    return frozenset(RAY_PREFIX + name for name in names)
