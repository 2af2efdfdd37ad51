"""How users' subscribers are named in the settings, by every route."""

from typing import Any

import pytest

from keisei_ray.config.resolver import load_config_json, resolve_config
from keisei_ray.config.subscriber_entries import entry_text, name_and_settings
from keisei_ray.errors import ConfigError

KEY = "tracking.subscribers"


def nested(depth: int) -> list[Any]:
    """Returns lists inside each other."""
    return [nested(depth - 1)] if depth > 1 else []


def test_an_entry_is_a_name_or_a_name_with_settings() -> None:
    assert name_and_settings("a.b:c") == ("a.b:c", {})
    assert name_and_settings({"log": {"every": 2}}) == ("log", {"every": 2})
    assert entry_text({"log": {"every": 2}}) == 'log {"every": 2}'
    assert entry_text({"log": {}}) == entry_text("log") == "log"


@pytest.mark.parametrize(
    "text", ["[a.b:c, log: {every: 2, tags: [x, y]}]", "[a.b:c, {log: {every: 2, tags: [x, y]}}]"]
)
def test_settings_of_a_subscriber_come_by_every_route_and_survive_the_file(text: str) -> None:
    expected = ("a.b:c", {"log": {"every": 2, "tags": ["x", "y"]}})
    by_route = [
        resolve_config(None, {}, [f"{KEY}={text}"], {}),
        resolve_config(None, {"KEISEI_TRACKING__SUBSCRIBERS": text}, [], {}),
        resolve_config(None, {}, [], {}, sweep={KEY: list(expected)}),
    ]
    for config in by_route:
        assert config.tracking.subscribers == expected
        assert load_config_json(config.model_dump_json(), "file") == config


def test_settings_may_be_nested() -> None:
    config = resolve_config(None, {}, [], {}, sweep={KEY: [{"a": {"x": nested(31)}}]})
    assert load_config_json(config.model_dump_json(), "file") == config


@pytest.mark.parametrize(
    ("entries", "says"),
    [
        (["a", {"a": {}}], "'a' is named twice"),
        ([{"a": {}, "b": {}}], "an entry with 2 names, expected one"),
        ([{}], "an entry with 0 names, expected one"),
        ([{"a": 3}], "expected a list of str or {str: {str: value}}"),
        ([{"a": {"x": nested(32)}}], "settings of 'a' are nested more than 32 deep"),
        ([{"a": {"x": nested(253)}}], "settings of 'a' are nested more than 32 deep"),
        ([{"a": {"x": float("inf")}}], "expected a list of str or {str: {str: value}}"),
    ],
)
def test_an_entry_of_another_form_is_one_line(entries: list[Any], says: str) -> None:
    with pytest.raises(ConfigError) as error:
        resolve_config(None, {}, [], {}, sweep={KEY: entries})
    assert KEY in str(error.value)
    assert says in str(error.value)
    assert "\n" not in str(error.value)
