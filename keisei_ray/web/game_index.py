"""Finished games of a run by number, with what filters ask for; the moves stay in the file.

A run may have millions of games. What is kept of each takes some 20 bytes, and a game itself is
read from its place in `games.jsonl` when it is shown.
"""

import os
import time
from array import array
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from keisei_ray.errors import RunDirError
from keisei_ray.report.games import MAX_TIMESTEP
from keisei_ray.storage.json_lines import JsonLinesReader, Record
from keisei_ray.telemetry.visible_text import shortened

MAX_NAMES: Final = 4096
"""Different opponents that are told apart."""
OTHERS: Final = "(others)"
"""Name for the opponents beyond that."""
MAX_PLIES: Final = 1 << 20
_LOOK_EVERY: Final = 256
"""Records between two looks at the clock."""


@dataclass(frozen=True)
class Filter:
    """Games that are wanted; None: any."""

    result: str | None = None
    reason: str | None = None
    opponent: str | None = None
    """Name of the opponent; empty: self-play."""
    least_plies: int | None = None
    most_plies: int | None = None


class _Names:
    """Texts by number, in the order in which they first came."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self._numbers: dict[str, int] = {}

    def number(self, text: str) -> int:
        """Returns the number of a text, a new one if it has not come before."""
        found = self._numbers.get(text)
        if found is None:
            if len(self.texts) >= MAX_NAMES:
                return self.number(OTHERS) if OTHERS in self._numbers else self._add(OTHERS)
            found = self._add(text)
        return found

    def find(self, text: str) -> int:
        """Returns the number of a text, -1 if it has not come."""
        return self._numbers.get(text, -1)

    def _add(self, text: str) -> int:
        self._numbers[text] = len(self.texts)
        self.texts.append(text)
        return len(self.texts) - 1


class GameIndex:
    """Games of one run. Used by one thread at a time."""

    def __init__(self, path: Path) -> None:
        """Reads nothing yet.

        Args:
            path: `games.jsonl` of the run.
        """
        self._reader = JsonLinesReader(path)
        self._clear()

    def _clear(self) -> None:
        self._reader.rewind()
        self._file: tuple[int, int] | None = None
        self._places = array("q")
        self._plies = array("i")
        self._timesteps = array("q")
        self._results, self._reasons, self._opponents = array("h"), array("h"), array("h")
        self._result_names, self._reason_names, self._names = _Names(), _Names(), _Names()

    def __len__(self) -> int:
        """Returns how many games have been read."""
        return len(self._places)

    @property
    def damaged(self) -> int:
        """Number of lines that were left out because they hold no game."""
        return self._reader.damaged

    def follow(self, budget_s: float) -> bool:
        """Reads games that have been added, for a while.

        A file that has been cut or replaced, as by a resume, is read anew.

        Args:
            budget_s: seconds after which it stops.

        Returns:
            Whether everything has been read.

        Raises:
            RunDirError: the file exists and cannot be read.
        """
        file = self._identity()
        if self._reader.is_cut or (self._file is not None and file != self._file):
            self._clear()
        self._file = file
        end = time.monotonic() + budget_s
        for count, record in enumerate(self._reader, 1):
            self._add(record)
            if count % _LOOK_EVERY == 0 and time.monotonic() >= end:
                return False
        return True

    def find(self, wanted: Filter, offset: int, limit: int) -> tuple[int, list[int]]:
        """Finds games, the newest first.

        Args:
            wanted: what they must have.
            offset: games that are passed over.
            limit: most games that are returned.

        Returns:
            How many games there are, and the numbers of those on the page.
        """
        if not len(self):
            return 0, []
        fits = np.ones(len(self), np.bool_)
        for text, names, column in (
            (wanted.result, self._result_names, self._results),
            (wanted.reason, self._reason_names, self._reasons),
            (wanted.opponent, self._names, self._opponents),
        ):
            if text is not None:
                fits &= np.frombuffer(column, np.int16) == names.find(text)
        plies = np.frombuffer(self._plies, np.int32)
        if wanted.least_plies is not None:
            fits &= plies >= wanted.least_plies
        if wanted.most_plies is not None:
            fits &= plies <= wanted.most_plies
        found = np.flatnonzero(fits)[::-1]
        return len(found), found[offset : offset + limit].tolist()

    def summary(self, number: int) -> dict[str, Any]:
        """Returns what is known of a game without its moves, as JSON types."""
        return {
            "number": number,
            "result": self._result_names.texts[self._results[number]],
            "reason": self._reason_names.texts[self._reasons[number]],
            "opponent": self._names.texts[self._opponents[number]],
            "plies": self._plies[number],
            "timestep": self._timesteps[number],
        }

    def choices(self) -> dict[str, list[str]]:
        """Returns the values that a filter can have."""
        return {
            "results": sorted(self._result_names.texts),
            "reasons": sorted(self._reason_names.texts),
            "opponents": sorted(self._names.texts),
        }

    def record(self, number: int) -> Record:
        """Reads a game.

        Raises:
            RunDirError: there is no such game, or its record is not there any more.
        """
        if not 0 <= number < len(self):
            raise RunDirError(f"there is no game {number}: {len(self)} have been read.")
        record = self._reader.record_at(self._places[number])
        if record is None or record.get("plies") != self._plies[number]:
            raise RunDirError(
                f"game {number} is not where it was: {self._reader.path} has been cut or replaced. "
                "Load the list again."
            )
        return record

    def _identity(self) -> tuple[int, int] | None:
        """Returns what tells the file from another at its path; None where there is none."""
        try:
            found = os.stat(self._reader.path)
        except OSError:
            return None
        return found.st_dev, found.st_ino

    def _add(self, record: Record) -> None:
        plies, timestep = record.get("plies"), record.get("timestep")
        result, reason, opponent = (record.get(k, "") for k in ("result", "reason", "opponent"))
        texts = (result, reason, opponent)
        if (
            type(plies) is not int
            or not 0 <= plies <= MAX_PLIES
            or not all(isinstance(text, str) for text in texts)
        ):
            self._reader.damaged += 1
            return
        if type(timestep) is not int or not 0 <= timestep <= MAX_TIMESTEP:
            timestep = 0
        self._places.append(self._reader.line_start)
        self._plies.append(plies)
        self._timesteps.append(timestep)
        self._results.append(self._result_names.number(shortened(result)))
        self._reasons.append(self._reason_names.number(shortened(reason)))
        self._opponents.append(self._names.number(shortened(opponent)))
