"""Labelled positions of games: the rows that a network learns from.

The games are played move by move, many at a time, by the same code as self-play
(`VectorGames`), so the network sees what it sees in self-play: repetitions, checks in a row, legal
moves. A game is used when it has been played to its end: one with an illegal move is left out as a
whole. Where a record has no result, the end by the rules gives it, if there is one.

K: rows.
"""

import re
from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from keisei_ray.config.sections import PretrainConfig
from keisei_ray.records.left_out import Cause, Tally
from keisei_ray.rollouts.finished_game import GameResult
from keisei_ray.rollouts.rollout import NUM_ACTIONS
from keisei_ray.shogi.game import NO_PLY_CAP, STANDARD_SFEN, Game, check_start
from keisei_ray.shogi.game_record import GameRecord, Visits
from keisei_ray.shogi.rules import forfeit
from keisei_ray.shogi.vector_games import VectorGames

NUM_DRAWN: Final = 8
"""Moves that are drawn from the visits of a position: in so many passes each is the target once."""
NUM_LANES: Final = 32
"""Games that are played side by side."""
_NUM_PIECES: Final = 40
_HAND_PIECE: Final = re.compile(r"([0-9]{0,2})([A-Za-z])")
_OUTCOME: Final[dict[GameResult, int]] = {
    "black_win": 1,
    "white_win": -1,
    "draw": 0,
    "truncated": 0,
}


class Positions(NamedTuple):
    """K labelled positions, each from its side to move."""

    boards: npt.NDArray[np.uint8]
    """[K, 81] as in `Rollout`."""
    hands: npt.NDArray[np.uint8]
    """[K, 14] as in `Rollout`."""
    scalars: npt.NDArray[np.uint8]
    """[K, 3] as in `Rollout`."""
    legal_bits: npt.NDArray[np.uint8]
    """[K, 187] as in `Rollout`."""
    actions: npt.NDArray[np.int16]
    """[K] policy label of the recorded move, or of the one that the policy is to learn."""
    drawn: npt.NDArray[np.int16]
    """[K, NUM_DRAWN] policy labels drawn from the visits of a search; without visits the recorded
    move."""
    values: npt.NDArray[np.float32]
    """[K] target of the value: P(win) - P(loss), in [-1, 1]."""
    draws: npt.NDArray[np.float32]
    """[K] target of P(draw), in [0, 1]."""
    results: npt.NDArray[np.int8]
    """[K] result for the side to move: 1, 0 or -1."""

    def __len__(self) -> int:
        """Returns K."""
        return len(self.actions)

    def rows(self, chosen: npt.NDArray[np.generic] | slice) -> "Positions":
        """Returns some of the rows, by indices or a mask."""
        return Positions(*(array[chosen] for array in self))  # type: ignore[arg-type]

    def with_target(self, number: int) -> "Positions":
        """Returns the same rows with the move that the policy learns in the pass of that number."""
        return Positions(**self._asdict() | {"actions": self.drawn[:, number % NUM_DRAWN]})

    def write(self, places: npt.NDArray[np.int64] | slice, rows: "Positions") -> None:
        """Overwrites some of the rows."""
        for name in self._fields:
            getattr(self, name)[places] = getattr(rows, name)


def empty_positions(size: int) -> Positions:
    """Returns storage for so many rows."""
    return Positions(
        np.zeros((size, 81), np.uint8),
        np.zeros((size, 14), np.uint8),
        np.zeros((size, 3), np.uint8),
        np.zeros((size, NUM_ACTIONS // 8), np.uint8),
        np.zeros(size, np.int16),
        np.zeros((size, NUM_DRAWN), np.int16),
        np.zeros(size, np.float32),
        np.zeros(size, np.float32),
        np.zeros(size, np.int8),
    )


def joined(parts: list[Positions]) -> Positions:
    """Returns the rows of several parts, one after the other."""
    return Positions(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))


def positions_of(
    games: Iterable[GameRecord],
    config: PretrainConfig,
    tally: Tally,
    num_lanes: int = NUM_LANES,
    *,
    seed: Sequence[int] = (),
) -> Iterator[Positions]:
    """Yields the positions of each game that can be used, as the games end.

    Args:
        games: read one after the other, as lanes become free.
        config: the filters of positions, and how targets are made.
        tally: counts what is used and what is left out.
        num_lanes: games played side by side; their number does not change what is yielded, only
            the order.
        seed: of what is drawn from visits, with the moves of each game.
    """
    replayed = _ReplayedGames(iter(games), config, tally, num_lanes, seed)
    while not replayed.is_over:
        yield from replayed.step()


def drawn_moves(visits: Visits, rng: np.random.Generator) -> list[int]:
    """Draws NUM_DRAWN moves in proportion to their visits, as evenly as that many can be.

    A move with a share s of the visits is drawn NUM_DRAWN * s times, rounded up or down; the order
    is random.
    """
    moves, counts = zip(*visits, strict=True)
    upto = np.cumsum(counts)
    points = (np.arange(NUM_DRAWN) + rng.random()) * (upto[-1] / NUM_DRAWN)
    chosen = np.searchsorted(upto, points, side="right")
    return [moves[i] for i in rng.permutation(np.minimum(chosen, len(moves) - 1))]


def targets(
    results: npt.NDArray[np.int8], evals: npt.NDArray[np.float64], config: PretrainConfig
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Mixes results and evaluations to the targets of the value head.

        p      = 1 / (1 + exp(-eval / eval_scale))
        weight = eval_weight where there is an evaluation, else 0
        value  = (1 - weight) * result + weight * (2 p - 1)
        draw   = (1 - weight) * [result = 0]

    Args:
        results: [K] result for the side to move.
        evals: [K] evaluation for the side to move, NaN for none.
        config: eval_weight and eval_scale.

    Returns:
        [K] values in [-1, 1], and [K] draw probabilities.
    """
    weight = np.where(np.isnan(evals), 0.0, config.eval_weight)
    # 2 p - 1 = tanh(eval / (2 eval_scale)).
    judged = np.tanh(np.nan_to_num(evals) / (2 * config.eval_scale))
    values = (1 - weight) * results + weight * judged
    draws = (1 - weight) * (results == 0)
    return values.astype(np.float32), draws.astype(np.float32)


def start_fault(sfen: str) -> tuple[Cause, str] | None:
    """Returns why games from a start position cannot be used; None if they can."""
    if sfen == STANDARD_SFEN:
        return None
    board, _, hands = [*sfen.split(), "", "", ""][:3]
    in_hand = 0 if hands == "-" else sum(int(n or 1) for n, _ in _HAND_PIECE.findall(hands))
    if sum(letter.isalpha() for letter in board) + in_hand != _NUM_PIECES:
        return Cause.OTHER_RULES, sfen
    try:
        check_start(sfen)
    except ValueError as error:
        return Cause.IMPOSSIBLE_START, str(error)
    return None


def _drawn_indices(
    record: GameRecord, ply: int, legal: Sequence[int], rng: np.random.Generator
) -> npt.NDArray[np.int64]:
    """Draws moves from the visits; in place of one that is not legal, the one that was played.

    Args:
        record: a game with visits.
        ply: index of the move.
        legal: the legal moves, with the one that was played.
        rng: what is drawn with.

    Returns:
        [NUM_DRAWN] indices among the legal moves.
    """
    played, visits = record.moves[ply], record.visits[ply]
    if not any(count for _, count in visits):
        visits = ((played, 1),)
    places = {move: at for at, move in enumerate(legal)}
    drawn = drawn_moves(visits, rng)
    return np.array([places.get(move, places[played]) for move in drawn])


class _ReplayedGames:
    """Games of records in the lanes of `VectorGames`."""

    def __init__(
        self,
        games: Iterator[GameRecord],
        config: PretrainConfig,
        tally: Tally,
        num_lanes: int,
        seed: Sequence[int],
    ) -> None:
        self._source = games
        self._config = config
        self._tally = tally
        self._records: dict[int, GameRecord] = {}
        """Index of a game in play -> its record; a lane without one idles."""
        self._first_step: dict[int, int] = {}
        self._seed = seed
        self._rngs: dict[int, np.random.Generator] = {}
        """Index of a game in play that has visits -> what its targets are drawn with."""
        self._history: list[tuple[npt.NDArray[np.generic], ...]] = []
        """Positions, legal moves and labels of moves in all lanes, at each step since `_base`."""
        self._base = 0
        self._games = VectorGames(
            num_lanes, max_plies=NO_PLY_CAP, start_game=self._start, save_moves=False
        )

    @property
    def is_over(self) -> bool:
        """Whether no game is left."""
        return not self._records

    def step(self) -> Iterator[Positions]:
        """Plays one move in each game; yields the positions of those that have ended."""
        games = self._games
        choices = np.zeros(games.num_games, np.int64)
        ended: dict[int, GameResult | None] = {}
        searched: dict[int, npt.NDArray[np.int64]] = {}
        """Lane -> indices of the drawn moves among the legal ones."""
        for lane, index in enumerate(games.game_index.tolist()):
            record = self._records.get(index)
            if record is None:
                continue
            ply = int(games.plies[lane])
            if ply == len(record.moves):
                choices[lane], ended[lane] = forfeit("resign"), record.result
                continue
            legal = array("H", games.game(lane).legal)
            try:
                choices[lane] = legal.index(record.moves[ply])
            except ValueError:
                self._tally.leave_out(Cause.ILLEGAL_MOVE, f"{record.place}: move {ply + 1}")
                choices[lane] = forfeit("resign")
                del self._records[index], self._first_step[index]
                self._rngs.pop(index, None)
                continue
            if index in self._rngs:
                searched[lane] = _drawn_indices(record, ply, legal, self._rngs[index])
        yield from self._take(ended, is_row=False)
        labels = games.legal_labels[games.legal_offsets[:-1] + np.maximum(choices, 0)]
        drawn = np.repeat(labels[:, None], NUM_DRAWN, axis=1)
        for lane, legal_indices in searched.items():
            drawn[lane] = games.legal_labels[games.legal_offsets[lane] + legal_indices]
        self._history.append(
            (
                games.boards.copy(),
                games.hands.copy(),
                games.scalars.copy(),
                games.legal_bits().copy(),
                labels,
                drawn,
            )
        )
        indices = games.game_index.tolist()
        over: dict[int, GameResult | None] = {}
        for end in games.step(choices).finished:
            record = self._records.get(indices[end.lane])
            if record is not None:
                over[end.lane] = record.result or end.result
        yield from self._take(over, is_row=True, indices=indices)
        self._forget()

    def _start(self, index: int) -> Game:
        """Starts the next game that can be used; one that idles if there is none."""
        for record in self._source:
            fault = start_fault(record.start_sfen)
            if fault is None:
                self._records[index] = record
                self._first_step[index] = self._base + len(self._history)
                if record.visits and self._config.policy_target == "visits":
                    self._rngs[index] = np.random.default_rng([*self._seed, *record.moves])
                return Game(record.start_sfen, max_plies=NO_PLY_CAP, index=index)
            cause, what = fault
            self._tally.leave_out(cause, f"{record.place}: {what}")
        return Game(STANDARD_SFEN, max_plies=NO_PLY_CAP, index=index)

    def _take(
        self,
        ended: dict[int, GameResult | None],
        *,
        is_row: bool,
        indices: list[int] | None = None,
    ) -> Iterator[Positions]:
        """Yields the positions of the games that have ended.

        Args:
            ended: lane -> result.
            is_row: whether the last step of the history belongs to the game.
            indices: index of the game in each lane; None: as they are now.
        """
        for lane, result in ended.items():
            index = (indices or self._games.game_index.tolist())[lane]
            record, first = self._records.pop(index), self._first_step.pop(index)
            self._rngs.pop(index, None)
            if result is None:
                self._tally.leave_out(Cause.NO_RESULT, record.place)
                continue
            steps = self._history[first - self._base :]
            if not steps:
                self._tally.leave_out(Cause.NO_MOVES, record.place)
                continue
            positions = self._labelled(record, result, lane, steps)
            self._tally.games += 1
            self._tally.positions += len(positions)
            if len(positions):
                yield positions

    def _labelled(
        self,
        record: GameRecord,
        result: GameResult,
        lane: int,
        steps: list[tuple[npt.NDArray[np.generic], ...]],
    ) -> Positions:
        """Positions of a game that pass the filters."""
        boards, hands, scalars, legal_bits, actions, drawn = (
            np.stack([step[field][lane] for step in steps]) for field in range(6)
        )
        plies = np.arange(len(steps))
        is_black = plies % 2 == (1 if record.start_sfen.split()[1] == "w" else 0)
        outcome = _OUTCOME[result]
        results = np.where(is_black, outcome, -outcome).astype(np.int8)
        evals = np.array([record.eval_at(ply) for ply in range(len(steps))], np.float64)
        values, draws = targets(results, evals, self._config)
        positions = Positions(
            boards,
            hands,
            scalars,
            legal_bits,
            actions,
            drawn,
            values,
            draws,
            results,
        )
        return positions.rows(self._kept(plies, scalars, evals, record))

    def _kept(
        self,
        plies: npt.NDArray[np.int64],
        scalars: npt.NDArray[np.generic],
        evals: npt.NDArray[np.float64],
        record: GameRecord,
    ) -> npt.NDArray[np.bool_]:
        """[K] whether each position passes the filters; counts those that do not."""
        c = self._config
        kept = plies >= max(record.opening_plies, c.first_ply)
        self._tally.leave_out(Cause.OPENING, count=int((~kept).sum()))
        if record.visits:
            fits = np.array([bool(record.visits[ply]) for ply in plies])
            self._tally.leave_out(Cause.NO_VISITS, count=int((kept & ~fits).sum()))
            kept &= fits
        if c.checks != "all":
            fits = (np.asarray(scalars)[:, 2] > 0) == (c.checks == "only")
            self._tally.leave_out(Cause.CHECK, count=int((kept & ~fits).sum()))
            kept &= fits
        if c.max_eval is not None:
            fits = ~(np.abs(evals) > c.max_eval)
            self._tally.leave_out(Cause.EVALUATION, count=int((kept & ~fits).sum()))
            kept &= fits
        return kept

    def _forget(self) -> None:
        """Forgets the steps that no game in play needs."""
        now = self._base + len(self._history)
        oldest = min(self._first_step.values(), default=now)
        if oldest - self._base >= NUM_LANES:  # Rarely: it moves the list.
            del self._history[: oldest - self._base]
            self._base = oldest
