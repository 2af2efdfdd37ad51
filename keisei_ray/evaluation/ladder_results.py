"""The results of a ladder: every match played so far, in a file that is rewritten after each.

Two players meet once. A later call with the same file continues where the last one stopped, may
add players, and keeps the matches of players that it does not name. Anything that would change
the meaning of the results is refused: another number of games, seed, ply cap, book of openings or
temperature, or other weights under a known name.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from reprlib import repr as shortened
from typing import Any, Final, Self

from pydantic import TypeAdapter

from keisei_ray.config.json_text import read_json
from keisei_ray.errors import ConfigError
from keisei_ray.evaluation.elo_table import ANCHOR, KNOWN_ELOS, Result, Table, fit_table
from keisei_ray.storage.atomic_files import write_atomically
from keisei_ray.storage.manifest import Scalar
from keisei_ray.telemetry.reports import MatchScore


@dataclass(frozen=True)
class LadderMatch:
    """One match of a ladder."""

    player: str
    opponent: str
    score: MatchScore
    """Score from the player's point of view."""
    reasons: dict[str, int]
    """Number of games by the rule that ended them, forfeits of engines included."""

    @property
    def result(self) -> Result:
        """The match as input of the Elo table."""
        return Result.of(self.player, self.opponent, self.score)

    def record(self) -> dict[str, Any]:
        """Returns the match as an entry of the file."""
        record = asdict(self)
        score = record.pop("score")
        pairs = list(self.score.pairs) if self.score.pairs is not None else None
        return {**record, **score, "pairs": pairs}


_MATCH: Final = TypeAdapter(LadderMatch)


@dataclass
class LadderResults:
    """Conditions, players and matches of a ladder. The caller appends to `matches`."""

    conditions: Mapping[str, Scalar]
    """Conditions that all matches share."""
    players: dict[str, dict[str, Scalar]] = field(default_factory=dict)
    """Name of each player -> its identity, as in `LadderPlayer`."""
    matches: list[LadderMatch] = field(default_factory=list)

    @classmethod
    def open(cls, file: Path | None, conditions: Mapping[str, Scalar]) -> Self:
        """Returns the results in `file`, or empty ones if there is no file.

        Raises:
            ConfigError: the file holds something else, or matches under other conditions.
        """
        if file is None or not file.exists():
            return cls(conditions)
        try:
            content = read_json(file)
            found = dict(content["conditions"])
            players = {str(p.pop("name")): dict(p) for p in content["players"]}
            results = cls(conditions, players, [_match(entry) for entry in content["matches"]])
            results.table()
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            raise ConfigError(
                f"{file} cannot be read as the results of a ladder: {shortened(error)}. Name "
                "another --json."
            ) from error
        if found != conditions:
            names = {**found, **conditions}
            odd = [name for name in names if found.get(name) != conditions.get(name)]
            raise ConfigError(
                f"{file} holds matches of other conditions: {', '.join(odd)} = "
                f"{', '.join(str(found.get(name)) for name in odd)}, now "
                f"{', '.join(str(conditions.get(name)) for name in odd)}. Use the same, or another "
                "--json."
            )
        return results

    def add_player(self, name: str, identity: Mapping[str, Scalar]) -> None:
        """Adds a player.

        Raises:
            ConfigError: the name stands for other weights or another engine already.
        """
        known = self.players.setdefault(name, dict(identity))
        if known != identity:
            raise ConfigError(
                f"{name} is {dict(identity)}, but in these results it is {known}. Name another "
                "--json, or one of them by another path."
            )

    def has(self, player: str, opponent: str) -> bool:
        """Returns whether these two have met, in either order."""
        return any({player, opponent} == {m.player, m.opponent} for m in self.matches)

    def table(self) -> Table:
        """Returns the Elo table over random, or over the first player if no scripted one played."""
        is_known = any(name in KNOWN_ELOS for name in self.players)
        anchor = ANCHOR if is_known else next(iter(self.players), ANCHOR)
        return fit_table((match.result for match in self.matches), anchor)

    def save(self, file: Path | None) -> dict[str, Any]:
        """Writes everything to the file, if any, with the ratings and the check of them.

        Returns:
            The content of the file.

        Raises:
            ConfigError: it cannot be written.
        """
        ratings, expected = self.table()
        content = {
            "conditions": dict(self.conditions),
            "players": [{"name": name, **identity} for name, identity in self.players.items()],
            "matches": [match.record() for match in self.matches],
            "ratings": [asdict(rating) for rating in ratings],
            "pairs": check_pairs(self.matches, expected),
        }
        if file is not None:
            try:
                write_atomically(file, json.dumps(content, indent=1).encode() + b"\n")
            except OSError as error:
                raise ConfigError(f"--json {file}: cannot be written: {error.strerror}.") from error
        return content


def _match(entry: Mapping[str, Any]) -> LadderMatch:
    """Returns a match of the file.

    Raises:
        ValueError, TypeError: it is not one.
    """
    read: LadderMatch = _MATCH.validate_python({**entry, "score": entry})
    score = read.score
    counts = (score.wins, score.draws, score.losses, score.truncated)
    numbers = [value for value in asdict(score).values() if isinstance(value, float)]
    if min(counts) < 0 or sum(counts) != score.games or not all(map(math.isfinite, numbers)):
        raise ValueError(f"the counts of {read.player} against {read.opponent} contradict")
    return read


def check_pairs(
    matches: Sequence[LadderMatch], expected: Mapping[tuple[str, str], float]
) -> list[dict[str, Any]]:
    """Compares every match with the score that the ratings predict, the worst match first.

    Args:
        matches: all matches.
        expected: (player, opponent) -> predicted score, where both have a rating.

    Returns:
        For each match whose players both have a rating: the measured score with its interval, the
        predicted score, and whether it lies within the interval. The ratings are fitted to these
        same matches. If one number per player explains them, fewer than 1 in 20 lie outside.
    """
    pairs = []
    for match in matches:
        predicted, score = expected.get((match.player, match.opponent)), match.score
        if predicted is None:
            continue
        pairs.append(
            {
                "player": match.player,
                "opponent": match.opponent,
                "measured": score.score,
                "low": score.score_low,
                "high": score.score_high,
                "predicted": predicted,
                "is_explained": score.score_low <= predicted <= score.score_high,
            }
        )
    return sorted(pairs, key=lambda pair: -abs(pair["measured"] - pair["predicted"]))
