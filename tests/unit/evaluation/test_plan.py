"""The matches of a background evaluation."""

from keisei_ray.config.sections import EvaluationConfig
from keisei_ray.evaluation.plan import PlannedMatch, plan_matches


def plan(version: int = 9, earlier: tuple[int, ...] = (), **settings: object) -> list[PlannedMatch]:
    return plan_matches(
        EvaluationConfig.model_validate(settings),
        run_seed=5,
        timestep=900,
        run_time_s=1.5,
        weights_version=version,
        earlier_versions=earlier,
    )


def test_every_opponent_is_met_bare_and_finishing_and_earlier_versions_play_as_the_player() -> None:
    matches = plan(9, (8, 4), opponents=["random", "greedy", "snapshots"])
    assert [(m.player, m.opponent, m.opponent_version, m.finishing) for m in matches] == [
        ("v9", "random", None, False),
        ("v9+mate1", "random", None, True),
        ("v9", "greedy", None, False),
        ("v9+mate1", "greedy", None, True),
        ("v9", "v8", 8, False),
        ("v9+mate1", "v8+mate1", 8, True),
        ("v9", "v4", 4, False),
        ("v9+mate1", "v4+mate1", 4, True),
    ]


def test_without_finishing_only_the_bare_policy_plays() -> None:
    matches = plan(9, (8,), finishing=False, opponents=["greedy", "snapshots"])
    assert [(m.player, m.opponent) for m in matches] == [("v9", "greedy"), ("v9", "v8")]


def test_no_two_evaluations_share_openings() -> None:
    seeds = [{match.seed for match in plan(version, (1,))} for version in (2, 3, 4)]
    assert [len(seed) for seed in seeds] == [1, 1, 1]
    assert len(set.union(*seeds)) == 3
