"""The engine's options: names, limits, defaults and what they mean.

A client lists them, lets its user change them, and sets them by `setoption`.
"""

import re
from dataclasses import dataclass, fields, replace
from typing import Final

from keisei_ray.telemetry.visible_text import shortened

Value = str | int | bool
_WHOLE_NUMBER: Final = re.compile(r"[+-]?[0-9]{1,20}")


class OptionError(ValueError):
    """An option that is unknown, or a value out of its limits; the message has one line."""


@dataclass(frozen=True)
class Options:
    """Values of all options."""

    checkpoint: str = ""
    """Path or URI of a checkpoint or a run; empty: the newest run under `runs/`."""
    device: str = "cpu"
    """Device of the network, as torch names it."""
    threads: int = 1
    """CPU threads of the network."""
    simulations: int = 0
    """Most visits of the position to move in; 0: no limit."""
    batch_size: int = 16
    """Most positions in a forward pass."""
    multi_pv: int = 1
    """Lines shown."""
    temperature: int = 0
    """Temperature of the choice among the moves, in hundredths."""
    resign_value: int = 0
    """Chance of winning below which it resigns, in thousandths; 0: it never does."""
    draw_value: int = 500
    """Worth of a draw, in thousandths of a win."""
    max_plies: int = 0
    """Plies after which a game is drawn; 0: never."""
    margin_ms: int = 200
    """Time kept for the way to the clock."""
    hash_mb: int = 1024
    """Memory for the tree."""
    ponder: bool = False
    """Whether the client will let the engine think in the opponent's time."""


@dataclass(frozen=True)
class Spin:
    """An option that is a whole number."""

    name: str
    field: str
    low: int
    high: int
    meaning: str

    def read(self, text: str) -> int:
        """Reads a value.

        Raises:
            OptionError: it is not a number, or out of limits.
        """
        number = int(text) if _WHOLE_NUMBER.fullmatch(text.strip()) else None
        if number is None or not self.low <= number <= self.high:
            raise OptionError(
                f"option {self.name} = '{shortened(text)}': expected a whole number from "
                f"{self.low} to {self.high}"
            )
        return number

    def declaration(self, default: Value) -> str:
        """The option as it is listed, after its name."""
        return f"type spin default {default} min {self.low} max {self.high}"


@dataclass(frozen=True)
class Check:
    """An option that is on or off."""

    name: str
    field: str
    meaning: str

    def read(self, text: str) -> bool:
        """Reads a value.

        Raises:
            OptionError: neither true nor false.
        """
        if text.lower() not in ("true", "false"):
            raise OptionError(f"option {self.name} = '{shortened(text)}': expected true or false")
        return text.lower() == "true"

    def declaration(self, default: Value) -> str:
        """The option as it is listed, after its name."""
        return f"type check default {str(default).lower()}"


@dataclass(frozen=True)
class Text:
    """An option that is any text."""

    name: str
    field: str
    meaning: str

    def read(self, text: str) -> str:
        """Reads a value; `<empty>` stands for none, as in the protocol."""
        return "" if text == "<empty>" else text

    def declaration(self, default: Value) -> str:
        """The option as it is listed, after its name."""
        return f"type string default {default or '<empty>'}"


TABLE: Final[tuple[Spin | Check | Text, ...]] = (
    Text(
        "Checkpoint",
        "checkpoint",
        "The network: directory of a run (its newest intact checkpoint plays) or of one "
        "checkpoint, or the URI of one of these. Empty or `latest`: the newest run in `runs/` of "
        "the directory in which the engine is started.",
    ),
    Text("Device", "device", "Device of the network: `cpu`, `cuda`, `cuda:1`."),
    Spin("Threads", "threads", 1, 256, "CPU threads that compute the network."),
    Spin(
        "Simulations",
        "simulations",
        0,
        10**9,
        "Most simulations behind a move, those kept from the moves before included. "
        "0: as many as the time allows.",
    ),
    Spin(
        "BatchSize",
        "batch_size",
        1,
        256,
        "Most positions in one forward pass. Short searches use fewer.",
    ),
    Spin("MultiPV", "multi_pv", 1, 593, "Lines shown while it thinks."),
    Spin(
        "Temperature",
        "temperature",
        0,
        1000,
        "For weaker and more varied play, in hundredths: moves are drawn from visits ** (100 / "
        "Temperature). 0: the best move. Moves that are known to lose are never drawn.",
    ),
    Spin(
        "ResignValue",
        "resign_value",
        0,
        1000,
        "Resigns where its chance of winning (a draw counts half) is below this many thousandths. "
        "0: plays on until mate.",
    ),
    Spin(
        "DrawValue",
        "draw_value",
        0,
        1000,
        "Worth of a draw to the engine, in thousandths of a win: below 500 it avoids draws, above "
        "500 it seeks them. In analysis (`go infinite`) a draw counts half.",
    ),
    Spin(
        "MaxMovesToDraw",
        "max_plies",
        0,
        100_000,
        "Plies after which the game is drawn, as agreed in the client. 0: there is no such rule.",
    ),
    Spin(
        "TimeMargin",
        "margin_ms",
        0,
        60_000,
        "Milliseconds of a move's time that are kept for the way to the clock: raise it for games "
        "over a network. At most half of a move's time.",
    ),
    Spin(
        "USI_Hash",
        "hash_mb",
        16,
        1_048_576,
        "Memory for the tree, in MiB; at most three quarters of the machine's memory are used. The "
        "search ends when it is full.",
    ),
    Check(
        "USI_Ponder",
        "ponder",
        "Whether the client lets the engine think in the opponent's time: the answer then names "
        "the reply that is expected.",
    ),
)
"""Every option, in the order in which they are listed."""


def declarations(options: Options) -> list[str]:
    """The lines that list all options, with present values as defaults."""
    return [f"option name {o.name} {o.declaration(getattr(options, o.field))}" for o in TABLE]


def with_option(options: Options, name: str, text: str) -> Options:
    """Returns the options with one changed.

    Args:
        options: values so far.
        name: as listed, in any case.
        text: the new value.

    Raises:
        OptionError: there is no such option, or the value is out of its limits.
    """
    for option in TABLE:
        if option.name.lower() == name.lower():
            return replace(options, **{option.field: option.read(text)})  # type: ignore[arg-type]
    known = ", ".join(option.name for option in TABLE)
    raise OptionError(f"unknown option '{shortened(name)}': expected one of {known}")


assert {option.field for option in TABLE} == {f.name for f in fields(Options)}
