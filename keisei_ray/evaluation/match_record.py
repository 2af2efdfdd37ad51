"""A match as a line of `evaluations.jsonl` or `matches.jsonl`. Needs no torch."""

from dataclasses import asdict, replace
from typing import Any

from keisei_ray.telemetry.reports import EvaluationResult, MatchScore


def match_record(result: EvaluationResult) -> dict[str, Any]:
    """Returns a match as a line of `evaluations.jsonl` or `matches.jsonl`."""
    line = asdict(result)
    match, run_time_s = line.pop("match"), line.pop("run_time_s")
    pairs = list(result.match.pairs) if result.match.pairs is not None else None
    return {**line, **match, "pairs": pairs, "run_time_s": run_time_s}


def mirrored(score: MatchScore) -> MatchScore:
    """Returns the score of a match for its second player."""
    pairs = None
    if score.pairs is not None:
        won, won_drawn, drawn, split, drawn_lost, lost = score.pairs
        pairs = lost, drawn_lost, drawn, split, won_drawn, won
    return replace(
        score,
        wins=score.losses,
        losses=score.wins,
        score=1 - score.score,
        score_low=1 - score.score_high,
        score_high=1 - score.score_low,
        as_black_score=1 - score.as_white_score,
        as_white_score=1 - score.as_black_score,
        pairs=pairs,
    )
