"""How a player is written, on the command line and in settings, and what that text means.

    random                            each legal move with the same probability
    random+mate1                      mate in one if there is one, else as random
    greedy                            mate in one if there is one, else the most material
    greedy2                           the same, less the material that the answer wins
    greedy?random=P                   greedy or greedy2 that plays a share P of its moves at random
    checkpoint:PATH                   the network of a checkpoint; PATH may be a run or a URI
    checkpoint:PATH+mate1             the same network, which also plays every mate in one
    checkpoint:PATH?simulations=N     the same network with a search of N simulations a move
    checkpoint:PATH?seconds=S         the same, searching for S seconds at each ply of a match
    checkpoint:PATH?simulations=N&root=gumbel   the same, with sequential halving at the root
    checkpoint:PATH?simulations=N&draw-value=V  the same; a draw is worth V in [-1, 1] to it, not 0
    usi:COMMAND?KEY=VALUE&KEY=VALUE   a shogi engine that speaks USI
    snapshots                         earlier weights of the run; only in `evaluation.opponents`

The one parser of this text: settings, command line and matches use it. It opens no file and starts
no program, see `players/player.py` for that.

A search finds every mate in one by itself. With both limits the first one reached ends it. The
seconds are shared by the games of a match that stand at the same ply.

COMMAND is split as a shell would, but no shell runs it. `nodes`, `byoyomi-ms`, `timeout-s` and
`processes` are limits that the match sets; any other key is an option of the engine, for example
`Skill Level=-20`. `%XX` stands for a character as in a URL, needed for `&` and `%` in a value.
"""

import difflib
import reprlib
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, Self, TypeVar
from urllib.parse import unquote

from keisei_ray.config.player_names import FINISHING_SUFFIX
from keisei_ray.errors import PlayerError

PlayerKind = Literal[
    "random", "random+mate1", "greedy", "greedy2", "checkpoint", "usi", "snapshots"
]
SNAPSHOTS: Final = "snapshots"
"""Stands for earlier weights of the run among the opponents of a background evaluation."""

ENGINE_SYNTAX: Final = "usi:COMMAND[?nodes=N&byoyomi-ms=MS&timeout-s=S&processes=K&OPTION=VALUE...]"
CHECKPOINT_SYNTAX: Final = (
    "checkpoint:PATH[+mate1] or "
    "checkpoint:PATH?simulations=N&seconds=S&root=puct|gumbel&draw-value=V"
)
SYNTAX: Final[dict[PlayerKind, str]] = {
    "random": "random",
    "random+mate1": "random+mate1",
    "greedy": "greedy",
    "greedy2": "greedy2",
    "snapshots": "snapshots",
    "checkpoint": "checkpoint:PATH",
    "usi": ENGINE_SYNTAX,
}
"""How a player of each kind is written."""

SCRIPTED_KINDS: Final[Sequence[PlayerKind]] = ("random", "random+mate1", "greedy", "greedy2")
"""Kinds that need neither a network nor a program, from the weakest to the strongest."""
MATCH_KINDS: Final[Sequence[PlayerKind]] = (*SCRIPTED_KINDS, "checkpoint", "usi")
"""Kinds that can play a match by themselves: those of `evaluate` and `ladder`."""
EVALUATION_KINDS: Final[Sequence[PlayerKind]] = (*MATCH_KINDS, "snapshots")
"""Kinds of `evaluation.opponents`."""
POOL_KINDS: Final[Sequence[PlayerKind]] = ("greedy", "greedy2", "random", "usi")
"""Kinds of `pool.members`. In self-play they also play mates in one, see `finish_mates`."""
MATCH_SYNTAX: Final = "|".join(SYNTAX[kind].partition("[")[0] for kind in MATCH_KINDS)
"""How MATCH_KINDS are written, in short, for the help of a command."""

DEFAULT_BYOYOMI_MS: Final = 100
"""Milliseconds per move if no limit is given; the one limit that every USI engine knows."""
DEFAULT_TIMEOUT_S: Final = 30.0
MAX_PROCESSES: Final = 64

_Number = TypeVar("_Number", int, float)


@dataclass(frozen=True)
class EngineSpec:
    """A USI engine, its limits and its options: all that a match needs to know about it."""

    text: str
    """The text as the user wrote it; the name of the engine in results."""
    command: tuple[str, ...]
    """Program and arguments."""
    nodes: int | None
    """Nodes per move; None: limited by time."""
    byoyomi_ms: int | None
    """Milliseconds per move; None: limited by nodes."""
    timeout_s: float
    """Longest wait for an answer, in seconds, beyond the time that a move is given."""
    processes: int | None
    """Engine processes that share the games of a match, at most; None: by the number of CPUs."""
    options: tuple[tuple[str, str], ...]
    """Options of the engine itself, in the order written."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Reads `usi:COMMAND?KEY=VALUE&...`.

        Raises:
            PlayerError: no command, or a key or value that makes no sense.
        """
        command, _, query = text.partition(":")[2].partition("?")
        try:
            words = tuple(shlex.split(command))
        except ValueError as error:
            raise bad_player(text, f"the command cannot be split: {error}") from error
        if not words or not text.isprintable():
            raise bad_player(text, "no command" if not words else "control characters")
        values = _read_query(text, query)
        nodes = _take_number(text, values, "nodes", int, 1, 10**12)
        byoyomi_ms = _take_number(text, values, "byoyomi-ms", int, 1, 10**7)
        if nodes is not None and byoyomi_ms is not None:
            raise bad_player(text, "both nodes and byoyomi-ms; one limit decides")
        if nodes is None and byoyomi_ms is None:
            byoyomi_ms = DEFAULT_BYOYOMI_MS
        timeout_s = _take_number(text, values, "timeout-s", float, 0.01, 86_400.0)
        return cls(
            text=text,
            command=words,
            nodes=nodes,
            byoyomi_ms=byoyomi_ms,
            timeout_s=DEFAULT_TIMEOUT_S if timeout_s is None else timeout_s,
            processes=_take_number(text, values, "processes", int, 1, MAX_PROCESSES),
            options=tuple(values.items()),
        )


@dataclass(frozen=True)
class SearchSpec:
    """How far a network looks ahead for each move; one of the limits at least."""

    simulations: int | None
    """Simulations; None: as many as the time allows."""
    seconds: float | None
    """Seconds; None: as many as the simulations take."""
    root: Literal["puct", "gumbel"] = "puct"
    """Rule at the root, see `SearchSettings.root`; `gumbel` needs a number of simulations."""
    draw_value: float = 0.0
    """Value of a draw to this player, see `SearchSettings.draw_value`."""

    @property
    def suffix(self) -> str:
        """End of the player's name, e.g. `+200sims`, `+0.5s`."""
        simulations = f"+{self.simulations}sims" if self.simulations is not None else ""
        seconds = f"+{self.seconds:g}s" if self.seconds is not None else ""
        root = "+gumbel" if self.root == "gumbel" else ""
        draw = f"+draw{self.draw_value:g}" if self.draw_value else ""
        return simulations + seconds + root + draw


@dataclass(frozen=True)
class PlayerSpec:
    """A player as the user wrote it."""

    kind: PlayerKind
    path: str | None = None
    """Path or URI of a checkpoint or run; None for other kinds."""
    finishes_mates: bool = False
    """Whether a checkpoint is to play every mate in one."""
    search: SearchSpec | None = None
    """How far a checkpoint looks ahead; None: it plays by its policy alone."""
    engine: EngineSpec | None = None
    """The engine of kind usi; None for other kinds."""
    random_share: float = 0.0
    """Share of its moves that greedy or greedy2 plays as `random` does."""


def parse_player(text: str, kinds: Sequence[PlayerKind] = MATCH_KINDS) -> PlayerSpec:
    """Reads the text for a player.

    Args:
        text: see the top of this module.
        kinds: the kinds that are allowed here.

    Raises:
        PlayerError: unknown or not allowed here, or an engine with a bad command or query.
    """
    name, colon, argument = text.partition(":")
    name, mark, query = name.partition("?")
    kind = next((kind for kind in kinds if kind == name), None)
    if mark and not colon and kind in ("greedy", "greedy2"):
        return _parse_greedy(text, kind, query)
    if kind == "usi" and colon:
        return PlayerSpec(kind, engine=EngineSpec.parse(text))
    if kind == "checkpoint" and argument:
        return _parse_checkpoint(text, argument)
    if kind is not None and kind not in ("usi", "checkpoint") and not colon and not mark:
        return PlayerSpec(kind)
    forms: dict[str, str] = {kind: SYNTAX[kind] for kind in kinds}
    near = difflib.get_close_matches(name.lower(), forms, n=1, cutoff=0.0)
    raise PlayerError(
        f"unknown player {_quoted(text)}. Did you mean {forms[near[0]]!r}? "
        f"Expected one of {', '.join(forms.values())}."
    )


def _parse_greedy(text: str, kind: PlayerKind, query: str) -> PlayerSpec:
    """Reads `greedy?random=P`.

    Raises:
        PlayerError: a key or value makes no sense.
    """
    values = _read_query(text, query)
    share = _take_number(text, values, "random", float, 0.0, 1.0)
    if share is None or values:
        raise bad_player(text, f"the query is {_quoted(query)}")
    return PlayerSpec(kind, random_share=share)


def _parse_checkpoint(text: str, argument: str) -> PlayerSpec:
    """Reads `PATH`, `PATH+mate1` or `PATH?simulations=N&seconds=S` and so on.

    Raises:
        PlayerError: a key or value makes no sense.
    """
    path, _, query = argument.rpartition("?")
    if not path or "=" not in query:
        path = argument.removesuffix(FINISHING_SUFFIX)
        return PlayerSpec("checkpoint", path, finishes_mates=path != argument)
    values = _read_query(text, query)
    root = values.pop("root", "puct")
    if root not in ("puct", "gumbel"):
        raise bad_player(text, f"root = {_quoted(root)}")
    search = SearchSpec(
        simulations=_take_number(text, values, "simulations", int, 1, 10**7),
        seconds=_take_number(text, values, "seconds", float, 0.01, 86_400.0),
        root=root,  # type: ignore[arg-type]
        draw_value=_take_number(text, values, "draw-value", float, -1.0, 1.0) or 0.0,
    )
    if values:
        raise bad_player(text, f"unknown key {_quoted(next(iter(values)))}")
    if search.simulations is None and (search.seconds is None or root == "gumbel"):
        missing = "no limit" if search.seconds is None else "root=gumbel needs simulations"
        raise bad_player(text, missing)
    if path.endswith(FINISHING_SUFFIX):
        raise bad_player(text, f"a search finds mates in one without {FINISHING_SUFFIX}")
    return PlayerSpec("checkpoint", path, search=search)


def checkpoint_text(path: str) -> str:
    """Returns the text for the player of a checkpoint, of which only the path is known."""
    return f"checkpoint:{path}"


def bad_player(text: str, what: str) -> PlayerError:
    """Returns the error for an engine or a checkpoint that cannot be used as it is written.

    Args:
        text: the whole text for the player.
        what: the complaint, with or without a question mark at its end.
    """
    end = "" if what.endswith("?") else "."
    syntax = ENGINE_SYNTAX if text.startswith("usi:") else CHECKPOINT_SYNTAX
    if text.startswith("greedy"):
        name = _quoted(text.partition("?")[0])[1:-1]
        syntax = f"{name} or {name}?random=SHARE"
    return PlayerError(f"player {_quoted(text)}: {what}{end} Expected {syntax}.")


def _quoted(text: str) -> str:
    """Returns a text in quotes, without its middle if it is long."""
    shortener = reprlib.Repr()
    shortener.maxstring = 200
    return shortener.repr(text)


def _read_query(text: str, query: str) -> dict[str, str]:
    """Splits `KEY=VALUE&...` into a mapping, in the order written."""
    values: dict[str, str] = {}
    for item in query.split("&") if query else ():
        key, equals, value = item.partition("=")
        key = unquote(key).strip()
        if not key or not equals or key in values:
            what = "is given twice" if key in values else "is not KEY=VALUE"
            raise bad_player(text, f"{_quoted(item)} {what}")
        values[key] = unquote(value).strip()
    return values


def _take_number(
    text: str,
    values: dict[str, str],
    key: str,
    kind: type[_Number],
    low: _Number,
    high: _Number,
) -> _Number | None:
    """Removes a number from the values and returns it; None if the key is not there."""
    if key not in values:
        return None
    value = values.pop(key)
    number: _Number | None
    try:
        # Python also reads 1_0, and the digits of every script.
        number = kind(value) if value.isascii() and "_" not in value else None
    except ValueError:
        number = None
    if number is None or not low <= number <= high:
        raise bad_player(text, f"{key} = {_quoted(value)}, expected a number from {low} to {high}")
    return number
