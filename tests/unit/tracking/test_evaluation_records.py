"""Matches and the rating table: what is read back is what was written."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from keisei_ray.telemetry.reports import Rating
from keisei_ray.tracking.evaluation_records import (
    RatedPlayer,
    evaluation_from,
    evaluation_record,
    ratings_record,
    read_ratings,
)
from tests.helpers.run_events import evaluated

RESULT = evaluated(3, "greedy", wins=10, draws=3, truncated=1).result


def test_a_match_is_read_back_as_it_was_written() -> None:
    assert evaluation_from(json.loads(json.dumps(evaluation_record(RESULT)))) == RESULT


@pytest.mark.parametrize(
    "change", [{"wins": None}, {"games": "many"}, {"score": None}, {"score": math.nan}]
)
def test_a_record_with_an_invalid_value_is_not_a_match(change: dict[str, Any]) -> None:
    assert evaluation_from(evaluation_record(RESULT) | change) is None


def test_the_table_is_read_back_with_the_timesteps_of_this_runs_versions(tmp_path: Path) -> None:
    table = [Rating("v3", 120.0, 60.0, None, 32), Rating("greedy", None, None, None, 32)]
    file = tmp_path / "ratings.json"
    file.write_text(json.dumps(ratings_record(table, [evaluation_record(RESULT)])))
    assert read_ratings(file) == (RatedPlayer(table[0], 3000), RatedPlayer(table[1], None))


def test_an_estimate_that_is_not_finite_is_unknown(tmp_path: Path) -> None:
    file = tmp_path / "ratings.json"
    player = {"name": "v1", "elo": 5.0, "low": -math.inf, "high": math.nan, "games": 2}
    file.write_text(json.dumps({"players": [player | {"timestep": 1}]}))
    assert read_ratings(file) == (RatedPlayer(Rating("v1", 5.0, None, None, 2), 1),)


def test_no_table_is_no_players_and_another_file_is_not_a_table(tmp_path: Path) -> None:
    file = tmp_path / "ratings.json"
    assert read_ratings(file) == ()
    file.write_text('{"players": [{"name": "v1"}]}')
    assert read_ratings(file) is None
