"""Safe YAML with the scalars of YAML 1.2's core schema.

PyYAML reads YAML 1.1, where `off` is False, `3e-4` is text, `1:30` is 90 and `010` is 8. Here a
value is what it looks like: only true and false are bools, any decimal number is a number (with
`10_000` allowed besides), and dates are text. A key given twice in one mapping is an error.
"""

import re
from typing import Any, Final

import yaml

from keisei_ray.config.json_text import check_unicode

MAX_VALUES: Final = 100_000
"""Most values of a document, aliases written out: a few lines of them can stand for billions."""
MAX_QUOTED: Final = 200
"""Characters of a document that an error's text may quote."""


def load_yaml(text: str) -> Any:
    """Reads a YAML document into dict, list, str, int, float, bool and None.

    Raises:
        yaml.YAMLError: not a YAML document, or nested too deeply; a tag that is not plain data or
            does not fit its value; a repeated key; aliases that hold themselves or that stand for
            more than MAX_VALUES values; half a surrogate pair.
    """
    try:
        tree = yaml.load(text, Loader=_Loader)
        if _num_values(tree, {}) > MAX_VALUES:
            raise yaml.YAMLError(f"more than {MAX_VALUES:,} values, its aliases written out")
        _check_unicode(tree)
        return tree
    except yaml.MarkedYAMLError as error:
        for part in ("context", "problem"):  # They may quote a tag of any length.
            setattr(error, part, (getattr(error, part) or "")[:MAX_QUOTED] or None)
        raise
    except RecursionError as error:
        raise yaml.YAMLError("nested too deeply") from error
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        # SafeLoader's constructors raise these for `!!float x`, `!!bool x` and the like.
        raise yaml.YAMLError(f"a value does not fit its tag: {str(error)[:MAX_QUOTED]}") from error


def _check_unicode(tree: Any) -> None:
    try:
        check_unicode(tree)
    except ValueError as error:
        raise yaml.YAMLError(str(error)) from error


def _num_values(value: Any, known: dict[int, int]) -> int:
    """Counts the values in a tree with every alias written out.

    Args:
        value: the tree.
        known: id of a collection -> number of its values; 0 while they are counted.

    Raises:
        yaml.YAMLError: a collection holds itself, or a value is of another type, as a tag can make.
    """
    if value is None or isinstance(value, str | int | float):
        return 1
    if not isinstance(value, dict | list):
        raise yaml.YAMLError(
            f"a value of the type {type(value).__name__}, expected text, a number, true, false, "
            "null, a list or a mapping"
        )
    if id(value) not in known:
        known[id(value)] = 0
        inner = (*value, *value.values()) if isinstance(value, dict) else value
        known[id(value)] = 1 + sum(_num_values(one, known) for one in inner)
    elif not known[id(value)]:
        raise yaml.YAMLError("an alias stands for a collection that it is in")
    return known[id(value)]


class _Loader(yaml.SafeLoader):
    """SafeLoader with the scalars of YAML 1.2's core schema and without repeated keys."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Builds a dict as SafeLoader does, but refuses a repeated key."""
        seen = set()
        for key_node, _ in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                continue
            if key_node.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key '{key_node.value}' is given twice", key_node.start_mark
                )
            seen.add(key_node.value)
        return super().construct_mapping(node, deep)

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Merges nothing: YAML 1.2 has no `<<`, and merging an alias again and again has no end."""

    def construct_decimal(self, node: yaml.ScalarNode) -> int:
        """Reads a decimal integer; a leading zero does not make it octal."""
        return int(str(self.construct_scalar(node)).replace("_", ""))


def _install(tag: str, pattern: str) -> None:
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", re.compile(pattern), None)


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_decimal)
_install("null", r"^(?:~|null|Null|NULL|)$")
_install("bool", r"^(?:true|True|TRUE|false|False|FALSE)$")
_install("int", r"^[-+]?[0-9](?:_?[0-9])*$")
_install("float", r"^[-+]?(?:\.[0-9]+|[0-9](?:_?[0-9])*(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?$")
