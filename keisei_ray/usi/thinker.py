"""The thread that owns network and tree: it does jobs one by one and reports what it finds.

A search under way shares a `Control` with the conversation. The conversation writes when to stop,
the thinker writes the best move so far. So an answer can be given in time even if a forward pass
takes far longer than those before it.
"""

import logging
import math
import os
import random
import time
from collections.abc import Callable
from queue import SimpleQueue
from typing import Final

from keisei_ray.config.player_spec import SearchSpec
from keisei_ray.errors import UserError
from keisei_ray.players.searching import UNLIMITED_SIMULATIONS, choose_root_move, mate_positions
from keisei_ray.search.forest import UNPROVEN, WON
from keisei_ray.search.score import chance, less_draws, score_text
from keisei_ray.search.search import Evaluate, RootMove, Search, best_first, best_move
from keisei_ray.search.settings import SearchSettings
from keisei_ray.shogi.game import Game, usi_text
from keisei_ray.shogi.mates import NODE_BYTES, MateSearch
from keisei_ray.usi.messages import (
    Answered,
    End,
    Failed,
    Forget,
    Job,
    Load,
    Noted,
    Post,
    Ready,
    Shown,
    Think,
)
from keisei_ray.usi.options import Options
from keisei_ray.usi.position import continued
from keisei_ray.usi.protocol import Info, bestmove, progress

LoadNetwork = Callable[[str, str, int], tuple[str, Evaluate]]
"""Function (checkpoint, device, threads) -> name of the checkpoint and its network."""

logger = logging.getLogger(__name__)

_LOOK_S: Final = 0.05
"""Seconds between two looks at the tree while a search is under way."""
_FIRST_SHOWN_S: Final = 0.3
"""Seconds after which a search shows lines for the first time."""
_SHOWN_S: Final = 1.0
"""Seconds between lines after that."""
_FINISH_S: Final = 0.01
"""Seconds that the answer takes once the search is over."""
_STEP_MEMORY: Final = 0.9
"""Factor by which the time of the longest step fades with each step."""
_STEP_RESERVE: Final = 1.5
"""Times the longest step that must be left for another one to begin."""
_LEAST_STEPS: Final = 16
"""Steps that a search has at least: a short one puts fewer positions into each."""
_FIRST_RATE: Final = 500.0
"""Simulations per second that are assumed before the first search."""
_MIB: Final = 1 << 20
_LEAST_HASH_MB: Final = 16
"""Memory without which there is no search."""
_SHARE_OF_MEMORY: Final = 0.75
"""Share of this machine's memory that a tree may fill."""


class Thinker:
    """Network and tree, and what is done with them."""

    def __init__(self, load: LoadNetwork, post: Post) -> None:
        """Args:
        load: loads a network.
        post: takes the reports; may be called from the thinker's thread.
        """
        self._load, self._post = load, post
        self._loaded: tuple[str, str, int] | None = None
        self._evaluate: Evaluate | None = None
        self._search: Search | None = None
        self._hash_mb = 0
        """USI_Hash when memory was last reserved."""
        self._game: Game | None = None
        self._draw_value = 0.0
        """Value of a draw to Black in the tree."""
        self._rate = _FIRST_RATE

    def work(self, jobs: "SimpleQueue[Job]") -> None:
        """Does jobs in their order until `End`."""
        while not isinstance(job := jobs.get(), End):
            self.do(job)

    def do(self, job: Job) -> None:
        """Does one job; reports a failure instead of raising it."""
        match job:
            case Forget():
                self._forget()
            case Load(number, options):
                if self._is_loaded(number, options):
                    self._reserved(options)
                    self._post(Ready(number))
            case Think(number, options=options):
                if self._evaluate is not None or self._is_loaded(number, options):
                    self._think_safely(job)

    def _forget(self) -> None:
        self._search, self._game = None, None

    def _is_loaded(self, number: int, options: Options) -> bool:
        """Loads the network if needed; reports why it cannot be."""
        wanted = (options.checkpoint, options.device, options.threads)
        if wanted == self._loaded:
            return True
        self._forget()
        self._loaded = self._evaluate = None
        try:
            where, self._evaluate = self._load(*wanted)
        except (UserError, OSError, MemoryError) as error:
            self._post(Failed(number, _one_line(error), is_fatal=True))
            return False
        logger.info("network: %s", where)
        self._loaded = wanted
        return True

    def _think_safely(self, job: Think) -> None:
        try:
            line = self._think(job)
        except Exception as error:  # noqa: BLE001  the thread's border: the client waits for a move
            self._forget()
            self._post(Failed(job.number, f"search failed: {_one_line(error)}", is_fatal=False))
        else:
            self._post(Answered(job.number, line))

    def _think(self, job: Think) -> str:
        """Searches and returns the line of the answer."""
        game = continued(self._game, job.plies)
        if job.is_mate:
            self._game = game
            return self._find_mate(job, game)
        self._note_kept(job, game)
        search = self._prepared(job, game)
        before = search.num_visits(0)
        watch = _Watch(job, search, self._post, has_one_move=len(game.legal) == 2)
        search.run([0], watch)
        watch.show()
        new, seconds = search.num_visits(0) - before, time.monotonic() - watch.begun
        if new >= _LEAST_STEPS and seconds > 0:
            self._rate = new / seconds
        return _answer(search, job.options)

    def _note_kept(self, job: Think, game: Game) -> None:
        """Notes the best move that the kept tree knows, before anything that takes time."""
        moves = self._search.known_moves(0, game) if self._search else []
        if moves:
            job.control.best = usi_text(moves[best_move(moves)].move)
            self._post(Shown(job.number, ()))

    def _find_mate(self, job: Think, game: Game) -> str:
        """Looks for a mate by checks and returns the line of the answer to `go mate`."""
        control, search = job.control, MateSearch(game)
        most_nodes = min(job.options.hash_mb, _most_hash_mb()) * _MIB // NODE_BYTES
        most_positions = job.budget.simulations or math.inf
        shown = job.started

        def told() -> tuple[int, int, int]:
            elapsed = round(1000 * (time.monotonic() - job.started))
            return elapsed, search.expanded, 1000 * search.num_nodes // most_nodes

        def is_over() -> bool:
            nonlocal shown
            now = time.monotonic()
            if now - shown >= _SHOWN_S:
                shown = now
                self._post(Shown(job.number, (progress(*told()),)))
            is_time_up = control.stop_at is not None and now >= control.stop_at
            return control.is_stopped or is_time_up or search.expanded >= most_positions

        search.run(is_over, most_nodes)
        line = " ".join(map(usi_text, search.line))
        found = f" score {score_text(1.0, WON, len(search.line))} pv {line}" if line else ""
        self._post(Shown(job.number, (progress(*told()) + found,)))
        return f"checkmate {line or ('nomate' if search.has_mate is False else 'timeout')}"

    def _reserved(self, options: Options) -> Search:
        """The search, with memory for its tree: USI_Hash, or as much as this machine can hold."""
        if self._search is not None and self._hash_mb == options.hash_mb:
            return self._search
        assert self._evaluate is not None
        self._forget()
        held_mb = min(options.hash_mb, _most_hash_mb())
        while self._search is None:
            try:
                self._search = Search(self._evaluate, SearchSettings(1), held_mb * _MIB)
            except MemoryError:
                if held_mb <= _LEAST_HASH_MB:
                    raise
                held_mb //= 2
        if held_mb < options.hash_mb != self._hash_mb:
            self._post(
                Noted(
                    f"option USI_Hash = {options.hash_mb}: this machine can hold {held_mb} MiB, "
                    f"with which it goes on. Set USI_Hash to at most {held_mb}."
                )
            )
        self._hash_mb = options.hash_mb
        return self._search

    def _prepared(self, job: Think, game: Game) -> Search:
        """The search with its root at the position of the job, all its moves known."""
        options = job.options
        draw_value = 0.0 if job.is_analysis else options.draw_value / 500 - 1
        draw_value_of_black = -draw_value if game.turn else draw_value
        if draw_value_of_black != self._draw_value:
            # The search would not use the tree either, but clear its memory, which takes longer.
            self._forget()
            self._draw_value = draw_value_of_black
        search = self._reserved(options)
        self._game = game
        simulations = job.budget.simulations or UNLIMITED_SIMULATIONS
        expected = min(simulations, self._rate * (job.budget.target_s or math.inf))
        leaves = max(1, int(min(options.batch_size, expected // _LEAST_STEPS)))
        search.settings = SearchSettings(
            simulations,
            draw_value=draw_value,
            mate_positions=mate_positions(1, SearchSpec(int(expected), None)),
            leaves_per_step=leaves,
        )
        search.start([game])
        return search


class _Watch:
    """Clock and observer of one search: asked before every step whether it is over."""

    def __init__(self, job: Think, search: Search, post: Post, *, has_one_move: bool) -> None:
        self._job, self._search, self._post = job, search, post
        self._visits = search.num_visits(0)
        self.begun = self._last = self._looked = time.monotonic()
        self._shown = self.begun - _SHOWN_S + _FIRST_SHOWN_S
        self._longest_step = 0.0
        self._has_one_move = has_one_move
        self._leads = False
        self._look(search.root_moves(0))
        post(Shown(job.number, ()))

    def __call__(self) -> bool:
        now, control = time.monotonic(), self._job.control
        self._longest_step = max(now - self._last, _STEP_MEMORY * self._longest_step)
        self._last = now
        if now - self._looked >= _LOOK_S:
            self._looked = now
            self._look(self._search.root_moves(0))
        if now - self._shown >= _SHOWN_S:
            self._shown = now
            self.show()
        if control.is_stopped:
            return True
        if control.stop_at is None:
            return False
        return (
            now + _STEP_RESERVE * self._longest_step + _FINISH_S >= control.stop_at
            or self._has_one_move
            or self._leads
        )

    def _look(self, moves: list[RootMove]) -> None:
        """Notes the best move, and whether no other can pass it in the time that is left."""
        control = self._job.control
        best, *others = best_first(moves)[:2]
        control.best = usi_text(moves[best].move)
        self._leads = False
        if others and self._job.budget.saves_time and control.stop_at is not None:
            lead = moves[best].visits - moves[others[0]].visits
            new = self._search.num_visits(0) - self._visits
            rate = new / max(_LOOK_S, self._last - self.begun)
            self._leads = new > 0 and lead > rate * (control.stop_at - self._last)

    def show(self) -> None:
        """Reports the best lines so far."""
        search, options = self._search, self._job.options
        moves = search.root_moves(0)
        self._look(moves)
        elapsed = time.monotonic() - self._job.started
        visits = search.num_visits(0)
        shown = [
            index
            for index in best_first(moves)[: options.multi_pv]
            if moves[index].visits or moves[index].proof != UNPROVEN
        ] or [best_move(moves)]
        lines = []
        for rank, index in enumerate(shown, 1):
            line = search.best_line(0, index)
            info = Info(
                depth=len(line),
                seldepth=max(len(line), search.deepest),
                nodes=visits,
                nps=round((visits - self._visits) / max(elapsed, 1e-3)),
                time_ms=round(1000 * elapsed),
                hashfull=int(1000 * search.fullness),
                score=score_text(_value(search, moves[index]), moves[index].proof, len(line)),
                pv=tuple(map(usi_text, line)),
                multipv=rank if options.multi_pv > 1 else None,
            )
            lines.append(info.line())
        self._post(Shown(self._job.number, tuple(lines)))


def _answer(search: Search, options: Options) -> str:
    """The move to play, or that the game is given up."""
    moves = search.root_moves(0)
    best = moves[best_move(moves)]
    if chance(_value(search, best)) * 1000 < options.resign_value:
        return bestmove("resign")
    index = choose_root_move(moves, options.temperature / 100, random.random())
    line = [usi_text(move) for move in search.best_line(0, index)]
    return bestmove(line[0], line[1] if options.ponder and len(line) > 1 else "")


def _value(search: Search, move: RootMove) -> float:
    """P(win) - P(loss) after a move of the root; that of the root if it has not been tried."""
    draw_value = search.settings.draw_value
    if math.isnan(move.value):
        return less_draws(*search.root_value(0), draw_value)
    return less_draws(move.value, move.draw_prob, move.proof, draw_value)


def _most_hash_mb() -> int:
    """Most memory in MiB that a tree may have on this machine."""
    if not hasattr(os, "sysconf"):
        return 1 << 20
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return max(_LEAST_HASH_MB, int(_SHARE_OF_MEMORY * memory / _MIB))


def _one_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
