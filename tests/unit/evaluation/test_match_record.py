"""Matches as lines, and seen from the other side."""

from keisei_ray.evaluation.match_record import match_record, mirrored
from keisei_ray.tracking.evaluation_records import evaluation_from
from tests.helpers.run_events import evaluated


def test_a_line_gives_the_match_back() -> None:
    result = evaluated(3, "greedy", wins=10, draws=3, truncated=1).result
    assert evaluation_from(match_record(result)) == result


def test_a_match_seen_twice_from_the_other_side_is_the_same() -> None:
    score = evaluated(3, "greedy", wins=10, draws=3, truncated=1).result.match
    other = mirrored(score)
    assert (other.wins, other.draws, other.losses) == (score.losses, score.draws, score.wins)
    assert other.score == 1 - score.score
    assert mirrored(other).wins == score.wins
