"""Values of flags: each function reads one from its text, or says what was expected.

Raises `argparse.ArgumentTypeError`, whose message argparse shows with the flag.
"""

import argparse
import math
from collections.abc import Callable
from typing import TypeVar

from keisei_ray.config.nearest import nearest

ALONE_BENCHES = ("gpu", "learning")
"""Benchmarks that are run alone, and only when asked for."""
BENCHES = ("env", "actor", "search", "learner", "learners", "wire", "broadcast", "train")
Number = TypeVar("Number", int, float)


def num_actors(text: str) -> int | str:
    """Reads a number of actors, or `auto`, or a share of it."""
    if text == "auto" or text.startswith("auto:"):
        return text
    try:
        return int(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(
            f"{text!r} is neither a number nor auto nor a share such as auto:0.5"
        ) from error


def positive(text: str) -> int:
    """Reads a whole number from 1."""
    return _number(text, int, lambda value: value >= 1, "a positive whole number")


def count(text: str) -> int:
    """Reads a whole number from 0 to ten million."""
    return _number(
        text, int, lambda value: 0 <= value <= 10**7, "a whole number from 0 to 10,000,000"
    )


def port(text: str) -> int:
    """Reads a port; 0 is any that is free."""
    return _number(text, int, lambda value: 0 <= value <= 65535, "a port from 0 to 65535")


def seed(text: str) -> int:
    """Reads a seed."""
    return _number(text, int, lambda value: value >= 0, "a whole number, 0 or more")


def minutes(text: str) -> float:
    """Reads a time in minutes."""
    return _number(text, float, lambda value: 0 < value < math.inf, "a positive number of minutes")


def network(text: str) -> tuple[int, int]:
    """Reads the depth and width of a network."""
    depth, _, width = text.partition("x")
    if not (depth.isdecimal() and width.isdecimal() and int(depth) and int(width)):
        raise argparse.ArgumentTypeError(f"{text!r} is not a network's size such as 10x128")
    return int(depth), int(width)


def seconds(text: str) -> float:
    """Reads a time in seconds."""
    return _number(text, float, lambda value: 0 < value < math.inf, "a positive number of seconds")


def temperature(text: str) -> float:
    """Reads a temperature; 0 is the likeliest move."""
    return _number(
        text, float, lambda value: value == 0.0 or 0.01 <= value <= 100.0, "0, or from 0.01 to 100"
    )


def _number(
    text: str,
    convert: Callable[[str], Number],
    is_allowed: Callable[[Number], bool],
    expected: str,
) -> Number:
    """Reads a number within limits, or raises with what was expected."""
    try:
        if is_allowed(value := convert(text)):
            return value
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"{text!r} is not {expected}")


def benchmark(text: str) -> str:
    """Reads the name of a benchmark."""
    names = [*BENCHES, *ALONE_BENCHES]
    if text not in names:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a benchmark, did you mean {nearest(text, names)!r}? "
            f"Expected any of {', '.join(names)}"
        )
    return text
