"""Readers of lines and texts of others for `tests/helpers/fuzz.py`: records, protocols, requests.

Each function makes a reader in an empty directory. Most are cheap, so a million inputs take
minutes.
"""

import contextlib
import json
import random
import struct
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final
from unittest import mock

from aiohttp import web
from multidict import MultiDict
from rsshogi import core

from keisei_ray.config import resolver
from keisei_ray.config.nearest import nearest_key
from keisei_ray.config.player_spec import EngineSpec
from keisei_ray.config.sections import PretrainConfig
from keisei_ray.errors import EngineTimeoutError, KeiseiError
from keisei_ray.evaluation.elo_table import fit_ratings
from keisei_ray.players.usi_engine import UsiEngine
from keisei_ray.records.files import find_pieces
from keisei_ray.records.left_out import Cause, Tally
from keisei_ray.records.positions import positions_of
from keisei_ray.records.reading import read_games
from keisei_ray.report.columns import GrowingColumns
from keisei_ray.report.games import GameTally, shown_games
from keisei_ray.report.run_files import DRAWN_DIAGNOSTICS
from keisei_ray.shogi.binary_records import to_hcpe, to_pack, to_psv
from keisei_ray.shogi.game_record import GameRecord, moves_from_usi
from keisei_ray.shogi.notation import SavedGame, to_csa, to_kif
from keisei_ray.status.records import event_from, metrics_from
from keisei_ray.storage.json_lines import JsonLinesReader
from keisei_ray.storage.run_lock import Owner
from keisei_ray.telemetry.events import UpdateFinished
from keisei_ray.telemetry.metrics import METRIC_NAMES
from keisei_ray.tracking.evaluation_records import (
    ratings_by_version,
    read_ratings,
    read_records,
    results_of,
)
from keisei_ray.tracking.terminal.view_state import ViewState, fold
from keisei_ray.tune.sweep_file import Sweep
from keisei_ray.usi.engine import Engine
from keisei_ray.usi.options import TABLE, Options
from keisei_ray.web.game_index import Filter, GameIndex
from keisei_ray.web.games_api import FindingsBody, ListQuery, SelfPlayBody, _shown
from keisei_ray.web.human_game import HumanGame
from keisei_ray.web.play_api import Move, NewGame, Question, _start
from keisei_ray.web.requests import Fields, body, query
from tests.helpers.mutations import TEXTS, json_bytes, mutated, mutated_bytes, mutated_json
from tests.helpers.report_runs import evaluation, rating
from tests.helpers.run_events import record
from tests.helpers.status_runs import event_at
from tests.helpers.sweeps import sweep_of

Read = Callable[[random.Random], object]
"""Makes an input with a random stream and reads it; one that makes several returns a list of what
became of each."""
MAX_MESSAGE: Final = 3000
"""Characters that an error's message may have."""
_NEAREST: Final[dict[str, str]] = {}
"""Unknown key -> known key most like it."""


class RefusedError(KeiseiError):
    """An input that a reader has refused by a message instead of an error."""


def outcomes_of(read: Read, rng: random.Random) -> list[str]:
    """Returns what became of the inputs that a reader was given: errors' names, or "accepted".

    Raises:
        Exception: the reader raised something else than a named error of bounded length.
    """
    try:
        found = read(rng)
    except KeiseiError as error:
        found, length = [type(error).__name__], len(str(error))
        if length > MAX_MESSAGE:
            raise AssertionError(f"{found[0]} of {length} characters") from error
    return found if isinstance(found, list) else ["accepted"]


@contextlib.contextmanager
def remembered_nearest() -> Iterator[None]:
    """Keeps the known names that are most like unknown ones: to find one takes 10 ms."""

    def nearest(given: str, keys: Iterable[str]) -> str:
        if given not in _NEAREST:
            _NEAREST[given] = nearest_key(given, keys)
        return _NEAREST[given]

    with mock.patch.object(resolver, "nearest_key", nearest):
        yield


# ---- lines of a run's files ----

GAME: Final = {
    "timestep": 512, "game_id": "0-0-3", "actor_id": 0, "incarnation": 0, "index": 3,
    "weights_version": 1, "result": "black_win", "reason": "mate", "plies": 5, "opening_plies": 2,
    "moves": "7g7f 3c3d 8h2b+ 3a2b B*4e", "start_sfen": "", "opponent": "v3",
    "learner_color": "black",
}  # fmt: skip
EVENTS: Final = (
    event_at(0, "run_started", run_dir="x", resumed_from=None, cluster={"num_cpus": 2})
    | {"timestep": 0},
    event_at(1, "actor_ready", actor_id=0, incarnation=0, pid=1, node="n"),
    event_at(2, "actor_lost", actor_id=0, incarnation=0, cause="x", restarts_left=1),
    event_at(3, "notice", message="careful", level="WARNING"),
    event_at(4, "rollout_rejected", actor_id=0, cause="x"),
    event_at(4, "update_undone", update=3, cause="x", learning_rate=1e-3, is_rate_halved=False),
    event_at(4, "checkpoint_saved", path="x", timestep=1000),
    event_at(5, "cluster_changed", num_nodes=1, num_cpus=2, num_gpus=0, num_actors=2)
    | {"num_with_room": 1, "rollouts_per_update": 2},
    event_at(9, "run_ended", reason="failed", timestep=4000, checkpoint=None, wall_time_s=9.0)
    | {"cause": "X: y", "run_dir": "x"},
)


def _written_line(file: Path, sound: Mapping[str, Any], rng: random.Random) -> JsonLinesReader:
    """Writes a file of one mutated record and returns its reader."""
    line = json_bytes(mutated(dict(sound), rng))
    file.write_bytes((mutated_bytes(line, rng) if rng.random() < 0.1 else line) + b"\n")
    return JsonLinesReader(file)


def must_be(found: object, what: str) -> None:
    """Raises RefusedError if nothing was found."""
    if not found:
        raise RefusedError(f"the line is no {what}: it is left out")


def event_lines(folder: Path) -> Read:
    """Lines of `events.jsonl`, into the state that the view and `status` draw."""

    def read(rng: random.Random) -> None:
        for found in _written_line(folder / "events.jsonl", rng.choice(EVENTS), rng):
            event = event_from(found, **({"config": None} if "run_dir" in found else {}))
            must_be(event, "event")
            assert event is not None
            fold(ViewState(), event, 1.0)
            return
        raise RefusedError("the line is no record")

    return read


def metric_lines(folder: Path) -> Read:
    """Lines of `metrics.jsonl`, into the view's state and the report's columns."""

    def read(rng: random.Random) -> None:
        reader = _written_line(folder / "metrics.jsonl", record(3), rng)
        GrowingColumns(JsonLinesReader(reader.path), METRIC_NAMES).read()
        for found in reader:
            metrics = metrics_from(found)
            must_be(metrics, "update")
            assert metrics is not None
            fold(ViewState(), UpdateFinished(metrics), 1.0)
            return
        raise RefusedError("the line is no record")

    return read


def diagnostic_lines(folder: Path) -> Read:
    """Lines of `diagnostics.jsonl`, as the report draws them."""
    sound = {"timestep": 1000, "distinct_positions": 0.9, "pool_score": 0.5}

    def read(rng: random.Random) -> None:
        reader = _written_line(folder / "diagnostics.jsonl", sound, rng)
        GrowingColumns(reader, DRAWN_DIAGNOSTICS).read()
        must_be(not reader.damaged, "update")

    return read


def game_lines(folder: Path) -> Read:
    """Lines of `games.jsonl`, as the report and the pages show them."""

    def read(rng: random.Random) -> None:
        reader = _written_line(folder / "games.jsonl", GAME, rng)
        shown_games(GameTally.of(JsonLinesReader(reader.path)))
        index = GameIndex(reader.path)
        index.follow(60.0)
        index.choices()
        _, numbers = index.find(Filter(result="black_win", least_plies=2), 0, 10)
        for number in numbers:
            index.summary(number)
            _shown(index.record(number), number)
        must_be(len(index), "game")

    return read


def evaluation_lines(folder: Path) -> Read:
    """Lines of `evaluations.jsonl`, into the Elo table."""
    sound = [evaluation(2000, name, 0.5) for name in ("random", "v1")]
    file = folder / "evaluations.jsonl"

    def read(rng: random.Random) -> None:
        lines = [json_bytes(r if rng.random() < 0.5 else mutated(r, rng)) for r in sound]
        content = b"".join(line + b"\n" for line in lines)
        file.write_bytes(mutated_bytes(content, rng) if rng.random() < 0.1 else content)
        records = read_records(file)
        if rng.random() < 0.1:  # It takes ten times as long as the reading.
            fit_ratings(results_of(records))
        must_be(len(records) == len(sound), "match")

    return read


def rating_tables(folder: Path) -> Read:
    """The Elo table `ratings.json`."""
    table = {"players": [rating("v2", 80.0, 2000), rating("random", 0.0, None)]}

    def read(rng: random.Random) -> None:
        (folder / "ratings.json").write_bytes(mutated_json(table, rng))
        ratings_by_version(folder)
        must_be(read_ratings(folder / "ratings.json") is not None, "table")

    return read


def heartbeats(folder: Path) -> Read:
    """The lock file of a run, which says who writes there."""
    del folder
    sound = vars(Owner("host", "boot", 17, "ab" * 16, 3))

    def read(rng: random.Random) -> None:
        owner = Owner.read(mutated_json(sound, rng))
        must_be(owner, "heartbeat")
        assert owner is not None
        assert len(str(owner).splitlines()) <= 1
        _ = owner.is_gone

    return read


def sweeps(folder: Path) -> Read:
    """The saved sweep that `tune --resume` goes on with."""
    sound = json.loads(sweep_of(folder).to_json())

    def read(rng: random.Random) -> None:
        text = mutated_json(sound, rng).decode(errors="replace")
        with remembered_nearest():
            Sweep.from_json(text, "sweep.json")

    return read


# ---- conversations ----

SFEN: Final = "lnsgkgsnl/1r5b1/ppppppppp/9/9/9/PPPPPPPPP/1B5R1/LNSGKGSNL b - 1"
_PROTOCOL: Final = """
    usi isready usinewgame stop ponderhit gameover quit go position sfen startpos moves setoption
    name value infinite ponder btime wtime byoyomi binc winc movetime nodes mate 7g7f 3c3d P*5e
    8h2b+ 0000 resign win info score cp bestmove usiok readyok option type spin check combo string
    min max var -1 +5 --5 1.5 0x10 1_0
    """
WORDS: Final = (
    *TEXTS, *_PROTOCOL.split(), *SFEN.split(),
    "\u0663", "\u00b2", "9" * 400, "9" * 5000, "9/" * 3000,
)  # fmt: skip
"""Words that mean something in one of the protocols, and some that mean nothing."""


def mutated_text(text: str, rng: random.Random) -> str:
    """Returns a text with one to three words or characters changed, doubled or left out."""
    for _ in range(rng.randint(1, 3)):
        words = text.split(" ")
        at = rng.randrange(len(words))
        match rng.randrange(5):
            case 0:
                words[at] = rng.choice(WORDS)
            case 1:
                words.insert(at, rng.choice(WORDS))
            case 2:
                del words[at]
            case 3:
                words[at:at] = words[at : at + rng.choice((1, 2, 100))]
            case _:
                place = rng.randrange(len(words[at]) + 1)
                new = rng.choice((rng.choice(WORDS), chr(rng.randrange(0x3000)), "9", "+", "*"))
                words[at] = words[at][:place] + new + words[at][place + rng.randrange(2) :]
        text = " ".join(words)
    return text


def usi_lines(folder: Path) -> Read:
    """Lines of a client to the USI engine."""
    del folder
    sound = (
        *(f"setoption name {o.name} value 32" for o in TABLE),
        f"position sfen {SFEN} moves 7g7f 3c3d",
        "position startpos moves 7g7f 3c3d 8h2b+",
        "go btime 60000 wtime 50000 byoyomi 1000 binc 0 winc 0",
        "go ponder btime 100 wtime 100",
        "go infinite",
        "go mate 1000",
        *("usi", "isready", "usinewgame", "stop", "ponderhit", "gameover win", "quit"),
    )

    def read(rng: random.Random) -> None:
        complaints: list[str] = []
        sent: list[str] = []
        engine = Engine(
            Options(), send=sent.append, complain=complaints.append, give=lambda job: None
        )
        for _ in range(rng.randint(1, 3)):
            line = rng.choice(sound)
            engine.take_line(line if rng.random() < 0.3 else mutated_text(line, rng))
        engine.end()
        assert all("\n" not in line for line in sent)
        if complaints:
            raise RefusedError("; ".join(complaints))

    return read


class Answers:
    """A stand-in for the process of an engine that has already said everything."""

    def __init__(self, lines: list[str]) -> None:
        self.lines = lines

    def forget_lines(self) -> None:
        """Keeps them: they are the answer to what comes."""

    def send(self, line: str, *, timeout_s: float) -> None:
        """Takes a line."""

    def read_line(self, *, deadline: float, awaited: str) -> str:
        """Returns the next line."""
        if not self.lines:
            raise EngineTimeoutError(f"gave no {awaited} in time")
        return self.lines.pop(0)


def engine_answers(folder: Path) -> Read:
    """Answers of an engine that another program is."""
    del folder
    spec = EngineSpec.parse("usi:engine?Threads=2&Style=calm&nodes=10")
    sound = (
        "id name Engine 1.0", "option name Threads type spin default 1 min 1 max 8",
        "option name Style type combo default calm var calm var wild", "usiok", "readyok",
        "info depth 3 score cp 31 nodes 100 pv 7g7f 3c3d", "info score mate -5 pv 7g7f",
        "bestmove 7g7f ponder 3c3d",
    )  # fmt: skip

    def read(rng: random.Random) -> None:
        lines = [line if rng.random() < 0.7 else mutated_text(line, rng) for line in sound]
        engine: Any = object.__new__(UsiEngine)
        engine._spec, engine.name, engine.evaluation = spec, "", None
        engine._process = Answers(lines)
        engine.prepare()
        engine.best_move("position startpos")
        assert engine.evaluation is None or abs(engine.evaluation) <= 30_000

    return read


# ---- requests of a browser ----

BODIES: Final[tuple[tuple[type[Fields], dict[str, Any]], ...]] = (
    (NewGame, {"checkpoint": "step-000000000064", "human": "white", "sfen": SFEN, "main_s": 60.0}),
    (NewGame, {"checkpoint": "latest", "sfen": "position startpos moves 7g7f 3c3d 8h2b+"}),
    (Move, {"ply": 0, "move": "7g7f"}),
    (Question, {"ply": 1, "simulations": 10, "is_hint": True}),
    (FindingsBody, {"checkpoint": "latest", "simulations": 3, "first_ply": 0, "count": 4}),
    (SelfPlayBody, {"checkpoint": "latest", "start_sfen": SFEN, "moves": ["7g7f", "3c3d"]}),
)
QUERY: Final = {"kind": "human", "offset": "0", "limit": "5", "result": "draw", "least": "3"}


def _result(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Returns what a coroutine that never waits returns."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        return done.value
    raise AssertionError("it waits")


def requests(folder: Path) -> Read:
    """Bodies and queries of requests, and the moves and positions in them."""
    del folder

    def read(rng: random.Random) -> None:
        try:
            _read_request(rng)
        except web.HTTPException as error:
            text = error.text or ""
            assert len(text.splitlines()) == 1, text
            raise RefusedError(text) from error

    return read


def _read_request(rng: random.Random) -> None:
    if rng.random() < 0.15:
        name = rng.choice(list(QUERY))
        given = MultiDict(QUERY | {name: mutated_text(QUERY[name], rng)})
        query(SimpleNamespace(query=given), ListQuery)  # type: ignore[arg-type]
        return
    fields, sound = rng.choice(BODIES)
    changed = dict(sound)
    for name, value in sound.items():
        if isinstance(value, str) and rng.random() < 0.4:
            changed[name] = mutated_text(value, rng)
    content = mutated_json(changed, rng) if rng.random() < 0.5 else json_bytes(changed)

    async def given_body() -> bytes:
        return content

    asked = _result(body(SimpleNamespace(read=given_body), fields))  # type: ignore[arg-type]
    if isinstance(asked, Move):
        game = HumanGame("black")
        game.play(asked.move, asked.ply)
        game.state()
    elif isinstance(asked, NewGame):
        HumanGame("black", _start(asked.sfen), max_plies=asked.max_plies).state()


# ---- records of games ----

MOVES: Final = "7g7f 3c3d 8h2b+ 3a2b B*4e 5a6b 4e3d 4c4d 3d5b+ 6b5b 3i3h 8c8d"


def _hcpe3(game: GameRecord) -> bytes:
    """Returns a game with two candidates for each move."""
    board = core.Board(game.start_sfen)
    content = struct.pack("<32sHBB", board.to_hcp(), len(game.moves), 2, 0)
    for value in game.moves:
        played = core.Move(value).to_apery().value
        other = board.legal_moves()[0].to_apery().value
        content += struct.pack("<HhHHHHH", played, 30, 2, played, 20, other, 5)
        board.apply_move(core.Move(value))
    return content


@dataclass
class Places(Tally):
    """A tally that remembers where all was that is left out."""

    places: set[str] = field(default_factory=set)

    def leave_out(self, cause: Cause, example: str = "", count: int = 1) -> None:
        """Counts something that is left out."""
        super().leave_out(cause, example, count)
        self.places.add(example.partition(": ")[0])


def game_records(folder: Path) -> Read:
    """Games in every format that the records of other programs are read in, many files at once."""
    saved = SavedGame("white_win", "resign", 12, MOVES, "")
    game = GameRecord(
        SFEN, moves_from_usi(MOVES.split()), "white_win", tuple(range(-600, 600, 100))
    )
    jsonl = {"moves": MOVES, "result": "white_win", "start_sfen": SFEN, "evals": [1, None, -3]}
    texts = {
        "kif": to_kif(saved),
        "csa": to_csa(saved),
        "ki2": "手合割：平手\n▲７六歩 △３四歩 ▲２二角成 △同銀 ▲４五角\nまで5手で先手の勝ち\n",
        "usi": f"startpos moves {MOVES}\nsfen {SFEN} moves 7g7f\n",
    }
    binary = {
        "hcpe": to_hcpe(game),
        "hcpe3": _hcpe3(game) * 2,
        "psv": to_psv(game),
        "pack": to_pack(game) * 2,
    }
    config = PretrainConfig()

    def content(kind: str, rng: random.Random) -> bytes:
        if kind == "jsonl":
            changed = jsonl | {"start_sfen": mutated_text(SFEN, rng)}
            sound = changed if rng.random() < 0.3 else jsonl
            return json_bytes(mutated(sound, rng)) + b"\n"
        if kind in binary:
            return mutated_bytes(binary[kind], rng)
        lines = texts[kind].split("\n")
        at = rng.randrange(len(lines))
        lines[at] = mutated_text(lines[at], rng)
        text = "\n".join(lines).encode(errors="replace")
        return mutated_bytes(text, rng) if rng.random() < 0.2 else text

    def read(rng: random.Random) -> list[str]:
        files = []
        for number in range(32):
            kind = rng.choice((*texts, *binary, "jsonl"))
            files.append(str(folder / f"{number:02}.{kind}"))
            Path(files[-1]).write_bytes(content(kind, rng))
        tally = Places()
        games = []
        for piece in find_pieces(files, tally):
            for found in read_games(piece):
                if isinstance(found, GameRecord):
                    games.append(found)
                else:
                    tally.leave_out(*found)
        for rows in positions_of(games, config, tally):
            assert len(rows)
        used = [game.place for game in games if game.place not in tally.places]
        return [
            "accepted" if any(place.startswith(file) for place in used) else "GamesLeftOut"
            for file in files
        ]

    return read


READERS: Final[Mapping[str, Callable[[Path], Read]]] = {
    "events.jsonl": event_lines,
    "metrics.jsonl": metric_lines,
    "diagnostics.jsonl": diagnostic_lines,
    "games.jsonl": game_lines,
    "evaluations.jsonl": evaluation_lines,
    "ratings.json": rating_tables,
    ".lock": heartbeats,
    "sweep.json": sweeps,
    "USI client": usi_lines,
    "USI engine": engine_answers,
    "web requests": requests,
    "game records": game_records,
}
"""Name -> what makes a reader in an empty directory."""
