"""List of all settings: key, environment variable, type and limits in words, default, meaning.

Read from the models in `keisei_ray.config.sections`, for `run.py config --describe`, the
documentation and error messages, so that none of them repeats a default.
"""

import json
import re
import textwrap
import types
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import JsonValue

from keisei_ray.config.nearest import nearest_key
from keisei_ray.config.schema import Config
from keisei_ray.config.sections import Section
from keisei_ray.errors import ConfigError

ENV_PREFIX = "KEISEI_"
"""Start of the environment variables that are settings: KEISEI_<SECTION>__<KEY>."""
COLUMNS = 80
"""Width of the printed descriptions, whatever the width of the terminal."""
HOW_TO_GIVE = (
    "A setting is given in a file (--config FILE), by its environment variable, in a sweep's file "
    "(--sweep FILE), or as --set SECTION.KEY=VALUE. If it is given more than once, the later of "
    "these wins."
)
_PLAIN = re.compile(r"[A-Za-z0-9_][\w.+-]*")
"""Text that YAML reads as it stands within a list."""


@dataclass(frozen=True)
class Setting:
    """One key of the configuration tree, for documentation and messages."""

    key: str
    """Dotted path, e.g. `learner.gamma`."""
    env: str
    """Name of the environment variable, e.g. `KEISEI_LEARNER__GAMMA`."""
    expected: str
    """Type and limits in words, e.g. `float >= 0 and <= 1`."""
    default: Any
    """Value when no route gives one."""
    description: str
    """Meaning, with the unit; one line."""
    is_text: bool
    """Whether any text is a value of it, so that text which looks like a number stays text."""

    @property
    def section(self) -> str:
        """First part of the key, e.g. `learner`."""
        return self.key.partition(".")[0]

    @property
    def name(self) -> str:
        """Second part of the key, e.g. `gamma`."""
        return self.key.partition(".")[2]

    @property
    def default_text(self) -> str:
        """Default as it would be typed, e.g. `null` or `[random, greedy]`."""
        return _as_typed(self.default)


def describe(wanted: str = "") -> str:
    """Describes settings for a terminal: plain text, at most `COLUMNS` wide.

    Args:
        wanted: a section, a dotted key, or a key without its section; empty: all settings.

    Raises:
        ConfigError: there is no such section or setting; the message names the nearest.
    """
    if not wanted:
        blocks = [_wrap(HOW_TO_GIVE)]
        blocks += [block for section in SECTIONS for block in _section_blocks(section)]
    elif wanted in SECTIONS:
        blocks = _section_blocks(wanted)
    else:
        blocks = [_block(s) for s in SETTINGS.values() if wanted in (s.key, s.name)]
    if not blocks:
        meant = nearest_key(wanted, [*SECTIONS, *SETTINGS])
        raise ConfigError(
            f"--describe: unknown section or setting {wanted!r}. Did you mean {meant!r}?"
        )
    return "\n\n".join(blocks) + "\n"


def _section_models() -> dict[str, type[Section]]:
    models = {}
    for name, field in Config.model_fields.items():
        assert isinstance(field.annotation, type)
        assert issubclass(field.annotation, Section)
        models[name] = field.annotation
    return models


def _read_settings() -> Iterator[Setting]:
    for section, model in SECTIONS.items():
        for name, field in model.model_fields.items():
            yield Setting(
                key=f"{section}.{name}",
                env=f"{ENV_PREFIX}{section}__{name}".upper(),
                expected=_describe_type(field.annotation) + _join(field.metadata),
                default=field.default,
                description=_one_line(field.description),
                is_text=field.annotation in (str, str | None),
            )


def _section_blocks(section: str) -> list[str]:
    heading = f"[{section}] {_one_line(SECTIONS[section].__doc__)}"
    settings = [setting for setting in SETTINGS.values() if setting.section == section]
    return [_wrap(heading), *map(_block, settings)]


def _block(setting: Setting) -> str:
    """One setting: its key, then indented its meaning and one property a line."""
    return "\n".join(
        [
            setting.key,
            _wrap(setting.description, indent="    "),
            _wrap(setting.default_text, indent="    Default      "),
            _wrap(setting.expected, indent="    Expected     "),
            _wrap(setting.env, indent="    Environment  "),
        ]
    )


def _wrap(text: str, *, indent: str = "") -> str:
    return textwrap.fill(
        text,
        COLUMNS,
        initial_indent=indent,
        subsequent_indent=" " * len(indent),
        break_long_words=False,
        break_on_hyphens=False,
    )


def _one_line(text: str | None) -> str:
    return " ".join((text or "").split())


def _as_typed(value: Any) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(_as_item(item) for item in value)}]"
    if isinstance(value, int) and value >= 100_000:
        return f"{value:_}"
    return value if isinstance(value, str) else json.dumps(value)


def _as_item(value: Any) -> str:
    """Text of an item of a list; quoted where YAML would read it as something else."""
    is_plain = not isinstance(value, str) or _PLAIN.fullmatch(value)
    return _as_typed(value) if is_plain else json.dumps(value)


def _describe_type(annotation: Any) -> str:
    """A type in words, e.g. `int > 0`, `float > 0 or null`, `one of relu, silu`."""
    if annotation is type(None):
        return "null"
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        names = ", ".join(str(value) for value in arguments)
        return f"one of {names}" if len(arguments) > 1 else names
    if origin in (Union, types.UnionType):
        return " or ".join(_describe_type(argument) for argument in arguments)
    if origin is tuple:
        return f"a list of {_describe_type(arguments[0])}"
    if origin is dict:
        return f"{{{_describe_type(arguments[0])}: {_describe_type(arguments[1])}}}"
    if annotation is JsonValue:
        return "value"
    if metadata := getattr(annotation, "__metadata__", ()):
        return _describe_type(annotation.__origin__) + _join(metadata)
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


SECTIONS = _section_models()
"""Models of the sections by their names, in the order of the tree."""
SETTINGS = {setting.key: setting for setting in _read_settings()}
"""All settings by their dotted keys, in the order of the tree."""
