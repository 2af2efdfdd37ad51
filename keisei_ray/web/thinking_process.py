"""The process in which networks think for the pages: jobs and answers are lines of JSON.

It has the lowest priority and one thread for its networks, so a run on the same machine comes
first. It ends when its input ends, in the middle of a search too: nothing is left of it when the
server is gone, however that ended.

    {"number": 7, "kind": "move", "checkpoint": "...", ...}    see `Job`
    {"cancel": 7}                                              ends job 7 if it is under way

Each job is answered by one line with its number and either `result`, `error` (one line for the
user), `failure` (a fault of this program) or `cancelled`.
"""

import json
import os
import random
import signal
import sys
import threading
from array import array
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from queue import SimpleQueue
from typing import Any, BinaryIO, Final, Literal, NamedTuple

import numpy as np

from keisei_ray.analysis.as_json import position_json
from keisei_ray.analysis.findings import Position, find, positions_of
from keisei_ray.config.player_spec import SearchSpec
from keisei_ray.errors import PositionError, UserError
from keisei_ray.network.cpu_process import prepare_cpu
from keisei_ray.network.model import PolicyValueNet
from keisei_ray.players.policies import Choose, network_policy
from keisei_ray.players.saved_model import load_model, open_checkpoint
from keisei_ray.players.searching import (
    SearchingPolicy,
    choose_root_move,
    network_evaluation,
    search_settings,
)
from keisei_ray.search.search import Search
from keisei_ray.shogi.game import Game, usi_text
from keisei_ray.shogi.replay import replay
from keisei_ray.shogi.vector_games import VectorGames
from keisei_ray.storage.run_layout import MANIFEST_FILE

LOWEST_PRIORITY: Final = 19
MAX_LOADED: Final = 4
"""Networks that are kept; of more the one used longest ago is dropped."""
SEARCH_BYTES: Final = 256 << 20
"""Memory for the tree of a search."""


class Job(NamedTuple):
    """Question about a game."""

    number: int
    """Number of the job; each is larger than those before."""
    kind: Literal["load", "move", "findings", "game"]
    """`load`: load the network and no more. `move`: choose a move in the last position. `findings`:
    what the network thinks of some. `game`: play on from the last position to the end, both sides.
    """
    checkpoint: str
    """Path or URI of the checkpoint."""
    sfen: str
    """Position before the first move."""
    moves: list[str]
    """Moves from there, in USI notation."""
    max_plies: int
    """Plies after which the game is stopped."""
    simulations: int
    """How far to search from each position; 0: the network alone."""
    temperature: float = 0.0
    """Temperature of the choice of a move, see `players/`."""
    first_ply: int = 0
    """Moves played before the first position that findings are wanted about."""
    num_positions: int = 1
    """Positions that findings are wanted about."""


class CancelledError(Exception):
    """A job that is no longer wanted."""


class _Loaded(NamedTuple):
    """A network in memory."""

    identity: tuple[int, int] | None
    """Identity of its checkpoint when it was loaded, see `_identity`."""
    model: PolicyValueNet


class Networks:
    """Networks by the checkpoint they came from, loaded when they are first needed.

    Another checkpoint in the place of one, as after a resume, is loaded anew. A network whose
    checkpoint has been removed since stays in use.
    """

    def __init__(self, load: Callable[[str], PolicyValueNet]) -> None:
        """Args:
        load: loads the network of a checkpoint.
        """
        self._load = load
        self._loaded: dict[str, _Loaded] = {}

    def get(self, checkpoint: str) -> PolicyValueNet:
        """Returns a network; raises as `load` does."""
        identity = _identity(checkpoint)
        loaded = self._loaded.pop(checkpoint, None)
        if loaded is None or identity not in (None, loaded.identity):
            loaded = _Loaded(identity, self._load(checkpoint))
        while len(self._loaded) >= MAX_LOADED:
            del self._loaded[next(iter(self._loaded))]
        self._loaded[checkpoint] = loaded
        return loaded.model


def _identity(checkpoint: str) -> tuple[int, int] | None:
    """Returns what tells a checkpoint from another at its path; None: it is gone, or at a URI."""
    try:
        found = os.stat(Path(checkpoint) / MANIFEST_FILE)
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


def load_network(checkpoint: str) -> PolicyValueNet:
    """Loads the network of a checkpoint.

    Raises:
        CheckpointError: missing or damaged.
        StorageError: the URI cannot be reached or read.
    """
    return load_model(open_checkpoint(checkpoint)[1])


def result_of_job(job: Job, model: PolicyValueNet, is_cancelled: Callable[[], bool]) -> Any:
    """Does a job.

    Args:
        job: the question.
        model: the network of its checkpoint.
        is_cancelled: asked before every step of a search.

    Returns:
        None for `load`; a move in USI notation; a list of findings, those of `analyze --json` with
        each line of moves as `western` and `japanese` too; or a game with its `moves`, `result` and
        `reason`.

    Raises:
        PositionError: a move that is not legal, or a game that is over.
        CancelledError: the job is no longer wanted.
    """
    if job.kind == "load":
        return None
    if job.kind == "findings":
        return _findings(job, model, is_cancelled)
    *_, last = _positions(job)
    if last.verdict is not None:
        raise PositionError(f"the game is over: {last.verdict.reason}.")
    game = last.game
    if job.kind == "game":
        return _played_out(job, game, model, is_cancelled)
    legal = array("H", game.legal)
    if job.simulations:
        index = _searched(job, game, model, is_cancelled)
    else:
        games = VectorGames(1, max_plies=job.max_plies, start_game=lambda index: game)
        choose = network_policy(model, job.temperature)
        index = int(choose(games, np.arange(1), np.array([random.random()]))[0])
    return usi_text(legal[index])


def _searched(job: Job, game: Game, model: PolicyValueNet, is_cancelled: Callable[[], bool]) -> int:
    """Index of the move that a search chooses among the legal ones."""
    settings = search_settings(1, SearchSpec(job.simulations, None))
    search = Search(network_evaluation(model), settings, SEARCH_BYTES)
    search.start([game])
    search.run([0], is_cancelled)
    if is_cancelled():
        raise CancelledError
    return choose_root_move(search.root_moves(0), job.temperature, random.random())


def _played_out(
    job: Job, game: Game, model: PolicyValueNet, is_cancelled: Callable[[], bool]
) -> dict[str, Any]:
    """Plays a game on to its end, both sides by the network."""

    def start_game(index: int) -> Game:
        # The one after the end is never played.
        return game if index == 0 else Game(job.sfen, max_plies=job.max_plies)

    games = VectorGames(1, max_plies=job.max_plies, start_game=start_game)
    if job.simulations:
        choose: Choose = SearchingPolicy(model, SearchSpec(job.simulations, None), job.temperature)
    else:
        choose = network_policy(model, job.temperature)
    while not is_cancelled():
        uniforms = np.array([random.random()])
        for end in games.step(choose(games, np.arange(1), uniforms)).finished:
            return {"moves": end.moves.split(), "result": end.result, "reason": end.reason}
    raise CancelledError


def _findings(
    job: Job, model: PolicyValueNet, is_cancelled: Callable[[], bool]
) -> list[dict[str, Any]]:
    def check(done: float) -> None:
        if is_cancelled():
            raise CancelledError

    wanted = list(islice(_positions(job), job.first_ply, job.first_ply + job.num_positions))
    found = find(wanted, network_evaluation(model), job.simulations, check)
    return [_with_notation(position_json(findings)) for findings in found]


def _with_notation(found: dict[str, Any]) -> dict[str, Any]:
    """Adds the lines of a finding in the notations that people read."""
    for move in found["moves"]:
        line = replay(move["line"], found["sfen"])
        move["western"], move["japanese"] = line.western, line.japanese
    return found


def _positions(job: Job) -> "list[Position]":
    try:
        return list(positions_of(Game(job.sfen, max_plies=job.max_plies), job.moves))
    except ValueError as error:
        raise PositionError(f"{error}.") from error


class Inbox:
    """Jobs that have come, and the newest that was cancelled."""

    def __init__(self) -> None:
        self.jobs: SimpleQueue[Job] = SimpleQueue()
        self._cancelled = 0

    def read(self, lines: BinaryIO) -> None:
        """Takes lines until they end."""
        for line in lines:
            message = json.loads(line)
            if "cancel" in message:
                self._cancelled = message["cancel"]
            else:
                self.jobs.put(Job(**message))

    def is_cancelled(self, number: int) -> bool:
        """Whether a job is no longer wanted; those before it have all been answered."""
        return number <= self._cancelled


def answer(job: Job, networks: Networks, inbox: Inbox) -> dict[str, Any]:
    """Returns the answer to a job."""
    try:
        model = networks.get(job.checkpoint)
        result = result_of_job(job, model, lambda: inbox.is_cancelled(job.number))
        return {"number": job.number, "result": result}
    except CancelledError:
        return {"number": job.number, "cancelled": True}
    except (UserError, OSError) as error:
        return {"number": job.number, "error": " ".join(str(error).split())}
    except Exception as error:  # noqa: BLE001  the border of the process: the server waits.
        text = f"{type(error).__name__}: {' '.join(str(error).split())}"
        return {"number": job.number, "failure": text}


def main() -> None:
    """Answers jobs until the input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Of the terminal; the server closes the input.
    os.nice(LOWEST_PRIORITY)
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # Whatever a library prints is no answer.
    prepare_cpu(1)
    inbox = Inbox()

    def read() -> None:
        inbox.read(sys.stdin.buffer)
        os._exit(0)

    threading.Thread(target=read, name="inbox", daemon=True).start()
    networks = Networks(load_network)
    while True:
        print(json.dumps(answer(inbox.jobs.get(), networks, inbox)), file=answers, flush=True)


if __name__ == "__main__":
    main()
