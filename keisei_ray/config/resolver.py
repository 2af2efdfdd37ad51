"""The one resolver: defaults, file, environment, sweep and command line become one `Config`.

The settings of each route are first flattened to dotted keys, with their source for messages. Then
all are merged, later routes over earlier ones, and the result is validated once. An unknown key is
refused whatever its route; the message names its source and the nearest known key. Nothing here
reads `os.environ` or writes a file: the caller passes what is to be resolved.

A value given as text is read as it would be in a file (`keisei_ray.config.yaml12`). Only for a
setting whose value is text it is taken as it is, so that a path needs no quotes.
"""

import re
import reprlib
import types
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from keisei_ray.config.describe import ENV_PREFIX, SECTIONS, SETTINGS
from keisei_ray.config.json_text import MAX_INTEGER, check_unicode, parse_json
from keisei_ray.config.nearest import nearest_key
from keisei_ray.config.saved_model_section import completed_section
from keisei_ray.config.schema import Config
from keisei_ray.config.yaml12 import load_yaml
from keisei_ray.errors import ConfigError

NULL_TEXTS = ("", "~", "null")
"""Texts that mean null for a setting whose value is text."""

_RUN_DIR: Final = "run.run_dir"
_KEY_OF_ENV = {setting.env: setting.key for setting in SETTINGS.values()}


@dataclass(frozen=True)
class _Given:
    """One value as it was given, and by which route."""

    value: Any
    source: str


def resolve_config(
    file: str | None,
    environ: Mapping[str, str],
    overrides: Sequence[str],
    flags: Mapping[str, Any],
    sweep: Mapping[str, Any] = types.MappingProxyType({}),
    sweep_source: str = "sweep",
    defaults: Mapping[str, Any] = types.MappingProxyType({}),
    *,
    is_saved: bool = False,
) -> Config:
    """Merges the settings of all routes into one validated config.

    Precedence, weakest first: defaults, `file`, `environ`, `sweep`, `overrides`, `flags`.

    Args:
        file: path of a YAML file (of a JSON file if it ends in .json) with any of the settings.
        environ: environment variables; those named KEISEI_... are settings.
        overrides: `section.key=value` texts; of two for one key the later wins.
        flags: dotted key -> value; None means that the flag was not given.
        sweep: dotted keys or nested sections -> value; here None is a value.
        sweep_source: source of `sweep` for messages.
        defaults: dotted key -> value in place of the setting's own default.
        is_saved: whether a run has saved the file. The directory that it names is where the run was
            then, and is not used; a URI is.

    Raises:
        ConfigError: one line: the file cannot be read, a key is unknown, a value has the wrong
            type or is out of its limits, or sizes do not fit each other.
    """
    given = dict(_from_tree(defaults, "default"))
    if file is not None:
        given.update(_from_tree(_read_file(file), file))
        place = given.get(_RUN_DIR)
        if is_saved and place is not None and "://" not in str(place.value):
            del given[_RUN_DIR]
    given.update(_from_environ(environ))
    given.update(_from_tree(sweep, sweep_source))
    given.update(_from_overrides(overrides))
    for key, value in flags.items():
        if value is not None:
            given.update(_from_tree({key: value}, f"--{key.partition('.')[2].replace('_', '-')}"))
    return _validate(given)


def load_sweep(path: str) -> Mapping[str, Any]:
    """Reads the settings that a sweep chose for this run, for `resolve_config`.

    Args:
        path: JSON or YAML file with dotted keys or nested sections, e.g. the one that an agent of
            Weights & Biases puts in place of ${args_json_file}.

    Raises:
        ConfigError: the file cannot be read, or is not a mapping.
    """
    tree = _read_file(path)
    if not isinstance(tree, Mapping):
        raise ConfigError(
            f"--sweep {path}: a {type(tree).__name__}, expected a mapping of settings."
        )
    return tree


def load_config_json(text: str, source: str) -> Config:
    """Reads the text that `Config.model_dump_json` wrote; the result equals that config.

    Args:
        text: the JSON text.
        source: name of the file for messages.

    Raises:
        ConfigError: not a JSON object, or not a valid configuration.
    """
    return _validate(_from_tree(_parse_json(text, source), source))


def _read_file(path: str) -> object:
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot read the configuration file: {error.strerror}. Check the path."
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not a text file (UTF-8), expected YAML.") from error
    return _parse_json(text, path) if path.endswith(".json") else _parse_yaml(text, path)


def _parse_json(text: str, source: str) -> object:
    try:
        tree = parse_json(text)
        check_unicode(tree)
    except ValueError as error:
        raise ConfigError(f"{source}: not valid JSON: {_one_line(error)}.") from error
    # A run's config.json may be older than some settings of its network.
    if isinstance(tree, dict) and isinstance(section := tree.get("model"), dict):
        tree["model"] = completed_section(section)
    return tree


def _parse_yaml(text: str, source: str) -> object:
    try:
        tree = load_yaml(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f", line {mark.line + 1} column {mark.column + 1}" if mark else ""
        raise ConfigError(f"{source}{where}: not valid YAML: {error.problem}.") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{source}: not valid YAML: {_one_line(error)}.") from error
    if tree is None:
        raise ConfigError(
            f"{source}: empty, expected at least one section ({', '.join(SECTIONS)})."
        )
    return tree


def _from_tree(tree: object, source: str) -> dict[str, _Given]:
    """Flattens sections, nested or dotted, to keys; a section that is null has none."""
    if not isinstance(tree, Mapping):
        raise ConfigError(
            f"{source}: a {type(tree).__name__}, expected a mapping of sections "
            f"({', '.join(SECTIONS)})."
        )
    given: dict[str, _Given] = {}
    for key, value in _leaves(tree, source):
        if key not in SETTINGS:
            raise _unknown(source, key)
        if key in given:
            raise ConfigError(f"{source}: {key} is given twice. Leave one out.")
        given[key] = _Given(value, source)
    return given


def _leaves(tree: Mapping[Any, Any], source: str) -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        is_section = name in SECTIONS
        # A name that holds keys is taken for a section, if mistyped, so that its keys are named.
        if isinstance(value, Mapping) and (is_section or (value and "." not in str(name))):
            yield from ((f"{name}.{key}", inner) for key, inner in value.items())
        elif not is_section:
            yield str(name), value
        elif value is not None:
            raise ConfigError(
                f"{source}: {name} = {_shown(value)}, expected a mapping: {name} is a section. "
                f"Give {name}.<key>."
            )


def _from_environ(environ: Mapping[str, str]) -> dict[str, _Given]:
    given = {}
    for name in sorted(environ):
        if name.startswith(ENV_PREFIX):
            source = f"environment variable {_one_line(name)}"
            if name not in _KEY_OF_ENV:
                section, separator, key = name.removeprefix(ENV_PREFIX).lower().partition("__")
                path = f"{section}.{key}" if separator else section
                meant = SETTINGS[nearest_key(path, sorted(SETTINGS))].env
                raise ConfigError(f"{source}: unknown key {path!r}. Did you mean '{meant}'?")
            given[_KEY_OF_ENV[name]] = _from_text(_KEY_OF_ENV[name], environ[name], source)
    return given


def _from_overrides(overrides: Sequence[str]) -> dict[str, _Given]:
    given = {}
    for text in overrides:
        source = "--set"
        key, separator, value = text.partition("=")
        key = key.strip()
        if not separator:
            raise ConfigError(f"--set {_shown(text)}: no '=', expected --set section.key=value.")
        if key in SECTIONS:
            raise ConfigError(f"{source}: {key} is a section, expected --set {key}.<key>=value.")
        if key not in SETTINGS:
            raise _unknown(source, key)
        given[key] = _from_text(key, value, source)
    return given


def _from_text(key: str, text: str, source: str) -> _Given:
    """Reads a value from text: as it is if the setting's value is text, else as YAML."""
    if SETTINGS[key].is_text:
        return _Given(None if text in NULL_TEXTS else text, source)
    try:
        return _Given(load_yaml(text), source)
    except yaml.YAMLError as error:
        raise ConfigError(
            f"{source}: {key} = {_shown(text)} cannot be read as YAML, "
            f"expected {SETTINGS[key].expected}."
        ) from error


def _validate(given: Mapping[str, _Given]) -> Config:
    tree: dict[str, dict[str, Any]] = {}
    for key, item in given.items():
        _check_storable(key, item)
        section, name = key.split(".")
        tree.setdefault(section, {})[name] = item.value
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        details = error.errors(include_url=False)
        others = len({detail["loc"][:2] for detail in details}) - 1
        more = f" (and {others} more)" if others else ""
        raise ConfigError(_message(details[0], given) + more) from error


def _check_storable(key: str, item: _Given) -> None:
    """Refuses a value that `config.json` of the run could not hold."""
    for scalar in _scalars(item.value):
        if isinstance(scalar, int) and abs(scalar) > MAX_INTEGER:
            raise ConfigError(
                f"{item.source}: {key} = {_shown(scalar)}: beyond 64 bits, expected "
                f"{SETTINGS[key].expected}, at most {MAX_INTEGER}."
            )
        if isinstance(scalar, str) and not _is_unicode(scalar):
            raise ConfigError(f"{item.source}: {key} = {_shown(scalar)}: not text in UTF-8.")


def _scalars(value: object) -> Iterator[object]:
    if isinstance(value, Mapping):
        for pair in value.items():
            yield from _scalars(pair)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _scalars(inner)
    else:
        yield value


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _message(detail: ErrorDetails, given: Mapping[str, _Given]) -> str:
    key = ".".join(str(part) for part in detail["loc"][:2])
    if key in SETTINGS:
        item = given[key]
        if detail["type"] == "value_error" and not isinstance(item.value, bool):
            # A check of this setting alone; its message says more than the expected type.
            return f"{item.source}: {key} = {_shown(item.value)}: {detail['ctx']['error']}."
        return (
            f"{item.source}: {key} = {_shown(item.value)} ({type(item.value).__name__}), "
            f"expected {SETTINGS[key].expected}."
        )
    # A check across settings: its text names the keys; add the sources of those that were given.
    text = str(detail.get("ctx", {}).get("error", detail["msg"]))
    sources = [
        f"{key} from {item.source}"
        for key, item in given.items()
        if re.search(rf"\b{re.escape(key)}\b", text)
    ]
    return text + (f" ({'; '.join(sources)})" if sources else "")


def _unknown(source: str, key: str) -> ConfigError:
    meant = nearest_key(key, sorted(SETTINGS))
    return ConfigError(f"{source}: unknown key {key!r}. Did you mean '{meant}'?")


def _shown(value: object) -> str:
    """Returns the value as Python writes it, shortened if it is long or deep."""
    shortener = reprlib.Repr()
    shortener.maxstring = shortener.maxother = 80
    return shortener.repr(value)


def _one_line(text: object) -> str:
    return " ".join(str(text).split()) or type(text).__name__
