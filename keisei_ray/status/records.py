"""Events and settings read back from the records of a run's files.

A record of an unknown kind, or one that lacks a field, gives None: the directory may have been
written by an older or a newer version.
"""

import copy
import math
from functools import cache
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError

from keisei_ray.config.schema import Config
from keisei_ray.storage.json_lines import Record
from keisei_ray.telemetry import events as ev
from keisei_ray.telemetry.metrics import METRIC_NAMES, UpdateMetrics
from keisei_ray.tracking.recorders import RECORDED_ELSEWHERE

_EVENTS: Final = {
    kind.kind: kind
    for kind in ev.Event.__subclasses__()
    if not issubclass(kind, RECORDED_ELSEWHERE)
}


@cache
def _event_reader(kind: str) -> TypeAdapter[Any] | None:
    """Returns what makes an event of a record of this kind; None where there is no such event."""
    return TypeAdapter(_EVENTS[kind]) if kind in _EVENTS else None


def event_from(record: Record, **unrecorded: object) -> ev.Event | None:
    """Returns the event of a record of `events.jsonl`; None where it is not one.

    No number of these events is negative or infinite.

    Args:
        record: the record as it was read.
        unrecorded: fields of the event that replace those of the record, or that it leaves out.
    """
    reader = _event_reader(str(record.get("kind")))
    if reader is None:
        return None
    try:
        event: ev.Event = reader.validate_python(record | unrecorded)
    except ValidationError:
        return None
    numbers = [value for value in vars(event).values() if isinstance(value, int | float)]
    return event if all(0 <= number < math.inf for number in numbers) else None


@cache
def _metrics_reader() -> TypeAdapter[UpdateMetrics]:
    return TypeAdapter(UpdateMetrics)


def metrics_from(record: Record) -> UpdateMetrics | None:
    """Returns the metrics of a record of `metrics.jsonl`; None where it is not one.

    A metric that the program which wrote the record did not know is None, where it may be None.
    """
    unknown_then = dict.fromkeys(METRIC_NAMES)
    try:
        return _metrics_reader().validate_python(unknown_then | record)
    except ValidationError:
        return None


def config_from(record: Record) -> Config | None:
    """Returns the settings of a `config.json`, with the default for each that is invalid today.

    Returns:
        None where the settings that remain do not fit together.
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
    """Removes the setting that a path leads into; its whole section where that is not one."""
    section = values.get(str(path[0]))
    if len(path) > 1 and isinstance(section, dict):
        section.pop(str(path[1]), None)
    else:
        values.pop(str(path[0]), None)
