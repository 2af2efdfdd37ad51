"""Answers about games against a run's network: begin one, move, take back, ask, resign."""

import random
from functools import partial
from typing import Annotated, Any, Final, Literal

from aiohttp import web
from pydantic import Field

from keisei_ray.errors import PositionError, RunDirError
from keisei_ray.shogi.game import STANDARD_SFEN
from keisei_ray.shogi.handicaps import HANDICAPS
from keisei_ray.shogi.replay import replay
from keisei_ray.telemetry.visible_text import shortened
from keisei_ray.web.answers import json_answer
from keisei_ray.web.human_game import COLORS, MAX_PLIES, HumanGame, StalePositionError
from keisei_ray.web.human_records import opening_book, save_human_game
from keisei_ray.web.keys import read, run_path, run_place
from keisei_ray.web.opponents import MAX_SIMULATIONS, MAX_TEMPERATURE, STRENGTHS, opponent
from keisei_ray.web.play_sessions import Clock, Session, Sessions
from keisei_ray.web.requests import Fields, body, query, while_connected
from keisei_ray.web.thinker import THINKER, Thinker

MAX_CLOCK_S: Final = 86_400.0
"""Longest time on a clock."""
SESSIONS = web.AppKey("SESSIONS", Sessions)


class NewGame(Fields):
    """A game to begin."""

    checkpoint: str
    human: Literal["black", "white", "random"] = "black"
    sfen: Annotated[str, Field(max_length=4000)] = STANDARD_SFEN
    """Position to begin with, see `_start`."""
    simulations: Annotated[int, Field(ge=0, le=MAX_SIMULATIONS)] = 0
    temperature: Annotated[float, Field(ge=0, le=MAX_TEMPERATURE)] = 0.0
    max_plies: Annotated[int, Field(ge=1, le=2000)] = MAX_PLIES
    main_s: Annotated[float, Field(ge=0, le=MAX_CLOCK_S)] = 0.0
    """Seconds that the person has for all moves."""
    move_s: Annotated[float, Field(ge=0, le=MAX_CLOCK_S)] = 0.0
    """Seconds for each move after that; without either there is no clock."""


class AtPly(Fields):
    """A change of a game at a position."""

    ply: Annotated[int, Field(ge=0)]
    """Moves that had been played when it was asked for."""


class Move(AtPly):
    """A move of the person."""

    move: Annotated[str, Field(max_length=10)]


class Question(AtPly):
    """A question what the network thinks of the position."""

    simulations: Annotated[int, Field(ge=0, le=MAX_SIMULATIONS)] = 0
    is_hint: bool = False
    """Whether the person asks for moves, and not only for the bar."""


class BookQuery(Fields):
    """An opening book of games that were played."""

    plies: Annotated[int, Field(ge=1, le=200)] = 20


def add_routes(app: web.Application) -> None:
    """Adds the addresses of this module."""
    app[SESSIONS] = sessions = Sessions()
    app[THINKER] = Thinker(is_needed=lambda: sessions.has_game_going_on)
    app.on_cleanup.append(_close)
    router = app.router
    router.add_get("/api/play/choices", _choices)
    router.add_post("/api/runs/{run}/play", _begin)
    router.add_get("/api/runs/{run}/opening-book", _book)
    router.add_get("/api/play/{game}", _state)
    router.add_post("/api/play/{game}/move", _move)
    router.add_post("/api/play/{game}/reply", _reply)
    router.add_post("/api/play/{game}/take-back", _take_back)
    router.add_post("/api/play/{game}/resign", _resign)
    router.add_post("/api/play/{game}/findings", _findings)
    router.add_get("/api/play/{game}/records", _records)


async def _close(app: web.Application) -> None:
    await app[THINKER].close()


async def _choices(request: web.Request) -> web.Response:
    """Returns what a game can begin with."""
    del request
    return json_answer(
        {
            "strengths": [strength._asdict() for strength in STRENGTHS],
            "handicaps": [handicap._asdict() for handicap in HANDICAPS],
            "max_simulations": MAX_SIMULATIONS,
            "max_temperature": MAX_TEMPERATURE,
        }
    )


async def _begin(request: web.Request) -> web.Response:
    """Begins a game and returns its state.

    The network is loaded before, since a run that goes on removes its checkpoints: one that is
    gone is refused here, and one that is in memory plays on.
    """
    asked = await body(request, NewGame)
    run_dir, uri = run_place(request)
    found = await read(request.app, partial(opponent, run_dir, uri, asked.checkpoint))
    human = random.choice(COLORS) if asked.human == "random" else asked.human
    game = HumanGame(human, _start(asked.sfen), max_plies=asked.max_plies)
    loading = request.app[THINKER].ask(
        kind="load",
        checkpoint=found["path"],
        sfen=game.start_sfen,
        moves=[],
        max_plies=game.max_plies,
        simulations=0,
    )
    await while_connected(request, loading)
    session = request.app[SESSIONS].open(
        run=request.match_info["run"],
        run_dir=run_dir,
        uri=uri,
        opponent=found,
        game=game,
        simulations=asked.simulations,
        temperature=asked.temperature,
        clock=Clock(asked.main_s, asked.move_s) if asked.main_s or asked.move_s else None,
    )
    return json_answer(session.state())


async def _state(request: web.Request) -> web.Response:
    """Returns the state of a game."""
    session = _session(request)
    await _end_if_too_late(request.app, session)
    return json_answer(session.state())


async def _move(request: web.Request) -> web.Response:
    """Plays the person's move and returns the state."""
    asked, session = await body(request, Move), _session(request)
    with session.changing() as game:
        _check_ply(game, asked.ply)
        if not game.is_humans_turn:
            raise web.HTTPConflict(text="it is the network's turn: wait for its move")
        if not await _end_if_too_late(request.app, session):
            game.play(asked.move, asked.ply)
            session.note_move(game.human)
            await _save_if_over(request.app, session)
    return json_answer(session.state())


async def _reply(request: web.Request) -> web.Response:
    """Has the network move and returns the state; nothing changes if the browser goes away."""
    asked, session = await body(request, AtPly), _session(request)
    with session.changing() as game:
        _check_ply(game, asked.ply)
        if not game.is_networks_turn:
            raise web.HTTPConflict(text="it is your turn, not the network's")
        color = game.turn
        thinking = _ask(request.app[THINKER], session, "move", session.simulations)
        game.play(await while_connected(request, thinking), asked.ply)
        session.note_move(color)
        await _save_if_over(request.app, session)
    return json_answer(session.state())


async def _take_back(request: web.Request) -> web.Response:
    """Takes the person's last move back and returns the state."""
    asked, session = await body(request, AtPly), _session(request)
    with session.changing() as game:
        _check_ply(game, asked.ply)
        game.take_back(asked.ply)
    return json_answer(session.state())


async def _resign(request: web.Request) -> web.Response:
    """Ends the game as the person's loss and returns the state."""
    asked, session = await body(request, AtPly), _session(request)
    with session.changing() as game:
        _check_ply(game, asked.ply)
        game.resign(asked.ply)
        session.note_move(game.human)
        await _save_if_over(request.app, session)
    return json_answer(session.state())


async def _findings(request: web.Request) -> web.Response:
    """Returns what the network thinks of the position."""
    asked, session = await body(request, Question), _session(request)
    _check_ply(session.game, asked.ply)
    if asked.is_hint:
        session.hints += 1
    thinking = _ask(request.app[THINKER], session, "findings", asked.simulations)
    (found,) = await while_connected(request, thinking)
    return json_answer(found)


async def _records(request: web.Request) -> web.Response:
    """Returns a game as text: KIF and USI, and CSA where it is over."""
    session = _session(request)
    game, heading = session.game, session.heading()
    return json_answer(
        {
            "kif": game.kif(heading),
            "csa": None if game.end is None else game.csa(heading),
            "usi": f"position sfen {game.start_sfen} moves {' '.join(game.moves)}",
        }
    )


async def _book(request: web.Request) -> web.Response:
    """Returns the beginnings of the games against a run as an opening book."""
    asked, run_dir = query(request, BookQuery), run_path(request)
    text = await read(request.app, partial(opening_book, run_dir, asked.plies))
    if not text:
        raise web.HTTPNotFound(text="no game against this run is finished, so there is no opening")
    name = "human-openings.txt"
    return web.Response(
        text=text, headers={"Content-Disposition": f'attachment; filename="{name}"'}
    )


def _session(request: web.Request) -> Session:
    return request.app[SESSIONS].get(request.match_info["game"])


def _check_ply(game: HumanGame, ply: int) -> None:
    """Refuses a change that was meant for another position.

    Raises:
        HTTPConflict: it was.
        PositionError: the game is over.
    """
    try:
        game.check_going_on(ply)
    except StalePositionError as error:
        raise web.HTTPConflict(text=str(error)) from error


def _start(text: str) -> str:
    """Returns the SFEN of a position: given so, or as USI writes one, with the moves to it.

    Raises:
        PositionError: not a position.
    """
    words = text.removeprefix("position ").removeprefix("sfen ").split()
    at = words.index("moves") if "moves" in words else len(words)
    start, moves = words[:at], words[at + 1 :]
    if start == ["startpos"]:
        start = STANDARD_SFEN.split()
    if len(start) not in (3, 4):
        raise PositionError(
            f"start position {shortened(text)!r} is not an SFEN, expected board, side to move, "
            "pieces in hand and move number."
        )
    sfen = " ".join(start if len(start) == 4 else [*start, "1"])
    try:
        return replay(moves, sfen).sfens[-1] if moves else sfen
    except ValueError as error:
        raise PositionError(shortened(str(error), 400)) from error


async def _ask(thinker: Thinker, session: Session, kind: str, simulations: int) -> Any:
    """Asks the network about the present position of a game."""
    game = session.game
    return await thinker.ask(
        kind=kind,
        checkpoint=session.opponent["path"],
        sfen=game.start_sfen,
        moves=list(game.moves),
        max_plies=game.max_plies,
        simulations=simulations,
        temperature=session.temperature,
        first_ply=game.ply,
    )


async def _end_if_too_late(app: web.Application, session: Session) -> bool:
    """Ends a game that the person has lost on time; returns whether that is so."""
    if not session.is_out_of_time:
        return False
    session.game.lose_on_time(session.game.ply)
    session.note_move(session.game.human)
    await _save_if_over(app, session)
    return True


async def _save_if_over(app: web.Application, session: Session) -> None:
    """Saves a game that has just ended in the directory of its run, unless that is a copy."""
    if session.game.end is None:
        return
    if session.uri is not None:
        session.save_error = f"Not saved: nothing is written at {session.uri}. Copy the game here."
        return
    game, heading, facts = session.game.recorded(), session.heading(), session.facts()
    try:
        session.saved_as = await read(
            app, partial(save_human_game, session.run_dir, game, heading, facts)
        )
    except RunDirError as error:
        session.save_error = str(error)
