"""The records of a run as tables, read as `status` and `report` read them.

A run may be going on: a line that is still being written is left out. Lines that hold no such
record are left out too, and counted.
"""

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError

from keisei_ray.errors import ConfigError
from keisei_ray.report.run_files import read_config
from keisei_ray.rollouts.finished_game import FinishedGame
from keisei_ray.status.records import metrics_from
from keisei_ray.storage.json_lines import JsonLinesReader, Record
from keisei_ray.storage.remote.filesystem import is_uri
from keisei_ray.storage.remote.remote_run import fetched_records
from keisei_ray.storage.run_layout import (
    EVALUATIONS_FILE,
    GAMES_FILE,
    METRICS_FILE,
    RATINGS_FILE,
)
from keisei_ray.telemetry.metrics import METRIC_NAMES
from keisei_ray.telemetry.reports import EvaluationResult, MatchScore, Rating
from keisei_ray.tracking.evaluation_records import (
    evaluation_from,
    evaluation_record,
    read_ratings,
)

_MATCH_NAMES: Final = tuple(
    [f.name for f in fields(EvaluationResult) if f.name not in ("match", "run_time_s")]
    + [f.name for f in fields(MatchScore)]
    + ["run_time_s"]
)
"""Keys of `evaluations.jsonl`."""


@dataclass(frozen=True)
class Table:
    """Columns of equal length by name; a value that is not known is None.

    `table["timestep"]` is a column, `len(table)` the number of rows, and a loop over the table
    yields its rows.
    """

    columns: Mapping[str, list[Any]]
    """Name -> values, in the order of the file."""

    def __getitem__(self, name: str) -> list[Any]:
        """Returns a column."""
        return self.columns[name]

    def __len__(self) -> int:
        """Returns the number of rows."""
        return len(next(iter(self.columns.values()), ()))

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Yields the rows, by the names of the columns."""
        for row in zip(*self.columns.values(), strict=True):
            yield dict(zip(self.columns, row, strict=True))

    def __repr__(self) -> str:
        return f"Table({len(self)} rows: {', '.join(self.columns)})"

    def to_pandas(self) -> Any:
        """Returns the table as a `pandas.DataFrame`.

        Raises:
            ConfigError: pandas is not installed.
        """
        try:
            import pandas
        except ImportError as error:
            raise ConfigError(
                f"to_pandas() needs the package pandas, which cannot be imported: {error}. "
                "pip install pandas, or use the columns as they are."
            ) from error
        return pandas.DataFrame(dict(self.columns))


@dataclass(frozen=True)
class RunRecords:
    """Records of a run, as far as they are written."""

    run_dir: str
    """Directory or URI of the run."""
    config: Mapping[str, Any]
    """Settings as they stand in `config.json`."""
    metrics: Table
    """One row for each update, with the names of `metrics.jsonl`."""
    games: Table
    """One row for each finished game of self-play, with the names of `games.jsonl`."""
    evaluations: Table
    """One row for each match of the background evaluation, with the names of
    `evaluations.jsonl`."""
    ratings: Table
    """One row for each player of the Elo table: name, elo, low, high, games, timestep."""
    damaged: Mapping[str, int]
    """File name -> lines left out because they could not be read; only files that have any."""


def read_run(run_dir: str | Path) -> RunRecords:
    """Reads the records of a run in any state.

    Args:
        run_dir: directory of the run, or its URI.

    Raises:
        RunDirError: not the directory of a run, or a file in it cannot be read.
        StorageError: the URI cannot be read.
    """
    is_remote = isinstance(run_dir, str) and is_uri(run_dir)
    with fetched_records(str(run_dir)) if is_remote else contextlib.nullcontext(run_dir) as place:
        return _read(Path(place), str(run_dir))


def _read(path: Path, name: str) -> RunRecords:
    config = read_config(path)
    readers = {
        file: JsonLinesReader(path / file) for file in (METRICS_FILE, GAMES_FILE, EVALUATIONS_FILE)
    }
    players = read_ratings(path / RATINGS_FILE)
    rated = [{**asdict(player.rating), "timestep": player.timestep} for player in players or ()]
    return RunRecords(
        run_dir=name,
        config=config,
        metrics=_table(METRIC_NAMES, _metrics(readers[METRICS_FILE])),
        games=_table(
            ("timestep", *(f.name for f in fields(FinishedGame))), _games(readers[GAMES_FILE])
        ),
        evaluations=_table(_MATCH_NAMES, _evaluations(readers[EVALUATIONS_FILE])),
        ratings=_table((*(f.name for f in fields(Rating)), "timestep"), rated),
        # Counted while they were read, above.
        damaged={file: reader.damaged for file, reader in readers.items() if reader.damaged}
        | ({} if players is not None else {RATINGS_FILE: 1}),
    )


def _table(names: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> Table:
    columns: dict[str, list[Any]] = {name: [] for name in names}
    for row in rows:
        for name, column in columns.items():
            column.append(row[name])
    return Table(columns)


def _metrics(reader: JsonLinesReader) -> Iterator[Mapping[str, Any]]:
    """Yields the updates; one whose timestep is not beyond all before it is damaged, as on a page
    of `report`."""
    newest = -1
    for record in reader:
        metrics = metrics_from(record)
        if metrics is None or metrics.timestep <= newest:
            reader.damaged += 1
            continue
        newest = metrics.timestep
        yield metrics


def _games(reader: JsonLinesReader) -> Iterator[Mapping[str, Any]]:
    for record in reader:
        game = _game_from(record)
        if game is None:
            reader.damaged += 1
        else:
            yield game


def _game_from(record: Record) -> Mapping[str, Any] | None:
    """Returns the game of a line of `games.jsonl`; None where it is not one."""
    timestep = record.get("timestep")
    try:
        game: FinishedGame = _game_reader().validate_python(record)
    except ValidationError:
        return None
    return {"timestep": timestep, **asdict(game)} if isinstance(timestep, int) else None


def _evaluations(reader: JsonLinesReader) -> Iterator[Mapping[str, Any]]:
    for record in reader:
        match = evaluation_from(record)
        if match is None:
            reader.damaged += 1
        else:
            yield evaluation_record(match)


@cache
def _game_reader() -> TypeAdapter[FinishedGame]:
    return TypeAdapter(FinishedGame)
