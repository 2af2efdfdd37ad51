"""Diagnostics of an update, from hand-made reports."""

from dataclasses import asdict, replace

from keisei_ray.rollouts.finished_game import FinishedGame
from keisei_ray.rollouts.rollout import RolloutHeader
from keisei_ray.telemetry.diagnostics import diagnose, traces
from keisei_ray.telemetry.progress import Progress
from keisei_ray.telemetry.reports import (
    CollectReport,
    CollectStages,
    Trace,
    UpdateReport,
    UpdateStages,
)
from tests.helpers.run_events import game

REPORT = UpdateReport(
    weights_version=3,
    batch_timesteps=24,
    rollout_bytes_raw=0,
    rollout_bytes_wire=0,
    weights_bytes_wire=0,
    policy_loss=0.0,
    value_loss=0.0,
    entropy=2.5,
    approx_kl=0.0,
    clip_fraction=0.0,
    explained_variance=0.0,
    learning_rate=0.0,
    mate_loss=1.5,
    kl_proximal=0.03,
    truncated_weights=0.125,
    forced_timesteps=7,
    steps_undone=1,
    ent_coef=0.02,
    grad_norm=0.0,
    amp_dtype="off",
    amp_scale=None,
    amp_skipped=0,
    policy_lag_mean=0.0,
    policy_lag_max=0,
    first_log_ratio=0.0,
    optimizer_steps=1,
    update_time_s=0.0,
    publish_time_s=0.0,
)


def collected(*games: FinishedGame, distinct: float, trained: int) -> CollectReport:
    header = RolloutHeader(0, 0, 0, 2, T=4, N=3)
    return CollectReport(header, games, trained, distinct, 0, 0, 0.0, "", "")


def test_an_update_is_described_by_its_rollouts_and_the_games_that_ended_in_them() -> None:
    plain = game(0)  # A repetition of 12 plies, 2 of them opening.
    won = replace(
        plain,
        result="white_win",
        reason="mate",
        plies=30,
        opening_plies=4,
        opponent="v1",
        learner_color="white",
    )
    cut = replace(won, result="truncated", reason="max_plies", plies=60)
    lost = replace(won, result="black_win", reason="resign", plies=10, opening_plies=0)
    found = diagnose(
        Progress(timestep=100, updates=5),
        REPORT,
        [
            collected(plain, won, distinct=1.0, trained=12),
            collected(cut, lost, distinct=0.5, trained=7),
        ],
    )
    assert (found.timestep, found.update, found.entropy) == (100, 5, 2.5)
    assert (found.distinct_positions, found.trained_timesteps) == (0.75, 19)
    assert (found.game_length_mean, found.opening_plies_mean) == (112 / 4, 10 / 4)
    assert (found.games, found.mate, found.repetition, found.max_plies) == (4, 1, 1, 1)
    assert (found.perpetual_check, found.declaration) == (0, 0)
    assert (found.pool_games, found.pool_score) == (3, 0.5)


def test_where_no_game_ended_figures_of_games_are_undefined() -> None:
    found = diagnose(Progress(), REPORT, [collected(distinct=1.0, trained=12)])
    assert (found.games, found.pool_games) == (0, 0)
    assert found.game_length_mean is found.opening_plies_mean is found.pool_score is None


def test_stages_are_the_updates_and_the_mean_of_the_rollouts() -> None:
    report = replace(REPORT, stages=UpdateStages(0.5, 2.0, 4.0, 8.0))
    plain = collected(distinct=1.0, trained=12)
    longer = CollectStages(2.0, 20.0, 200.0, 2000.0, 20000.0)
    rollouts = [replace(plain, stages=CollectStages()), replace(plain, stages=longer)]
    found = diagnose(Progress(), report, rollouts)
    assert {k: v for k, v in asdict(found).items() if k.endswith("_time_s")} == {
        "unpack_time_s": 0.5,
        "advantages_time_s": 2.0,
        "gradients_time_s": 4.0,
        "optimizer_time_s": 8.0,
        "env_time_s": 1.0,
        "opponents_time_s": 10.0,
        "forward_time_s": 100.0,
        "sample_time_s": 1000.0,
        "pack_time_s": 10000.0,
    }


def test_the_traces_of_an_update_are_those_that_came_with_it() -> None:
    plain = collected(distinct=1.0, trained=12)
    learners, actors = Trace("a", b"1"), Trace("b", b"2")
    profiled = replace(plain, trace=actors)
    assert traces(replace(REPORT, trace=learners), [plain, profiled]) == (learners, actors)
    assert traces(REPORT, [plain]) == ()
