"""The list of every setting: key, environment variable, type and limits in words, description.

Read off the models of `keisei_ray.config.schema`, for documentation, help texts and error
messages, so that none of them repeats a default.
"""

import types
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Union, get_args, get_origin

from keisei_ray.config.schema import Config
from keisei_ray.config.sections import Section

ENV_PREFIX = "KEISEI_"
"""Environment variables that begin so are settings: KEISEI_<SECTION>__<KEY>."""


@dataclass(frozen=True)
class Setting:
    """One key of the configuration tree, for documentation and messages."""

    key: str
    """Dotted path, e.g. `learner.gamma`."""
    env: str
    """Its environment variable, e.g. `KEISEI_LEARNER__GAMMA`."""
    expected: str
    """Type and limits in words, e.g. `float >= 0 and <= 1`."""
    default: Any
    """Value when no route gives one."""
    description: str
    """What it means, with its unit; one line."""
    is_text: bool
    """Whether any text is a value of it, so that text which looks like a number stays text."""


def list_settings() -> tuple[Setting, ...]:
    """Every setting of the tree, in the order of the tree."""
    settings = []
    for section, section_field in Config.model_fields.items():
        section_type = section_field.annotation
        assert isinstance(section_type, type)
        assert issubclass(section_type, Section)
        for name, field in section_type.model_fields.items():
            limits = _join(field.metadata)
            settings.append(
                Setting(
                    key=f"{section}.{name}",
                    env=f"{ENV_PREFIX}{section}__{name}".upper(),
                    expected=_describe(field.annotation) + limits,
                    default=field.default,
                    description=" ".join((field.description or "").split()),
                    is_text=field.annotation in (str, str | None),
                )
            )
    return tuple(settings)


def _describe(annotation: Any) -> str:
    """A type in words, e.g. `int > 0`, `float > 0 or null`, `one of relu, silu`."""
    if annotation is type(None):
        return "null"
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return "one of " + ", ".join(str(value) for value in arguments)
    if origin in (Union, types.UnionType):
        return " or ".join(_describe(argument) for argument in arguments)
    if origin is tuple:
        return f"a list of {_describe(arguments[0])}"
    if metadata := getattr(annotation, "__metadata__", ()):
        return _describe(annotation.__origin__) + _join(metadata)
    return str(annotation.__name__)


def _join(metadata: Sequence[Any]) -> str:
    limits = " and ".join(_limits(metadata))
    return f" {limits}" if limits else ""


def _limits(metadata: Sequence[Any]) -> Iterator[str]:
    """Bounds of a field as text; pydantic keeps some of them inside a FieldInfo."""
    for item in metadata:
        if hasattr(item, "metadata"):
            yield from _limits(item.metadata)
        for name, sign in (
            ("gt", ">"),
            ("ge", ">="),
            ("lt", "<"),
            ("le", "<="),
            ("multiple_of", "a multiple of"),
        ):
            if (bound := getattr(item, name, None)) is not None:
                yield f"{sign} {bound}"


SETTINGS = {setting.key: setting for setting in list_settings()}
"""Every setting by its dotted key, in the order of the tree."""
