"""Events of a made-up run, for tests of subscribers."""

from keisei_ray.config.schema import Config
from keisei_ray.rollouts.finished_game import FinishedGame
from keisei_ray.telemetry import events as ev
from keisei_ray.telemetry.diagnostics import Diagnostics
from keisei_ray.telemetry.metrics import MetricValue, UpdateMetrics
from keisei_ray.telemetry.reports import EvaluationResult, MatchScore

HIRATE = "lnsgkgsnl/1r5b1/ppppppppp/9/9/2P6/PP1PPPPPP/1B5R1/LNSGKGSNL w - 2"
"""The start position after black's 7g7f."""


def run_started(
    num_actors: int = 2, total_timesteps: int = 100_000, timestep: int = 0
) -> ev.RunStarted:
    """Returns the start of a run without evaluation, and with no setting left at "auto"."""
    config = Config.model_validate(
        {
            "run": {"total_timesteps": total_timesteps},
            "self_play": {"num_actors": num_actors},
            "learner": {"device": "cpu", "amp": "off"},
            "schedule": {"rollouts_per_update": 4},
            "evaluation": {"interval_timesteps": None},
        }
    )
    resumed_from = "runs/x/checkpoints/step-1" if timestep else None
    return ev.RunStarted(config, "runs/x", resumed_from, {"num_nodes": 1, "num_cpus": 2}, timestep)


def record(update: int, **changes: MetricValue) -> dict[str, MetricValue]:
    """Returns a line of metrics.jsonl: 1,000 timesteps, 10 games and one second an update."""
    values: dict[str, MetricValue] = {
        "timestep": 1000 * update,
        "update": update,
        "weights_version": update,
        "wall_time_s": float(update),
        "sps": 1000.0,
        "sps_total": 1000.0,
        "games_total": 10 * update,
        "black_wins": 5 * update,
        "white_wins": 3 * update,
        "draws": update,
        "truncated": update,
        "game_length_mean": 98.5,
        "policy_loss": -0.0123,
        "value_loss": 0.4567,
        "entropy": 3.21,
        "approx_kl": 0.01234,
        "clip_fraction": 0.125,
        "explained_variance": 0.345,
        "learning_rate": 0.000297,
        "grad_norm": 0.789,
        "amp_dtype": "bf16",
        "amp_scale": None,
        "amp_skipped": 0,
        "policy_lag_mean": 0.5,
        "policy_lag_max": 1,
        "batch_timesteps": 1000,
        "rollout_bytes_raw": 305_000,
        "rollout_bytes_wire": 40_000,
        "weights_bytes_wire": 1_000_000,
        "collect_time_s": 6.0,
        "update_time_s": 2.0,
        "publish_time_s": 1.0,
        "wait_time_s": 1.0,
        "actors_alive": 2,
        "actor_restarts": 0,
        "updates_undone": 0,
    }
    return values | changes


def fake_metrics(update: int, **changes: MetricValue) -> UpdateMetrics:
    """Returns the same as a record of `UpdateMetrics`."""
    return UpdateMetrics(**record(update, **changes))  # type: ignore[arg-type]


def diagnosed(update: int, **changes: float | None) -> ev.UpdateDiagnosed:
    """Returns the diagnostics of an update of 1,000 timesteps in which no game ended."""
    values: dict[str, float | None] = {
        "timestep": 1000 * update,
        "update": update,
        "distinct_positions": 1.0,
        "opening_plies_mean": None,
        "game_length_mean": None,
        "games": 0,
        "mate": 0,
        "repetition": 0,
        "perpetual_check": 0,
        "declaration": 0,
        "max_plies": 0,
        "entropy": 3.21,
        "ent_coef": 0.01,
        "kl_proximal": 0.01234,
        "truncated_weights": 0.0,
        "mate_loss": 0.0,
        "forced_timesteps": 0,
        "optimizer_steps": 32,
        "steps_undone": 0,
        "trained_timesteps": 1000,
        "pool_games": 0,
        "pool_score": None,
    }
    return ev.UpdateDiagnosed(Diagnostics(**values | changes))  # type: ignore[arg-type]


def updated(update: int, **changes: MetricValue) -> ev.UpdateFinished:
    """Returns an update with a game in play."""
    return ev.UpdateFinished(fake_metrics(update, **changes), HIRATE, "7g7f")


def game(index: int) -> FinishedGame:
    """Returns a finished game of actor 0."""
    return FinishedGame(
        game_id=f"0-0-{index}",
        actor_id=0,
        incarnation=0,
        index=index,
        weights_version=0,
        result="draw",
        reason="repetition",
        plies=12,
        opening_plies=2,
        moves="7g7f 3c3d",
    )


def evaluated(
    version: int,
    opponent: str,
    *,
    wins: int,
    draws: int = 0,
    truncated: int = 0,
    finishing: bool = False,
) -> ev.EvaluationFinished:
    """Returns a match of 32 games, with 1,000 timesteps a version."""
    score = (wins + (draws + truncated) / 2) / 32
    match = MatchScore(
        games=32,
        wins=wins,
        draws=draws,
        losses=32 - wins - draws - truncated,
        truncated=truncated,
        score=score,
        score_low=max(0.0, score - 0.1),
        score_high=min(1.0, score + 0.1),
        mean_plies=90.5,
        as_black_score=score,
        as_white_score=score,
        wall_time_s=2.0,
    )
    return ev.EvaluationFinished(
        EvaluationResult(
            timestep=1000 * version,
            weights_version=version,
            weights_digest=f"digest-{version}",
            player=f"v{version}{'+mate1' if finishing else ''}",
            opponent=opponent,
            finishing=finishing,
            match=match,
            run_time_s=1.0 * version,
        )
    )
