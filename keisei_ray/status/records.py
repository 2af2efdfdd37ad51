"""The records of a run's files as the events they were written from.

A record that this version does not know, or that lacks something, gives None: the directory may
be of an older or a newer version.
"""

import copy
import math
from functools import cache
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError

from keisei_ray.config.schema import Config
from keisei_ray.report.json_lines import Record
from keisei_ray.report.run_files import Rating as FileRating
from keisei_ray.telemetry import events as ev
from keisei_ray.telemetry.metrics import UpdateMetrics
from keisei_ray.telemetry.reports import EvaluationResult, Rating
from keisei_ray.tracking.evaluations_file import as_record

_EVENTS: Final = {kind.kind: kind for kind in ev.Event.__subclasses__()}


@cache
def _event_reader(kind: str) -> TypeAdapter[Any] | None:
    """What makes an event of a record of this kind; None where there is no such event."""
    return TypeAdapter(_EVENTS[kind]) if kind in _EVENTS else None


@cache
def _metrics_reader() -> TypeAdapter[UpdateMetrics]:
    return TypeAdapter(UpdateMetrics)


@cache
def _result_reader() -> TypeAdapter[EvaluationResult]:
    return TypeAdapter(EvaluationResult)


def event_of(record: Record, **unrecorded: object) -> ev.Event | None:
    """The event of a record of `events.jsonl`.

    Args:
        record: as it was read.
        unrecorded: fields of the event that its record leaves out or that are known better.
    """
    reader = _event_reader(str(record.get("kind")))
    if reader is None:
        return None
    try:
        event: ev.Event = reader.validate_python(record | unrecorded)
    except ValidationError:
        return None
    return event


def metrics_of(record: Record) -> UpdateMetrics | None:
    """The metrics of a record of `metrics.jsonl`."""
    try:
        return _metrics_reader().validate_python(record)
    except ValidationError:
        return None


def result_of(record: Record) -> EvaluationResult | None:
    """The match of a record of `evaluations.jsonl`."""
    try:
        result = _result_reader().validate_python(record | {"match": record})
    except ValidationError:
        return None
    numbers = [v for v in as_record(result).values() if isinstance(v, float)]
    return result if all(map(math.isfinite, numbers)) else None


def fitted(ratings: tuple[FileRating, ...]) -> ev.RatingsFitted:
    """The event of a `ratings.json`."""
    timesteps = [int(r.timestep) for r in ratings if math.isfinite(r.timestep)]
    table = (
        Rating(r.name, _or_none(r.elo), _or_none(r.low), _or_none(r.high), r.games) for r in ratings
    )
    return ev.RatingsFitted(tuple(table), max(timesteps, default=0))


def _or_none(value: float) -> float | None:
    return value if math.isfinite(value) else None


def settings_of(record: Record) -> Config | None:
    """The settings of a `config.json`; those that this version refuses have its defaults.

    Returns:
        None where what is left does not fit together.
    """
    values = copy.deepcopy(record)
    while True:
        try:
            return Config.model_validate(values)
        except ValidationError as error:
            refused = [e["loc"] for e in error.errors() if e["loc"]]
            if not refused:
                return None
            for path in refused:
                _drop(values, path)


def _drop(values: Record, path: tuple[int | str, ...]) -> None:
    """Removes the innermost key of `path` that can be, at most two deep: section and setting."""
    section = values.get(str(path[0]))
    if len(path) > 1 and isinstance(section, dict):
        section.pop(str(path[1]), None)
    else:
        values.pop(str(path[0]), None)
