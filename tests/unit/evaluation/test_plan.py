"""The matches of a background evaluation."""

from collections.abc import Mapping
from types import MappingProxyType

import pytest

from keisei_ray.config.sections import EvaluationConfig
from keisei_ray.evaluation.plan import PlannedMatch, informative, plan_matches

Scores = Mapping[tuple[str, bool], float]


def plan(
    version: int = 9,
    earlier: tuple[int, ...] = (),
    scores: Scores = MappingProxyType({}),
    **settings: object,
) -> list[PlannedMatch]:
    return plan_matches(
        EvaluationConfig.model_validate(settings),
        run_seed=5,
        timestep=900,
        run_time_s=1.5,
        weights_version=version,
        earlier_versions=earlier,
        scores=scores,
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


@pytest.mark.parametrize(
    ("scores", "met"),
    [
        ({}, "abcd"),
        ({"a": 0.8, "b": 0.5, "c": 0.2, "d": 0.3}, "abcd"),
        ({"a": 1.0, "b": 0.9, "c": 0.5, "d": 0.1}, "cd"),
        ({"a": 1.0, "b": 1.0, "c": 1.0, "d": 1.0}, "d"),
        ({"a": 0.0, "b": 0.0, "c": 0.0, "d": 0.0}, "a"),
        ({"a": 1.0, "b": 0.95, "c": 0.15, "d": 0.0}, "bc"),
        ({"a": 1.0, "b": 0.95}, "bcd"),
        ({"d": 0.9, "a": 1.0, "b": 0.1, "c": 0.0}, "bd"),  # Listed in no order of strength.
    ],
)
def test_opponents_are_met_where_a_match_says_something(scores: dict[str, float], met: str) -> None:
    assert "".join(informative("abcd", scores)) == met


def test_a_player_that_gets_stronger_and_weaker_again_always_has_an_opponent_near_it() -> None:
    strengths = {"a": 0, "b": 400, "c": 800, "d": 1200}
    scores: dict[str, float] = {}
    for elo in (*range(-200, 1401, 100), *range(1400, -201, -100)):
        is_first = not scores
        met = informative(list(strengths), scores)
        scores |= {name: 1 / (1 + 10 ** ((strengths[name] - elo) / 400)) for name in met}
        assert min(abs(strengths[name] - elo) for name in met) <= 300
        assert is_first or len(met) <= 3


def test_bare_and_finishing_have_opponents_of_their_own() -> None:
    scores = {("random", False): 0.9, ("random", True): 1.0, ("greedy", False): 0.1}
    scores |= {("greedy", True): 0.9}
    opponents = ["random", "greedy", "snapshots"]
    matches = plan(9, (8,), scores, opponents=opponents)
    assert [(m.player, m.opponent) for m in matches] == [
        ("v9", "random"),
        ("v9", "greedy"),
        ("v9+mate1", "greedy"),
        ("v9", "v8"),
        ("v9+mate1", "v8+mate1"),
    ]
    all_met = plan(9, (8,), scores, opponents=opponents, adapt_opponents=False)
    assert len(all_met) == 6
