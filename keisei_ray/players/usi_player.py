"""A USI engine as a player: a few processes that share the positions of a whole match.

An engine that dies, does not answer in time, or answers what is no legal move forfeits that game,
and the match goes on; after a death or a time-out the process is started anew. One that must be
started too often ends the match.

Processes serve many games in turn, so what an engine remembers (its hash table) carries over from
one game to another. The i-th position asked for goes to process i modulo their number, whatever
their speed, so a match with an engine that is deterministic is.
"""

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from keisei_ray.errors import EngineTimeoutError, OpponentError
from keisei_ray.players.policies import Ints, Uniforms
from keisei_ray.players.usi import UsiEngine, UsiSpec
from keisei_ray.shogi.rules import forfeit
from keisei_ray.shogi.vector_games import VectorGames

logger = logging.getLogger(__name__)

MAX_RESTARTS = 5
"""How often each process may be started anew. Every restart has cost the engine a game."""

Answer = str | OpponentError
"""What stood after `bestmove`, or why nothing did."""


class UsiPlayer:
    """Engine processes, and the moves they choose. Close it when the match is over."""

    def __init__(self, spec: UsiSpec) -> None:
        """Starts the first process; others start when there are positions for them.

        Raises:
            OpponentError: the engine is not found, does not speak USI, or lacks an option.
        """
        self._spec = spec
        self._seats = [_Seat(spec) for _ in range(spec.processes)]
        self._threads = ThreadPoolExecutor(spec.processes, thread_name_prefix="usi")
        try:
            self.engine_name = self._seats[0].start()
            """How the engine calls itself."""
        except BaseException:
            self.close()
            raise

    def choose(self, games: VectorGames, lanes: Ints, uniforms: Uniforms) -> Ints:
        """The engine's moves; a `policies.Choose`. Leaves nothing to the uniforms.

        Returns:
            [K] index into each lane's legal moves, or a `forfeit`.

        Raises:
            OpponentError: a process has failed once more than `MAX_RESTARTS`, in an earlier call.
        """
        asked = lanes.tolist()
        answers = self._ask([games.usi_position(lane) for lane in asked])
        choices = [
            self._choice(games, lane, answer) for lane, answer in zip(asked, answers, strict=True)
        ]
        return np.array(choices, dtype=np.int64)

    def close(self) -> None:
        """Asks all processes to quit, and ends them. May be called again."""
        self._threads.shutdown(cancel_futures=True)
        for seat in self._seats:
            seat.close()

    def _ask(self, positions: Sequence[str]) -> list[Answer]:
        """One answer a position, in their order; as many at a time as there are processes."""
        for seat in self._seats:
            if seat.last_error is not None and seat.is_worn_out:
                raise OpponentError(
                    f"opponent {self._spec.text!r} had to be started anew more than "
                    f"{MAX_RESTARTS} times, last because it {seat.last_error}. The games that "
                    "are finished count. Try the engine by hand, or give it a longer timeout-s."
                )
        number = min(len(self._seats), len(positions))
        answers: list[Answer] = [""] * len(positions)
        shares = [
            self._threads.submit(seat.answer, positions[i::number])
            for i, seat in enumerate(self._seats[:number])
        ]
        try:
            for i, share in enumerate(shares):
                answers[i::number] = share.result()
        except BaseException:  # An interrupt: nobody waits for their moves any more.
            for seat in self._seats:
                seat.kill()
            raise
        return answers

    def _choice(self, games: VectorGames, lane: int, answer: Answer) -> int:
        """An answer as `VectorGames.step` takes it."""
        if isinstance(answer, OpponentError):
            is_late = isinstance(answer, EngineTimeoutError)
            logger.warning("%s forfeits a game: it %s", self._spec.text, answer)
            return forfeit("engine_timeout" if is_late else "engine_died")
        if answer == "resign":
            return forfeit("resign")
        if answer == "win":
            # Games end as soon as the side to move may declare, so nobody is asked who could.
            logger.warning("%s forfeits a game: it declares a win too early", self._spec.text)
            return forfeit("engine_false_win")
        try:
            found = games.find_move(lane, answer)
        except ValueError:
            found = None
            reason = forfeit("engine_garbage")
        else:
            reason = forfeit("engine_illegal_move")
        if found is None:
            position = games.current_sfen(lane)
            logger.warning("%s forfeits: 'bestmove %s' in %s", self._spec.text, answer, position)
            return reason
        return found


class _Seat:
    """One process and its successors. Used by one thread at a time, save for `kill`."""

    def __init__(self, spec: UsiSpec) -> None:
        self._spec = spec
        self._engine: UsiEngine | None = None
        self._num_starts = 0
        self._is_closing = False
        self.last_error: OpponentError | None = None

    @property
    def is_worn_out(self) -> bool:
        """It has none, and may not start another."""
        return self._engine is None and self._num_starts > MAX_RESTARTS

    def start(self) -> str:
        """Starts a process; returns how the engine calls itself."""
        self._num_starts += 1
        engine = self._engine = UsiEngine(self._spec)
        engine.prepare()
        return engine.name

    def answer(self, positions: Sequence[str]) -> list[Answer]:
        """One answer a position; a failure costs that position only, while restarts last."""
        return [self._answer(position) for position in positions]

    def kill(self) -> None:
        """Ends the process now; no other is started."""
        self._is_closing = True
        if self._engine is not None:
            self._engine.kill()

    def close(self) -> None:
        """Ends the process."""
        if self._engine is not None:
            self._engine.close()
            self._engine = None

    def _answer(self, position: str) -> Answer:
        if self._is_closing or self.is_worn_out:
            return self.last_error or OpponentError("was closed")
        try:
            if self._engine is None:
                self.start()
                assert self._engine is not None
            return self._engine.best_move(position)
        except OpponentError as error:
            self.last_error = error
            self.close()
            return error
