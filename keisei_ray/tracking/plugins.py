"""Users' own subscribers: found by name, made with settings of their own.

A name is that of an entry point in the group `keisei_ray.subscribers`, which an installed package
declares, or `package.module:callable`. docs/subscribers.md has an example.
"""

import difflib
import importlib
import reprlib
from collections.abc import Callable, Mapping
from importlib.metadata import entry_points
from typing import Any, Final, cast

from pydantic import BaseModel, ValidationError

from keisei_ray.config.nearest import nearest
from keisei_ray.config.subscriber_entries import SubscriberEntry, name_and_settings
from keisei_ray.errors import ConfigError
from keisei_ray.telemetry.events import Event

GROUP: Final = "keisei_ray.subscribers"
"""Group of the entry points that name subscribers."""
_MODEL: Final = "Settings"
"""Attribute of a subscriber's class that holds the pydantic model of its settings."""


def load_subscriber(entry: SubscriberEntry) -> Callable[[Event], object]:
    """Imports a user's subscriber and makes it.

    Args:
        entry: its name, and its settings if any. The name stands for a callable that takes an
            event, or for a class that makes one. A class with a pydantic model `Settings` is called
            with an instance of it, another one with nothing. If the callable has a `close`
            attribute, that is called at the end of the run.

    Raises:
        ConfigError: no such name, module or attribute; it is not callable; or its model refuses the
            settings. Other errors of importing or making it pass through.
    """
    name, settings = name_and_settings(entry)
    where = f"tracking.subscribers entry {name!r}"
    found = _imported(name, where)
    model = getattr(found, _MODEL, None) if isinstance(found, type) else None
    if isinstance(model, type) and issubclass(model, BaseModel):
        subscriber = found(_validated(model, settings, where))
    elif settings:
        raise ConfigError(
            f"{where} takes no settings, expected the name alone. Only a class with a pydantic "
            f"model named {_MODEL} takes any."
        )
    else:
        subscriber = found() if isinstance(found, type) else found
    if not callable(subscriber):
        raise ConfigError(f"{where} is a {type(subscriber).__name__}, expected something callable.")
    return cast("Callable[[Event], object]", subscriber)


def _imported(name: str, where: str) -> Any:
    """Returns what a name stands for."""
    reference = name if ":" in name else _entry_point(name, where)
    module_name, _, attribute = reference.partition(":")
    if not module_name or not attribute:
        raise ConfigError(f"{where} has no module and name, expected 'package.module:callable'.")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise ConfigError(f"{where} cannot be imported: {error}. Is it installed?") from error
    try:
        return getattr(module, attribute)
    except AttributeError as error:
        raise ConfigError(
            f"{where}: {module_name} has no {attribute!r}. Check the name."
        ) from error


def _entry_point(name: str, where: str) -> str:
    """Returns the `package.module:callable` that an installed package calls by this name."""
    installed = entry_points(group=GROUP)
    references = sorted({point.value for point in installed.select(name=name)})
    if len(references) > 1:
        raise ConfigError(
            f"{where} is the name of {' and '.join(references)}. Give one of these instead."
        )
    if references:
        return references[0]
    near = difflib.get_close_matches(name, installed.names, n=3, cutoff=0.0)
    raise ConfigError(
        f"{where} is not an installed subscriber (entry point group {GROUP}: "
        f"{'nearest are ' + ', '.join(near) if near else 'none is installed'}). Install its "
        "package, correct the name, or give 'package.module:callable'."
    )


def _validated(model: type[BaseModel], settings: Mapping[str, Any], where: str) -> BaseModel:
    """Returns the settings as the subscriber's own model has them."""
    known = [field.alias or name for name, field in model.model_fields.items()]
    unknown = [key for key in settings if key not in known]
    if unknown and model.model_config.get("extra") != "allow":
        meant = f"Did you mean {nearest(unknown[0], known)!r}?" if known else "It takes none."
        raise ConfigError(f"{where}: unknown setting {unknown[0]!r}. {meant}")
    try:
        return model.model_validate(dict(settings))
    except ValidationError as error:
        details = error.errors(include_url=False)
        more = f" (and {len(details) - 1} more)" if len(details) > 1 else ""
        first = details[0]
        key = ".".join(str(part) for part in first["loc"]) or "its settings"
        given = "" if first["type"] == "missing" else f" = {reprlib.repr(first['input'])}"
        raise ConfigError(
            f"{where}: {key}{given}: {' '.join(first['msg'].split())}{more}. Correct it."
        ) from error
