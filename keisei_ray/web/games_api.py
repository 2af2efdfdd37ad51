"""Answers about the games of a run: lists, games to replay, and a network's opinion of them."""

from collections.abc import Awaitable
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from aiohttp import web
from pydantic import Field

from keisei_ray.errors import PositionError, RunDirError
from keisei_ray.report.games import kif_of, replay_data, title
from keisei_ray.rollouts.finished_game import Color
from keisei_ray.shogi.game import NO_PLY_CAP, STANDARD_SFEN, check_start
from keisei_ray.shogi.replay import mates_in_one, replay
from keisei_ray.storage.json_lines import Record
from keisei_ray.storage.run_layout import GAMES_FILE, HUMAN_GAMES_FILE
from keisei_ray.telemetry.visible_text import shortened
from keisei_ray.web.answers import json_answer
from keisei_ray.web.game_index import Filter, GameIndex
from keisei_ray.web.human_game import COLORS, MAX_PLIES
from keisei_ray.web.keys import read, run_path, run_place
from keisei_ray.web.live import send_events
from keisei_ray.web.opponents import MAX_SIMULATIONS, MAX_TEMPERATURE, opponent, opponents
from keisei_ray.web.requests import Fields, body, query, while_connected
from keisei_ray.web.thinker import THINKER

INDEXES = web.AppKey("INDEXES", dict[Path, GameIndex])
READ_S: Final = 0.5
"""Seconds that a long file is read before other requests have their turn."""
LOOK_S: Final = 2.0
"""Seconds between two looks for newer games."""
MAX_PAGE: Final = 200
MAX_SEARCHED: Final = 16
"""Most positions of a game in one request where each is searched."""
_FILES: Final = {"self-play": GAMES_FILE, "human": HUMAN_GAMES_FILE}
"""Kind of game -> file in the run's directory."""


class ListQuery(Fields):
    """Games that a page lists."""

    kind: Literal["self-play", "human"] = "self-play"
    offset: Annotated[int, Field(ge=0)] = 0
    limit: Annotated[int, Field(ge=1, le=MAX_PAGE)] = 50
    result: str | None = None
    reason: str | None = None
    opponent: str | None = None
    """Name of the opponent; `none`: games of the network against itself."""
    least: int | None = None
    most: int | None = None


class LiveQuery(Fields):
    """Boards of the newest games."""

    count: Annotated[int, Field(ge=1, le=16)] = 4


class FindingsBody(Fields):
    """Positions of a game that a network is asked about."""

    checkpoint: str
    simulations: Annotated[int, Field(ge=0, le=MAX_SIMULATIONS)] = 0
    first_ply: Annotated[int, Field(ge=0)] = 0
    count: Annotated[int, Field(ge=1)] = 1 << 20


class SelfPlayBody(Fields):
    """A game that one version is to play against itself."""

    checkpoint: str
    start_sfen: Annotated[str, Field(max_length=200)] = STANDARD_SFEN
    moves: Annotated[tuple[str, ...], Field(max_length=MAX_PLIES)] = ()
    """Opening from there."""
    simulations: Annotated[int, Field(ge=0, le=200)] = 0
    temperature: Annotated[float, Field(ge=0, le=MAX_TEMPERATURE)] = 0.0


def add_routes(app: web.Application) -> None:
    """Adds the addresses of this module."""
    app[INDEXES] = {}
    app.router.add_get("/api/runs/{run}/opponents", _opponents)
    app.router.add_get("/api/runs/{run}/games", _list)
    app.router.add_get("/api/runs/{run}/games/newest", _newest)
    app.router.add_get("/api/runs/{run}/games/{kind}/{number:[0-9]{1,9}}", _game)
    app.router.add_post("/api/runs/{run}/games/{kind}/{number:[0-9]{1,9}}/findings", _findings)
    app.router.add_post("/api/runs/{run}/self-play", _self_play)


async def _opponents(request: web.Request) -> web.Response:
    """Returns the checkpoints of a run."""
    found = await read(request.app, partial(opponents, *run_place(request)))
    return json_answer({"opponents": found})


async def _list(request: web.Request) -> web.Response:
    """Returns a page of the list of games."""
    asked = query(request, ListQuery)
    index = _index(request, asked.kind)
    wanted = Filter(
        asked.result,
        asked.reason,
        "" if asked.opponent == "none" else asked.opponent,
        asked.least,
        asked.most,
    )

    def look() -> dict[str, Any]:
        is_complete = index.follow(READ_S)
        total, numbers = index.find(wanted, asked.offset, asked.limit)
        return {
            "complete": is_complete,
            "read": len(index),
            "damaged": index.damaged,
            "total": total,
            "games": [index.summary(number) for number in numbers],
            **index.choices(),
        }

    return json_answer(await read(request.app, look))


async def _newest(request: web.Request) -> web.StreamResponse:
    """Sends the numbers of the newest games, the newest first, whenever there are newer ones."""
    count = query(request, LiveQuery).count
    index = _index(request, "self-play")
    sent: list[int] = []

    def look() -> list[int] | None:
        is_complete = index.follow(READ_S)
        numbers = index.find(Filter(), 0, count)[1]
        if not is_complete or numbers == sent:
            return None
        sent[:] = numbers
        return numbers

    def look_soon() -> Awaitable[list[int] | None]:
        return read(request.app, look)

    return await send_events(request, look_soon, LOOK_S)


async def _game(request: web.Request) -> web.Response:
    """Returns a game with all its positions."""
    record = await while_connected(request, _record(request))
    return json_answer(await read(request.app, partial(_shown, record, _number(request))))


async def _findings(request: web.Request) -> web.Response:
    """Returns what a checkpoint thinks of positions of a game."""
    asked = await body(request, FindingsBody)
    record = await while_connected(request, _record(request))
    found = await read(request.app, partial(opponent, *run_place(request), asked.checkpoint))
    moves, start = _moves(record)
    thinking = request.app[THINKER].ask(
        kind="findings",
        checkpoint=found["path"],
        sfen=start,
        moves=moves,
        max_plies=NO_PLY_CAP,
        simulations=asked.simulations,
        first_ply=asked.first_ply,
        num_positions=min(asked.count, MAX_SEARCHED) if asked.simulations else asked.count,
    )
    return json_answer({"findings": await while_connected(request, thinking)})


async def _self_play(request: web.Request) -> web.Response:
    """Has a checkpoint play a game on against itself, and returns that as `_game` does."""
    asked, place = await body(request, SelfPlayBody), run_place(request)
    found = await read(request.app, partial(opponent, *place, asked.checkpoint))
    try:
        check_start(asked.start_sfen)
    except ValueError as error:
        raise PositionError(shortened(str(error), 400)) from error
    thinking = request.app[THINKER].ask(
        kind="game",
        checkpoint=found["path"],
        sfen=asked.start_sfen,
        moves=list(asked.moves),
        max_plies=MAX_PLIES,
        simulations=asked.simulations,
        temperature=asked.temperature,
    )
    played = await while_connected(request, thinking)
    record = {
        **played,
        "moves": " ".join(played["moves"]),
        "plies": len(played["moves"]),
        "opening_plies": len(asked.moves),
        "start_sfen": asked.start_sfen,
        "timestep": found["timestep"],
        "weights_version": found["weights_version"],
    }
    return json_answer(await read(request.app, partial(_shown, record, 0)))


def _index(request: web.Request, kind: str) -> GameIndex:
    """Returns the index of the games of a run."""
    if kind not in _FILES:
        raise web.HTTPNotFound(
            text=f"there are no {kind[:40]!r} games, expected self-play or human"
        )
    path = run_path(request) / _FILES[kind]
    indexes = request.app[INDEXES]
    if path not in indexes:
        indexes[path] = GameIndex(path)
    return indexes[path]


async def _record(request: web.Request) -> Record:
    """Reads the game that an address names, with as much of a long file as is before it.

    Raises:
        RunDirError: there is no such game, or the file cannot be read.
    """
    index, number = _index(request, request.match_info["kind"]), _number(request)

    def look() -> Record | None:
        is_complete = index.follow(READ_S)
        return index.record(number) if is_complete or number < len(index) else None

    while True:  # Other requests are answered between two looks; it ends with the file.
        record = await read(request.app, look)
        if record is not None:
            return record


def _number(request: web.Request) -> int:
    return int(request.match_info["number"])


def _moves(record: Record) -> tuple[list[str], str]:
    """Returns the moves of a game and the position before them.

    Raises:
        RunDirError: the record does not have them.
    """
    moves, start = record.get("moves"), record.get("start_sfen") or STANDARD_SFEN
    if not isinstance(moves, str) or not isinstance(start, str):
        raise RunDirError("the record of this game is damaged: its moves are no text.")
    if record["plies"] and not moves:
        raise RunDirError(
            "the moves of this game were not saved: they are when tracking.save_moves is true."
        )
    return moves.split(), start


def _shown(record: Record, number: int) -> dict[str, Any]:
    """Returns a game as the page shows it.

    Raises:
        RunDirError: the record is damaged.
    """
    moves, start = _moves(record)
    try:
        played = replay(moves, start)
    except ValueError as error:
        raise RunDirError(f"the record of this game is damaged: {error}") from error
    return {
        **replay_data(played, title(record), _number_in(record, "opening_plies") or 0),
        "number": number,
        "timestep": _number_in(record, "timestep"),
        "weights_version": _number_in(record, "weights_version"),
        "opponent": str(record.get("opponent") or ""),
        "learner_color": _color_in(record, "learner_color"),
        "human_color": _color_in(record, "human_color"),
        "mates": mates_in_one(played.sfens),
        "kif": kif_of(record, moves, start),
        "usi": f"position sfen {start} moves {' '.join(moves)}",
    }


def _number_in(record: Record, name: str) -> int | None:
    value = record.get(name)
    return value if type(value) is int else None


def _color_in(record: Record, name: str) -> Color | None:
    return next((color for color in COLORS if record.get(name) == color), None)
