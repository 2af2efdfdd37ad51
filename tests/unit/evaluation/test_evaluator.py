"""The evaluator plays the published weights, under their version and digest."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from keisei_ray.config.schema import Config
from keisei_ray.errors import DamagedBufferError, EngineTimeoutError, PlayerError, WireError
from keisei_ray.evaluation import evaluator
from keisei_ray.evaluation.evaluator import Evaluator
from keisei_ray.evaluation.plan import PlannedMatch
from keisei_ray.learning.learner import Learner
from keisei_ray.network.model import build_model
from keisei_ray.network.weights import digest, pack_weights, state_arrays
from keisei_ray.players.policies import network_policy
from tests.helpers.engines import assert_all_ended, fake_spec
from tests.helpers.tiny import tiny_config

MATCH = PlannedMatch(
    timestep=700,
    run_time_s=2.5,
    weights_version=0,
    opponent="random",
    opponent_version=None,
    finishing=False,
    seed=4,
)


def config(**evaluation: Any) -> Config:
    return tiny_config(evaluation={"num_games": 4, "max_plies": 30} | evaluation)


def weights(seed: int, version: int, **changes: Any) -> np.ndarray:
    model = build_model(config().model, seed=seed)
    options: dict[str, Any] = {"weights_format": "lossless", "zstd_level": 1}
    return pack_weights(model, version, **(options | changes))


def test_the_digest_evaluated_is_the_digest_published() -> None:
    learner = Learner(config())
    result = Evaluator(config()).play(MATCH, learner.weights())
    assert result.weights_digest == learner.weights_digest()
    assert result.weights_digest == digest(state_arrays(learner.model))
    assert (result.weights_version, result.timestep, result.run_time_s) == (0, 700, 2.5)
    assert (result.player, result.opponent, result.finishing) == ("v0", "random", False)
    assert result.match.games == 4


def test_the_published_weights_choose_the_moves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two different networks play, each on its own side: a spy sees which policies are built."""
    seen: list[tuple[str, float]] = []
    inner = network_policy

    def spy(model: Any, temperature: float) -> Any:
        seen.append((digest(state_arrays(model)), temperature))
        return inner(model, temperature)

    monkeypatch.setattr(evaluator, "network_policy", spy)
    match = replace(MATCH, weights_version=7, opponent="v3", opponent_version=3)
    result = Evaluator(config(temperature=0.5)).play(match, weights(1, 7), weights(2, 3))
    expected = [digest(state_arrays(build_model(config().model, seed=s))) for s in (1, 2)]
    assert seen == [(name, 0.5) for name in expected]
    assert result.weights_digest == expected[0]


@pytest.mark.parametrize("finishing", [False, True])
def test_finishing_is_used_by_the_finishing_player_alone(
    finishing: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrapped: list[object] = []

    def spy(inner: Any) -> Any:
        wrapped.append(inner)
        return inner

    monkeypatch.setattr(evaluator, "finishing", spy)
    match = replace(MATCH, finishing=finishing, opponent="v3", opponent_version=3)
    result = Evaluator(config()).play(match, weights(1, 0), weights(2, 3))
    assert len(wrapped) == (2 if finishing else 0)
    assert result.player == ("v0+mate1" if finishing else "v0")


def test_the_same_match_is_played_again_the_same() -> None:
    evaluator = Evaluator(config())
    first, second = (evaluator.play(MATCH, weights(1, 0)).match for _ in range(2))
    assert replace(first, wall_time_s=0) == replace(second, wall_time_s=0)


def test_rounded_weights_have_the_digest_of_the_weights_they_were_made_from() -> None:
    published = weights(1, 0, weights_format="half")
    exact = digest(state_arrays(build_model(config().model, seed=1)))
    assert Evaluator(config()).play(MATCH, published).weights_digest == exact


def test_weights_that_are_not_what_was_planned_do_not_play() -> None:
    evaluator = Evaluator(config())
    with pytest.raises(DamagedBufferError, match="version 8"):
        evaluator.play(MATCH, weights(1, 8))
    damaged = weights(1, 0).copy()
    damaged[-3] ^= 1
    with pytest.raises(WireError):
        evaluator.play(MATCH, damaged)


def test_an_engine_that_hangs_at_its_start_ends_the_match_and_is_gone(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    engine = fake_spec(
        tmp_path, start=f"echo $$ >> {pids}", usi="kill -STOP $$", query="timeout-s=0.5"
    )
    with pytest.raises(EngineTimeoutError, match="gave no usiok in time"):
        Evaluator(config()).play(replace(MATCH, opponent=engine), weights(1, 0))
    assert_all_ended(pids)


def test_an_engine_that_hangs_in_every_game_loses_them_all(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    engine = fake_spec(
        tmp_path,
        start=f"echo $$ >> {pids}",
        go="kill -STOP $$",
        query="timeout-s=0.5&processes=4",
    )
    played = Evaluator(config()).play(replace(MATCH, opponent=engine), weights(1, 0))
    assert (played.match.games, played.match.wins) == (4, 4)
    assert_all_ended(pids)


def test_an_opponent_that_cannot_be_opened_is_named() -> None:
    with pytest.raises(PlayerError, match="rnadom"):
        Evaluator(config()).play(replace(MATCH, opponent="rnadom"), weights(1, 0))
