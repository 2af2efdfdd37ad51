"""Finished games of a run: how they ended, and a few of them to replay.

`games.jsonl` can hold millions of games. It is read once, in a stream. Of every game only the
timestep and the reason of its end are kept; a game is kept whole only if it may be shown.
"""

from array import array
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from keisei_ray.shogi.game import STANDARD_SFEN
from keisei_ray.shogi.notation import Heading, SavedGame, to_kif, unfinished_to_kif
from keisei_ray.shogi.replay import Replay, replay
from keisei_ray.storage.json_lines import Record
from keisei_ray.telemetry.visible_text import visible

NUM_NEWEST: Final = 4
"""Number of the newest games that are shown."""
REASONS: Final = {
    "mate": "mate",
    "declaration": "entering king",
    "perpetual_check": "perpetual check",
    "repetition": "fourfold repetition",
    "max_plies": "ply cap",
}
"""Reason why a game ended -> its words, in the order of the legend."""
FORFEITS: Final = {"resign": "resignation", "timeout": "time"}
"""The same of games that networks do not play."""
MAX_TIMESTEP: Final = 1 << 53
"""Largest timestep that is drawn: a float holds it exactly."""
_RESULTS: Final = {
    "black_win": "Black wins by",
    "white_win": "White wins by",
    "draw": "Drawn by",
    "truncated": "Stopped by the",
}


@dataclass
class GameTally:
    """Counts of a run's games, and the games that may be shown."""

    num_games: int = 0
    timesteps: "array[int]" = field(default_factory=lambda: array("q"))
    """Timestep at which each game with a known reason was counted."""
    reasons: "array[int]" = field(default_factory=lambda: array("b"))
    """Index in `REASONS` of the same games' reasons."""
    first: Record | None = None
    """First game whose moves were saved; the fields below hold only such games too."""
    shortest_mate: Record | None = None
    longest: Record | None = None
    newest: deque[Record] = field(default_factory=lambda: deque(maxlen=NUM_NEWEST))

    @classmethod
    def of(cls, records: Iterable[Record]) -> "GameTally":
        """Returns the tally of the records of `games.jsonl`, in the order of the file."""
        tally = cls()
        tally.add(records)
        return tally

    def add(self, records: Iterable[Record]) -> None:
        """Adds the games of further records."""
        order = list(REASONS)
        for record in records:
            self.num_games += 1
            timestep, reason = record.get("timestep"), record.get("reason")
            if isinstance(timestep, int) and 0 <= timestep <= MAX_TIMESTEP and reason in order:
                self.timesteps.append(timestep)
                self.reasons.append(order.index(reason))
            if isinstance(record.get("plies"), int) and record.get("moves"):
                self._consider(record)

    def _consider(self, game: Record) -> None:
        """Keeps a game with moves if it is one of those to show."""
        if self.first is None:
            self.first = game
        is_mate = game.get("reason") == "mate"
        if is_mate and (self.shortest_mate is None or game["plies"] < self.shortest_mate["plies"]):
            self.shortest_mate = game
        if self.longest is None or game["plies"] > self.longest["plies"]:
            self.longest = game
        self.newest.append(game)

    def by_reason(self) -> dict[str, int]:
        """Returns reason -> number of games, in the order of `REASONS`, zeros included."""
        counts = Counter(self.reasons)
        return {reason: counts[i] for i, reason in enumerate(REASONS)}


@dataclass(frozen=True)
class ShownGame:
    """A game that can be replayed on the page."""

    why: str
    """Why the game was chosen."""
    title: str
    """Result, reason and length in words."""
    data: dict[str, Any]
    """Input of the page's script; see `replay_data`."""


def shown_games(tally: GameTally) -> list[ShownGame]:
    """Returns the first game, the shortest mate, the longest and the newest, each once.

    Games whose moves cannot be replayed are left out.
    """
    newest = list(reversed(tally.newest))
    chosen = [
        ("first of the run", tally.first),
        ("shortest mate", tally.shortest_mate),
        ("longest", tally.longest),
        *zip(("newest", "2nd newest", "3rd newest", "4th newest"), newest, strict=False),
    ]
    reasons_by_id: dict[int, list[str]] = {}
    games: dict[int, Record] = {}
    for why, game in chosen:
        if game is not None:
            games[id(game)] = game
            reasons_by_id.setdefault(id(game), []).append(why)
    shown = (_shown(", ".join(reasons_by_id[key]), game) for key, game in games.items())
    return [game for game in shown if game is not None]


def _shown(why: str, game: Record) -> ShownGame | None:
    try:
        data = _data(game)
    except (ValueError, TypeError, AttributeError):
        return None
    return ShownGame(why=why, title=title(game), data=data)


def title(game: Record) -> str:
    """Returns a game's end in words: "Black wins by mate, 91 plies"."""
    words = end_in_words(str(game.get("result")), str(game.get("reason")))
    return f"{words}, {game['plies']} plies"


def end_in_words(result: str, reason: str) -> str:
    """Returns how a game ended in words: "Black wins by mate"."""
    return f"{_RESULTS.get(result, result)} {(REASONS | FORFEITS).get(reason, reason)}"


def _data(game: Record) -> dict[str, Any]:
    """Returns a game of the run as the page's script reads it.

    Raises:
        ValueError: a move is not legal.
        AttributeError, TypeError: the moves or the start are not a text.
    """
    moves, start = game["moves"].split(), game.get("start_sfen") or ""
    played = replay(moves, start)
    opening = game.get("opening_plies")
    data = replay_data(played, title(game), opening if type(opening) is int else 0)
    return data | {"kif": kif_of(game, moves, start)}


def kif_of(game: Record, moves: Sequence[str], start_sfen: str) -> str:
    """Returns a game as KIF; without its end where what the record says of it makes no sense.

    Args:
        game: a record of `games.jsonl`.
        moves: its moves, legal.
        start_sfen: position before the first move; empty for the standard position.
    """
    heading = Heading(event=visible(f"game {game.get('game_id')}"))
    start = start_sfen or STANDARD_SFEN
    end = (game.get("result"), game.get("reason"))
    try:
        return to_kif(SavedGame(*end, len(moves), " ".join(moves), start), heading)  # type: ignore[arg-type]
    except ValueError:
        return unfinished_to_kif(start, moves, heading)


def replay_data(played: Replay, title: str, opening_plies: int = 0) -> dict[str, Any]:
    """Returns a game as the page's script reads it.

    Args:
        played: positions and moves.
        title: result, reason and length in words.
        opening_plies: moves at the start that no player chose.
    """
    return {
        "sfens": played.sfens,
        "moves": played.moves,
        "western": played.western,
        "japanese": played.japanese,
        "checks": played.checks,
        "opening": opening_plies,
        "title": title,
    }
