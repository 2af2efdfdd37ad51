"""Tables of the page as HTML: newest matches, events, settings, glossary of metrics."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import groupby
from typing import Any, Final

from keisei_ray.report import formatting
from keisei_ray.storage.json_lines import Record
from keisei_ray.telemetry.metrics import METRICS
from keisei_ray.telemetry.reports import EvaluationResult
from keisei_ray.tracking.terminal.text import one_line

MAX_EVENTS: Final = 200
"""Maximum number of rows in the table of events; beyond it those in the middle are left out."""
_EVENT_NAMES: Final = {
    "run_started": "started",
    "run_ended": "ended",
    "actor_ready": "actor ready",
    "actor_lost": "actor lost",
    "rollout_rejected": "rollout rejected",
    "update_undone": "update undone",
    "checkpoint_saved": "checkpoint",
    "notice": "notice",
}
_TROUBLE: Final = ("actor_lost", "rollout_rejected", "update_undone")
"""Kinds of events that are always warnings."""
MAX_WARNINGS: Final = 3
"""Number of the newest warnings that the page's header shows."""


def matches_table(matches: Sequence[EvaluationResult]) -> str:
    """Returns the newest match against every opponent; an empty text where there is none."""
    if not matches:
        return ""
    rows = [
        (
            match.opponent,
            match.player,
            formatting.count(match.timestep),
            formatting.percent(score.score),
            f"{formatting.percent(score.score_low)} to {formatting.percent(score.score_high)}",
            f"{score.wins} - {score.draws} - {score.losses}",
            formatting.count(score.truncated),
        )
        for match, score in ((match, match.match) for match in matches)
    ]
    head = ("Opponent", "Player", "Timestep", "Score", "95% interval", "Won - drawn - lost", "Cut")
    return f'<div class="matches">{_table(head, rows, numbers=range(2, 7))}</div>'


@dataclass(frozen=True)
class EventRow:
    """One event, or several similar ones that follow each other."""

    time: str
    """Date and time in UTC, to the second."""
    kind: str
    text: str
    is_trouble: bool = False
    """Whether it is highlighted."""


def event_rows(events: Sequence[Record], left_out: int = 0) -> list[EventRow]:
    """Returns the events of a run as rows; beyond MAX_EVENTS those in the middle are left out.

    Args:
        events: the run's, oldest first.
        left_out: events between the older and the newer half of these that were not kept.
    """
    half = MAX_EVENTS // 2
    if left_out:
        middle = len(events) // 2
        first, last = list(_event_rows(events[:middle])), list(_event_rows(events[middle:]))
    else:
        rows = list(_event_rows(events))
        if len(rows) <= MAX_EVENTS:
            return rows
        first, last = rows[:half], rows[half:]
    beyond = left_out + max(0, len(first) - half) + max(0, len(last) - half)
    return [*first[:half], EventRow("", "", f"{beyond:,} rows left out"), *last[-half:]]


def events_table(events: Sequence[Record], left_out: int = 0) -> str:
    """Returns a table of the events of a run; the arguments are those of `event_rows`."""
    rows = event_rows(events, left_out)
    if not rows:
        return '<p class="none">No events on record.</p>'
    body = "".join(
        f"<tr{' class=trouble' if row.is_trouble else ''}><td>{escape(row.time)}</td>"
        f"<td>{escape(row.kind)}</td><td>{escape(row.text)}</td></tr>"
        for row in rows
    )
    return _wrapped(_head(("Time (UTC)", "Event", "What")) + f"<tbody>{body}</tbody>")


def warnings_list(events: Sequence[Record]) -> str:
    """Returns the newest session's warnings, the newest of them in full; an empty text if none."""
    session: list[Record] = []
    for event in events:
        if event["kind"] == "run_started":
            session.clear()
        elif _is_warning(event):
            session.append(event)
    if not session:
        return ""
    count = formatting.plural(len(session), "warning")
    items = "".join(
        f"<li>{escape(_time(event))}: {escape(_event_text(event))}</li>"
        for event in session[-MAX_WARNINGS:]
    )
    left_out = ", the newest are" if len(session) > MAX_WARNINGS else ""
    return f'<div class="warnings"><p>{count}{left_out}:</p><ul>{items}</ul></div>'


def settings_table(config: Mapping[str, Any]) -> str:
    """Returns every setting by its path."""
    return _table(("Setting", "Value"), list(flat_settings(config)))


def flat_settings(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yields every setting by its path, and its value as a text."""
    for key, value in config.items():
        if isinstance(value, Mapping):
            yield from flat_settings(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value if isinstance(value, str) else json.dumps(value)


def glossary() -> str:
    """Returns the meaning of every metric of `metrics.jsonl`."""
    rows = [(metric.name, metric.unit, metric.meaning) for metric in METRICS]
    return _table(("Metric", "Unit", "Meaning"), rows)


def _event_rows(events: Sequence[Record]) -> Iterator[EventRow]:
    for kind, group in groupby(events, key=lambda event: str(event["kind"])):
        same = list(group)
        time, name = _time(same[0]), _EVENT_NAMES.get(kind, kind)
        if len(same) > 3 and kind in (
            "actor_ready",
            "checkpoint_saved",
            "rollout_rejected",
            "update_undone",
        ):
            text = f"{len(same)} times until {_time(same[-1])}; the last: {_event_text(same[-1])}"
            yield EventRow(time, name, text, _is_warning(same[-1]))
            continue
        for event in same:
            yield EventRow(_time(event), name, _event_text(event), _is_warning(event))


def _is_warning(event: Record) -> bool:
    has_failed = event["kind"] == "run_ended" and event.get("reason") == "failed"
    is_warning = event.get("level") in ("WARNING", "ERROR")
    return event["kind"] in _TROUBLE or is_warning or has_failed


def _time(event: Record) -> str:
    """Returns an event's date and time, to the second."""
    return str(event.get("time", ""))[:19].replace("T", " ")


def _event_text(event: Record) -> str:
    """Returns an event in a sentence; an event of an unknown kind as its fields."""
    get = event.get
    timestep = f"timestep {get('timestep'):,}" if isinstance(get("timestep"), int) else ""
    match event["kind"]:
        case "run_started":
            return (
                f"resumed at {timestep} from {get('resumed_from')}"
                if get("resumed_from")
                else (f"a new run at {timestep}")
            )
        case "run_ended":
            cause = f": {one_line(str(get('cause')))}" if get("cause") else ""
            return f"{get('reason')} at {timestep}{cause}"
        case "actor_ready":
            return f"self-play actor {get('actor_id')} on {get('node')}"
        case "actor_lost":
            who = "the learner" if get("actor_id") is None else f"self-play actor {get('actor_id')}"
            return f"{who}: {one_line(str(get('cause')))} ({get('restarts_left')} restarts left)"
        case "rollout_rejected":
            return f"of self-play actor {get('actor_id')}: {one_line(str(get('cause')))}"
        case "update_undone":
            halved = "; the learning rate is halved" if get("is_rate_halved") else ""
            return f"update {get('update')}: {one_line(str(get('cause')))}{halved}"
        case "checkpoint_saved":
            return f"{timestep}, {get('path')}"
        case "notice":
            return str(get("message"))
    return ", ".join(
        f"{key} {value}" for key, value in event.items() if key not in ("time", "kind")
    )


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], numbers: Iterable[int] = ()) -> str:
    right = set(numbers)
    body = "".join(
        "<tr>"
        + "".join(
            f"<td{' class=number' if i in right else ''}>{escape(cell)}</td>"
            for i, cell in enumerate(row)
        )
        + "</tr>"
        for row in rows
    )
    return _wrapped(_head(head, right) + f"<tbody>{body}</tbody>")


def _head(names: Sequence[str], numbers: Iterable[int] = ()) -> str:
    right = set(numbers)
    cells = "".join(
        f'<th scope="col"{" class=number" if i in right else ""}>{escape(name)}</th>'
        for i, name in enumerate(names)
    )
    return f"<thead><tr>{cells}</tr></thead>"


def _wrapped(content: str) -> str:
    """Returns a table in a box that scrolls sideways where the screen is narrow."""
    return f'<div class="scroll" tabindex="0" role="region"><table>{content}</table></div>'
