"""A USI engine as a player: a few processes that share the positions of a whole match.

An engine fails if it dies, does not answer in time, or answers with anything but a legal move. In
a match it then forfeits that game, and the match goes on. After a death or a timeout the process is
started again. An engine that must be started again too often ends the match. Elsewhere (the
opponent pool) the first failure is an error.

Each process serves many games in turn, so what an engine remembers (its hash table) carries over
from one game to another. The i-th position of a call goes to process i modulo the number of
processes, whatever their speed. A match with a deterministic engine is therefore deterministic.
"""

import logging
import os
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, wait

import numpy as np

from keisei_ray.config.player_spec import EngineSpec
from keisei_ray.errors import EngineTimeoutError, PlayerError
from keisei_ray.players.policies import Ints, Uniforms
from keisei_ray.players.usi_engine import UsiEngine
from keisei_ray.rollouts.finished_game import ForfeitReason
from keisei_ray.shogi.rules import forfeit
from keisei_ray.shogi.vector_games import VectorGames
from keisei_ray.telemetry.visible_text import shortened

logger = logging.getLogger(__name__)

DEFAULT_MAX_PROCESSES = 4
"""Most processes of an engine if its spec does not say how many."""
MAX_SHOWN_ANSWER = 40
"""Characters of an answer that is no legal move which the log shows."""
WAIT_S = 0.5
"""Longest wait for an answer at once, in seconds: an interrupt that comes just before a wait begins
is seen at its end."""
MAX_RESTARTS = 5
"""Restarts allowed for each process. Every restart has cost the engine a game."""

Answer = str | PlayerError
"""The word after `bestmove`, or the reason why there is none."""
Judged = tuple[Answer, int | None]
"""An answer, and the engine's evaluation of the position, in centipawns for the side to move."""


class UsiPlayer:
    """A player that asks engine processes for its moves. Close it when the match is over."""

    def __init__(self, spec: EngineSpec, *, forfeits: bool = True) -> None:
        """Starts the first process; the others start when there are positions for them.

        Args:
            spec: the engine.
            forfeits: whether a failure loses the game; otherwise `choose` raises it, and no process
                is started again.

        Raises:
            PlayerError: the engine is not found, does not speak USI, or lacks an option.
        """
        self._spec = spec
        self._forfeits = forfeits
        num_processes = spec.processes or min(DEFAULT_MAX_PROCESSES, os.cpu_count() or 1)
        max_restarts = MAX_RESTARTS if forfeits else 0
        self._engines = [_RestartedEngine(spec, max_restarts) for _ in range(num_processes)]
        self._threads = _started_threads(num_processes)
        self.evaluations: list[int | None] = []
        """The engine's evaluation of each position of the last `choose`; None where it said none.
        """
        try:
            self.engine_name = self._engines[0].start()
            """Name that the engine gives itself."""
        except BaseException:
            self.close()
            raise

    def choose(self, games: VectorGames, lanes: Ints, uniforms: Uniforms) -> Ints:
        """Returns the engine's moves, as a `policies.Choose`. Does not use the uniforms.

        Returns:
            [K] int64, index into each lane's legal moves, or a `forfeit`.

        Raises:
            PlayerError: in an earlier call a process failed once more than `MAX_RESTARTS`; or,
                where failures are no forfeits, the engine has failed. Close it then.
        """
        asked = lanes.tolist()
        answers = self._ask([games.usi_position(lane) for lane in asked])
        self.evaluations = [evaluation for _, evaluation in answers]
        choices = [
            self._choice(games, lane, answer)
            for lane, (answer, _) in zip(asked, answers, strict=True)
        ]
        return np.array(choices, dtype=np.int64)

    def close(self) -> None:
        """Asks all processes to quit and ends them. May be called again."""
        self._threads.shutdown(cancel_futures=True)
        for engine in self._engines:
            engine.close()

    def _ask(self, positions: Sequence[str]) -> list[Judged]:
        """Returns one answer for each position, in their order; all processes work at once."""
        for engine in self._engines:
            if engine.last_error is not None and engine.has_given_up:
                raise PlayerError(
                    f"player {self._spec.text!r} had to be started again more than "
                    f"{MAX_RESTARTS} times, last because it {engine.last_error}. The games that "
                    "are finished count. Try the engine by hand, or give it a longer timeout-s."
                )
        number = min(len(self._engines), len(positions))
        answers: list[Judged] = [("", None)] * len(positions)
        try:
            futures = [
                self._threads.submit(engine.answer, positions[i::number])
                for i, engine in enumerate(self._engines[:number])
            ]
            for i, future in enumerate(futures):
                while wait([future], WAIT_S).not_done:
                    pass
                answers[i::number] = future.result()
        except BaseException:  # An interrupt: the answers are not needed any more.
            for engine in self._engines:
                engine.kill()
            raise
        return answers

    def _choice(self, games: VectorGames, lane: int, answer: Answer) -> int:
        """Returns an answer in the form that `VectorGames.step` takes."""
        if isinstance(answer, PlayerError):
            is_late = isinstance(answer, EngineTimeoutError)
            return self._fail("engine_timeout" if is_late else "engine_died", answer)
        if answer == "resign":
            return forfeit("resign")
        if answer == "win":
            # A game ends as soon as the side to move may declare a win, so it is never true here.
            return self._fail("engine_false_win", PlayerError("declared a win too early"))
        reason: ForfeitReason = "engine_illegal_move"
        try:
            found = games.find_move(lane, answer)
        except ValueError:
            found, reason = None, "engine_garbage"
        if found is None:
            shown = shortened(answer, MAX_SHOWN_ANSWER)
            told = f"answered 'bestmove {shown}' in {games.current_sfen(lane)}: no legal move there"
            return self._fail(reason, PlayerError(told))
        return found

    def _fail(self, reason: ForfeitReason, error: PlayerError) -> int:
        """Returns the forfeit of a game.

        Args:
            reason: what the engine did.
            error: the same in words that follow "the engine".

        Raises:
            PlayerError: failures are no forfeits.
        """
        if not self._forfeits:
            raise error
        logger.warning("%s forfeits a game: it %s", self._spec.text, error)
        return forfeit(reason)


def _started_threads(number: int) -> ThreadPoolExecutor:
    """Makes a pool all of whose threads run already.

    An interrupt while `submit` starts a thread would make a thread for which `shutdown` does not
    wait.
    """
    threads = ThreadPoolExecutor(number, thread_name_prefix="usi")
    all_run = threading.Barrier(number)
    list(threads.map(lambda _: all_run.wait(), range(number)))
    return threads


class _RestartedEngine:
    """An engine process, and after a failure its successor.

    For one thread at a time, except for `kill`.
    """

    def __init__(self, spec: EngineSpec, max_restarts: int) -> None:
        self._spec = spec
        self._max_restarts = max_restarts
        self._engine: UsiEngine | None = None
        self._num_starts = 0
        self._is_closing = False
        self.last_error: PlayerError | None = None

    @property
    def has_given_up(self) -> bool:
        """Whether there is no process and none may be started again."""
        return self._engine is None and self._num_starts > self._max_restarts

    def start(self) -> str:
        """Starts a process and returns the name that the engine gives itself."""
        self._num_starts += 1
        engine = self._engine = UsiEngine(self._spec)
        engine.prepare()
        return engine.name

    def answer(self, positions: Sequence[str]) -> list[Judged]:
        """Returns one answer for each position; a failure costs that position only."""
        return [self._answer(position) for position in positions]

    def kill(self) -> None:
        """Ends the process at once; no other is started. May be called from another thread."""
        self._is_closing = True
        if self._engine is not None:
            self._engine.kill()

    def close(self) -> None:
        """Ends the process."""
        if self._engine is not None:
            self._engine.close()
            self._engine = None

    def _answer(self, position: str) -> Judged:
        if self._is_closing or self.has_given_up:
            return self.last_error or PlayerError("was closed"), None
        try:
            if self._engine is None:
                self.start()
                assert self._engine is not None
            return self._engine.best_move(position), self._engine.evaluation
        except PlayerError as error:
            self.last_error = error
            self.close()
            return error, None
