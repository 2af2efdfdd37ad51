"""The book of a ladder: every match that was played, in a file that is rewritten after each.

A match between two players is played once; who comes back with the same file goes on where it
stopped, may add players, and keeps what was played by others. What would make results mean
something else (games a match, seed, cap, openings, temperature; other weights under a known
name) is refused.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from keisei_ray.errors import ConfigError
from keisei_ray.evaluation.ratings import ANCHOR, Result, expected_score, fit_ratings
from keisei_ray.storage.atomic_files import write_atomically
from keisei_ray.storage.manifest import Scalar
from keisei_ray.telemetry.reports import MatchScore, Rating


@dataclass(frozen=True)
class LadderMatch:
    """One match of a ladder."""

    player: str
    opponent: str
    score: MatchScore
    """Of the player."""
    reasons: dict[str, int]
    """Games by the rule that ended them; an engine's forfeits are among them."""

    @property
    def result(self) -> Result:
        """What the rating table is fitted from."""
        s = self.score
        return Result(self.player, self.opponent, s.games, s.wins + (s.draws + s.truncated) / 2)

    def record(self) -> dict[str, Any]:
        """As it stands in the file."""
        record = asdict(self)
        score = record.pop("score")
        return {**record, **score}


@dataclass
class LadderBook:
    """Conditions, players and matches of a ladder."""

    conditions: Mapping[str, Scalar]
    """Under which all matches are played."""
    players: dict[str, dict[str, Scalar]] = field(default_factory=dict)
    """Name -> what exactly plays under it."""
    matches: list[LadderMatch] = field(default_factory=list)

    @classmethod
    def open(cls, file: Path | None, conditions: Mapping[str, Scalar]) -> Self:
        """The book in `file`, or an empty one.

        Raises:
            ConfigError: the file is no book, or one of other conditions.
        """
        if file is None or not file.exists():
            return cls(conditions)
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
            found = content["conditions"]
            book = cls(conditions, {p.pop("name"): p for p in content["players"]})
            for match in content["matches"]:
                player, opponent = match.pop("player"), match.pop("opponent")
                reasons = match.pop("reasons")
                book.matches.append(LadderMatch(player, opponent, MatchScore(**match), reasons))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ConfigError(
                f"{file} cannot be read as the results of a ladder: {error!r}. Name another --json."
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
        return book

    def enter(self, name: str, identity: Mapping[str, Scalar]) -> None:
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
        """Whether these two have met, whoever was named first."""
        return any({player, opponent} == {m.player, m.opponent} for m in self.matches)

    def ratings(self) -> list[Rating]:
        """The table over random, or over the first player where random did not play."""
        anchor = ANCHOR if ANCHOR in self.players else next(iter(self.players), ANCHOR)
        return fit_ratings((match.result for match in self.matches), anchor)

    def save(self, file: Path | None) -> dict[str, Any]:
        """Writes everything, ratings and the check of them included, if there is a file.

        Returns:
            What is written.

        Raises:
            ConfigError: it cannot be written.
        """
        ratings = self.ratings()
        content = {
            "conditions": dict(self.conditions),
            "players": [{"name": name, **identity} for name, identity in self.players.items()],
            "matches": [match.record() for match in self.matches],
            "ratings": [asdict(rating) for rating in ratings],
            "pairs": check_pairs(self.matches, ratings),
        }
        if file is not None:
            try:
                write_atomically(file, json.dumps(content, indent=1).encode() + b"\n")
            except OSError as error:
                raise ConfigError(f"--json {file}: cannot be written: {error.strerror}.") from error
        return content


def check_pairs(matches: Sequence[LadderMatch], ratings: Sequence[Rating]) -> list[dict[str, Any]]:
    """Whether one number a player explains every match, the least explained first.

    Returns:
        For each match whose players both have a rating: measured score with its interval, the
        one the ratings predict, and whether that lies within the interval. Ratings are fitted
        to these very matches, so where they explain them fewer than 1 in 20 lie outside.
    """
    elos = {rating.name: rating.elo for rating in ratings}
    pairs = []
    for match in matches:
        elo, other = elos[match.player], elos[match.opponent]
        if elo is None or other is None:
            continue
        predicted, score = expected_score(elo, other), match.score
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
