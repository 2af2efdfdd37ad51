"""Form of `evaluations.jsonl` and `ratings.json`, for writing and for reading them."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError

from keisei_ray.config.json_text import read_json
from keisei_ray.config.player_names import finishes_mates, version_of
from keisei_ray.errors import RunDirError
from keisei_ray.evaluation.elo_table import ANCHOR, Result
from keisei_ray.evaluation.match_record import match_record
from keisei_ray.evaluation.pair_outcomes import are_pairs_of
from keisei_ray.evaluation.score_intervals import CONFIDENCE
from keisei_ray.storage.json_lines import JsonLinesReader
from keisei_ray.storage.run_layout import RATINGS_FILE
from keisei_ray.telemetry.reports import EvaluationResult, Rating

logger = logging.getLogger(__name__)

MAX_NUMBER: Final = 1e100
"""Largest absolute value of a number that is read: sums and powers of it stay finite."""


@dataclass(frozen=True)
class RatedPlayer:
    """A player's line of `ratings.json`."""

    rating: Rating
    timestep: int | None
    """Timestep of the weights; None for a player that is not a version of this run."""


def evaluation_record(result: EvaluationResult) -> dict[str, Any]:
    """Returns a match as a line of `evaluations.jsonl`."""
    return match_record(result)


def evaluation_from(record: Mapping[str, Any]) -> EvaluationResult | None:
    """Returns the match of a line of `evaluations.jsonl`; None where it is not one."""
    try:
        result: EvaluationResult = _reader_of(EvaluationResult).validate_python(
            {**record, "match": record}
        )
    except ValidationError:
        return None
    numbers = [v for v in evaluation_record(result).values() if isinstance(v, float)]
    score = result.match
    counts = (score.wins, score.draws, score.losses, score.truncated)
    is_counted = min(counts) >= 0 and sum(counts) == score.games and result.timestep >= 0
    if score.pairs is not None:
        is_counted = is_counted and are_pairs_of(
            score.pairs, score.wins, score.draws + score.truncated, score.losses
        )
    return result if is_counted and all(0 <= n <= MAX_NUMBER for n in numbers) else None


def read_ratings(file: Path) -> tuple[RatedPlayer, ...] | None:
    """Reads the Elo table.

    Returns:
        No players where the file is missing; None where it is not such a table.

    Raises:
        RunDirError: the file exists and cannot be read.
    """
    try:
        players = read_json(file)["players"]
        return tuple(
            RatedPlayer(_rating(player), _reader_of(int | None).validate_python(player["timestep"]))
            for player in players
        )
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise RunDirError(f"{file} cannot be read: {error.strerror}.") from error
    except (LookupError, TypeError, ValueError):  # A ValidationError is a ValueError.
        return None


def ratings_by_version(run_dir: Path) -> dict[int, Rating]:
    """Returns the rating of each weights version that has an Elo, as it plays without help.

    Args:
        run_dir: directory of a run. Without an Elo table, or with a damaged one, none is rated.

    Raises:
        RunDirError: the table exists and cannot be read.
    """
    players = [player.rating for player in read_ratings(run_dir / RATINGS_FILE) or ()]
    return {
        version: rating
        for rating in players
        if (version := version_of(rating.name)) is not None
        and not finishes_mates(rating.name)
        and rating.elo is not None
    }


def elo_by_version(run_dir: Path) -> dict[int, float]:
    """Returns the Elo of each weights version that has one; see `ratings_by_version`."""
    rated = ratings_by_version(run_dir)
    return {version: rating.elo for version, rating in rated.items() if rating.elo is not None}


def _rating(player: Any) -> Rating:
    rating: Rating = _reader_of(Rating).validate_python(player)
    return replace(
        rating,
        elo=_usable_or_none(rating.elo),
        low=_usable_or_none(rating.low),
        high=_usable_or_none(rating.high),
    )


def _usable_or_none(value: float | None) -> float | None:
    return value if value is not None and abs(value) <= MAX_NUMBER else None


@cache
def _reader_of(kind: Any) -> TypeAdapter[Any]:
    """Returns what makes a value of a type of parsed JSON."""
    return TypeAdapter(kind)


def read_records(path: Path) -> list[dict[str, Any]]:
    """Reads an `evaluations.jsonl`; warns of lines that hold no match and leaves them out."""
    reader = JsonLinesReader(path)
    records = []
    for record in reader:
        result = evaluation_from(record)
        if result is None or result.player == result.opponent:
            reader.damaged += 1
        else:
            records.append(evaluation_record(result))
    if reader.damaged:
        logger.warning("%s: %d lines hold no match and are left out", path, reader.damaged)
    return records


def results_of(records: Iterable[Mapping[str, Any]]) -> Iterable[Result]:
    """Yields the results that the Elo table is fitted from."""
    for r in records:
        draws = r["draws"] + r["truncated"]
        yield Result(r["player"], r["opponent"], r["wins"], draws, r["losses"], r.get("pairs"))


def ratings_record(
    ratings: Sequence[Rating], records: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Returns the content of `ratings.json`."""
    timesteps = {record["player"]: record["timestep"] for record in records}
    players = [{**asdict(r), "timestep": timesteps.get(r.name)} for r in ratings]
    return {
        "anchor": ANCHOR,
        "confidence": CONFIDENCE,
        "timestep": max(timesteps.values()),
        "players": players,
    }
