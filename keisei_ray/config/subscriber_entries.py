"""Entries of `tracking.subscribers`: names of users' subscribers, some with settings of their own.

An entry is the name, or a mapping of it to its settings. What a name stands for is not looked up
here, and settings are validated by the subscriber's own model: `keisei_ray.tracking.plugins`.
"""

import json
from collections.abc import Iterable

from pydantic import JsonValue

SubscriberEntry = str | dict[str, dict[str, JsonValue]]
"""`name`, or `{name: {key: value}}` with one name."""

MAX_DEPTH = 32
"""Deepest nesting of a subscriber's settings. Far beyond it they could be read and not written."""


def name_and_settings(entry: SubscriberEntry) -> tuple[str, dict[str, JsonValue]]:
    """Returns an entry's name and its settings, none where it gives none."""
    if isinstance(entry, str):
        return entry, {}
    ((name, settings),) = entry.items()
    return name, settings


def entry_text(entry: SubscriberEntry) -> str:
    """Returns an entry in one line, e.g. `entropy-log {"every": 10}`."""
    name, settings = name_and_settings(entry)
    return f"{name} {json.dumps(settings)}" if settings else name


def check_entries(entries: Iterable[SubscriberEntry]) -> None:
    """Refuses entries that name no subscriber, or one that another entry names.

    Raises:
        ValueError: says what is wrong.
    """
    seen: set[str] = set()
    for entry in entries:
        if isinstance(entry, dict) and len(entry) != 1:
            raise ValueError(
                f"an entry with {len(entry)} names, expected one name and its settings; begin a "
                "new entry for each subscriber"
            )
        name, settings = name_and_settings(entry)
        if name in seen:
            raise ValueError(f"{name!r} is named twice. Leave one out")
        seen.add(name)
        if _depth(settings) > MAX_DEPTH:
            raise ValueError(f"settings of {name!r} are nested more than {MAX_DEPTH} deep")


def _depth(value: JsonValue) -> int:
    """Returns how many lists and mappings are inside each other."""
    if isinstance(value, dict):
        return 1 + max(map(_depth, value.values()), default=0)
    if isinstance(value, list):
        return 1 + max(map(_depth, value), default=0)
    return 0
