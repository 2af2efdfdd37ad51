"""Records the run's strength: matches in `evaluations.jsonl`, the Elo table in `ratings.json`.

The table depends on the matches in the file and on nothing else: after each match it is fitted anew
from all of them, those of earlier sessions included, and published as `RatingsFitted`. On a resume,
`JsonLinesWriter` moves matches beyond the resumed timestep aside, so the table leaves out weights
that are going to be trained again. Without matches there is no table.
"""

import json
from collections.abc import Callable
from pathlib import Path

from keisei_ray.evaluation.elo_table import fit_ratings
from keisei_ray.storage.atomic_files import write_atomically
from keisei_ray.storage.held_directory import HeldDirectory
from keisei_ray.storage.json_lines_writer import JsonLinesWriter, encode
from keisei_ray.storage.run_layout import EVALUATIONS_FILE, RATINGS_FILE
from keisei_ray.telemetry import events as ev
from keisei_ray.tracking.evaluation_records import (
    evaluation_record,
    ratings_record,
    read_records,
    results_of,
)
from keisei_ray.tracking.run_file_queue import AT_ONCE, Writing


class EvaluationRecorder:
    """Subscriber that writes both files and publishes `RatingsFitted`."""

    def __init__(
        self,
        run_dir: Path,
        resumed_timestep: int | None,
        publish: Callable[[ev.Event], object],
        files: Writing = AT_ONCE,
    ) -> None:
        """Opens the files; see `JsonLinesWriter` for errors.

        Args:
            run_dir: existing directory of the run.
            resumed_timestep: None for a fresh run.
            publish: puts an event on the bus that this subscriber is on.
            files: has both files written.
        """
        path = run_dir / EVALUATIONS_FILE
        self._lines = JsonLinesWriter(path, resumed_timestep=resumed_timestep)
        self._directory = HeldDirectory(run_dir)
        self._files = files
        self._publish = publish
        self._records = read_records(path)

    def handle(self, event: ev.Event) -> None:
        """Appends a match and fits the table; at the start of a resumed run, only fits it.

        At the start of a run without matches a table that is there is removed: it is of matches
        that a resume has moved aside, and of other weights than those of the same versions to come.
        """
        if isinstance(event, ev.EvaluationFinished):
            record = evaluation_record(event.result)
            self._files.put(self._lines.append_line, encode(record))
            self._records.append(record)
        elif not isinstance(event, ev.RunStarted):
            return
        elif not self._records:
            self._files.put(self._remove_ratings, b"")
            return
        ratings = fit_ratings(results_of(self._records))
        table = ratings_record(ratings, self._records)
        self._files.put(self._write_ratings, json.dumps(table, indent=1).encode() + b"\n")
        self._publish(ev.RatingsFitted(tuple(ratings), table["timestep"]))

    def close(self) -> None:
        """Closes the files once everything is in them; waits for that without limit."""
        self._files.flush()
        self._lines.close()
        self._directory.close()

    def _write_ratings(self, content: bytes) -> None:
        """Writes the table where the run's directory is now: behind it wait records of the run."""
        write_atomically(self._table(), content)

    def _remove_ratings(self, _: bytes) -> None:
        """Removes the table, if there is one."""
        self._table().unlink(missing_ok=True)

    def _table(self) -> Path:
        """The table's path, where the run's directory is now."""
        return (self._directory.now_at() or self._directory.path) / RATINGS_FILE
