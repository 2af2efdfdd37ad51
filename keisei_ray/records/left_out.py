"""Counts of everything that is left out of records, by cause, with the first example of each."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, NamedTuple

from keisei_ray.telemetry.visible_text import shortened

MAX_EXAMPLE: Final = 400
"""Characters that are kept of an example: a record may hold texts of any length."""


class Cause(StrEnum):
    """A reason to leave something out; its value is shown."""

    EMPTY = "files: empty"
    UNKNOWN_KIND = "files: of no known kind, by the ending of the name"
    UNREADABLE = "files: cannot be read"
    TOO_LARGE = "files: larger than one game can be"
    NOT_TEXT = "games: neither UTF-8 nor Shift-JIS"
    NOT_A_GAME = "games: not a record of their format"
    DAMAGED = "games: damaged or cut off"
    NO_MOVES = "games: without moves"
    OTHER_RULES = "games: handicap, or another start position without all 40 pieces"
    IMPOSSIBLE_START = "games: impossible start position"
    ILLEGAL_MOVE = "games: illegal move"
    NO_RESULT = "games: no result"
    DUPLICATE = "games: duplicate"
    RESULT = "games: result not in pretrain.results"
    RATING = "games: rating below pretrain.min_rating, or not known"
    TOO_SHORT = "games: shorter than pretrain.min_plies"
    TOO_LONG = "games: longer than pretrain.max_plies"
    HELD_OUT = "games: held out to measure on (pretrain.held_out)"
    OPENING = "positions: opening"
    DAMAGED_POSITION = "positions: damaged or cut off (hcpe, psv)"
    CHECK = "positions: check or not, by pretrain.checks"
    NO_VISITS = "positions: not searched, in a game with visits (hcpe3)"
    EVALUATION = "positions: evaluation beyond pretrain.max_eval"


class LeftOut(NamedTuple):
    """Something that is left out."""

    cause: Cause
    example: str
    """Where it is and what is wrong with it; one line."""
    num_alike: int = 1
    """Number of those that are left out here, for the same cause."""


@dataclass
class Tally:
    """Counts of what was used and what was left out."""

    games: int = 0
    """Games used."""
    positions: int = 0
    """Positions used."""
    causes: Counter[Cause] = field(default_factory=Counter)
    """How often each cause occurred."""
    examples: dict[Cause, str] = field(default_factory=dict)
    """The first example of each cause."""

    def leave_out(self, cause: Cause, example: str = "", count: int = 1) -> None:
        """Counts something that is left out."""
        if count:
            self.causes[cause] += count
            if example and cause not in self.examples:
                self.examples[cause] = shortened(example, MAX_EXAMPLE)

    def saved(self) -> tuple[tuple[str, int, str], ...]:
        """Returns causes, counts and examples as plain values, for `restore`."""
        return tuple((c.name, n, self.examples.get(c, "")) for c, n in self.causes.items())

    def restore(self, games: int, positions: int, left_out: Iterable[tuple[str, int, str]]) -> None:
        """Replaces everything that was counted; causes that there are not are passed over."""
        known = [
            (Cause[name], n, where) for name, n, where in left_out if name in Cause.__members__
        ]
        self.games, self.positions = games, positions
        self.causes = Counter({cause: n for cause, n, _ in known})
        self.examples = {cause: where for cause, _, where in known if where}

    def lines(self) -> list[str]:
        """Returns what was counted, one line for each cause, the most frequent first."""
        told = [f"used: {self.games:,} games, {self.positions:,} positions"]
        for cause, count in self.causes.most_common():
            example = self.examples.get(cause)
            shown = f" (first: {example})" if example else ""
            told.append(f"left out: {count:,} {cause.value}{shown}")
        return told

    def counts(self) -> Mapping[str, int]:
        """Returns the counts by the names of the causes, e.g. "illegal_move"."""
        return {cause.name.lower(): count for cause, count in self.causes.items()}
