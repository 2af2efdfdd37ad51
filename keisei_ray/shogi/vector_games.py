"""N games side by side: one ply in each per step, positions and legal moves in arrays.

Each of N lanes holds one game. `VectorGames.step` plays one ply in every lane and starts a new game
in each lane whose game ended. What a policy needs (boards, hands, scalars, legal labels) is kept in
arrays, from the side to move. Boards and hands are updated from the 16-bit moves, for all lanes at
once (`moves.py`), and not read back from the rules library. Which moves are legal and how a game
ends is decided by `game.Game`, one for each lane.

A game depends on its index and its random generator only, never on N or on the other lanes.

N: lanes. L: legal moves of all lanes together. K: lanes truncated in a step.
"""

from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from rsshogi.core import Move

from keisei_ray.errors import CheckpointError
from keisei_ray.rollouts.actor_state import GameInPlay, GamesState
from keisei_ray.rollouts.finished_game import GameEndReason, GameResult
from keisei_ray.rollouts.rollout import NUM_ACTIONS
from keisei_ray.shogi.actions import LABEL_OF_MOVE
from keisei_ray.shogi.game import STANDARD_SFEN, Game, check_start, open_game, replayed_game
from keisei_ray.shogi.moves import material_gains, play_moves
from keisei_ray.shogi.rules import Verdict, forfeit_verdict, result_of

Bytes = npt.NDArray[np.uint8]

_LABEL_OF_MOVE = LABEL_OF_MOVE.ravel()
"""[2 * 65536] label of a 16-bit move, at index turn * 65536 + move."""
_BYTES_PER_MOVE = 2

WINS_AT_ONCE, LOSES_AT_ONCE = 1_000, -1_000
"""Net gains of a move that mates, and of one that can be answered by a mate in one."""


@dataclass(frozen=True, slots=True)
class GameEnd:
    """A game that ended in a step. Absolute, not from the side to move."""

    lane: int
    """The lane in which it was played."""
    index: int
    """Number of the game, in order of starting."""
    sfen: str
    """Start position, before the opening."""
    result: GameResult
    """The winner; absolute."""
    reason: GameEndReason
    """The rule by which it ended."""
    plies: int
    """Length in plies, the opening included."""
    opening_plies: int
    """Plies at the start that no player chose."""
    moves: str
    """All plies in USI notation, space separated, opening included; empty if not saved."""


@dataclass(frozen=True, slots=True)
class StepResult:
    """Rewards and ends of one ply in every lane. The arrays belong to the caller."""

    rewards: npt.NDArray[np.float32]
    """[N] reward to the side whose ply it was: 1 won, -1 lost, 0 otherwise."""
    terminated: npt.NDArray[np.bool_]
    """[N] whether the rules ended the game."""
    truncated: npt.NDArray[np.bool_]
    """[N] whether the ply cap ended the game; never where `terminated`."""
    finished: tuple[GameEnd, ...]
    """Games that ended, in order of lanes."""
    final_lanes: npt.NDArray[np.int64]
    """[K] lanes whose game was truncated, ascending."""
    final_boards: Bytes
    """[K, 81] last boards of these games, before the new games, for the side then to move."""
    final_hands: Bytes
    """[K, 14] last hands of these games."""
    final_scalars: Bytes
    """[K, 3] last scalars of these games."""


class GameCounter:
    """Counter that gives every new game its index; several `VectorGames` may share one."""

    def __init__(self) -> None:
        """Starts at 0."""
        self.next_index = 0

    def take(self) -> int:
        """Returns the index of a new game."""
        self.next_index += 1
        return self.next_index - 1


class VectorGames:
    """N games in play, one in each lane.

    Attributes, all from the side to move, read only, and valid until the next `step`:
        boards: [N, 81] uint8 codes, see `observation.Observation`.
        hands: [N, 14] uint8.
        scalars: [N, 3] uint8.
        legal_labels: [L] int16, the legal labels of lane 0, then those of lane 1, and so on.
        legal_offsets: [N + 1] int64; lane i owns
            legal_labels[legal_offsets[i]:legal_offsets[i + 1]], never empty.
        turns: [N] uint8, the side to move, 0 black, 1 white.
        plies: [N] int64, plies played so far, opening included.
        game_index: [N] int64, index of the game in each lane.
    """

    def __init__(
        self,
        num_games: int,
        *,
        max_plies: int,
        rng_for_game: Callable[[int], np.random.Generator] | None = None,
        start_game: Callable[[int], Game] | None = None,
        random_opening_plies: int = 0,
        sfens: Sequence[str] = (STANDARD_SFEN,),
        save_moves: bool = True,
        counter: GameCounter | None = None,
    ) -> None:
        """Starts a game in every lane.

        Args:
            num_games: N, at least 1.
            max_plies: plies after which a game is truncated, opening included.
            rng_for_game: makes the generator of the game with this index, which draws the start
                position and the opening. Equal generators give equal openings.
            start_game: makes the game with this index, its opening played; then nothing is drawn.
                Exactly one of `rng_for_game` and `start_game` is given.
            random_opening_plies: longest random opening, less than `max_plies`; see `open_game`.
            sfens: start positions; a game draws one if there are several.
            save_moves: whether `GameEnd.moves` is filled.
            counter: gives the games their indices; None: one of its own.

        Raises:
            ValueError: a size is out of range, or no game can be played from a start position.
        """
        if num_games < 1:
            raise ValueError(f"num_games = {num_games}: expected at least 1.")
        if (rng_for_game is None) == (start_game is None):
            raise ValueError("expected either rng_for_game or start_game.")
        if not 0 <= random_opening_plies < max_plies:
            raise ValueError(
                f"random_opening_plies = {random_opening_plies}: expected 0 to max_plies - 1 "
                f"= {max_plies - 1}."
            )
        if not sfens:
            raise ValueError("sfens is empty: expected at least one start position.")
        for sfen in sfens:
            check_start(sfen)
        self.num_games = num_games
        self._max_plies = max_plies
        self._rng_for_game = rng_for_game
        self._start_game = start_game
        self._random_opening_plies = random_opening_plies
        self._sfens = tuple(sfens)
        self._save_moves = save_moves
        self._counter = counter or GameCounter()
        self._allocate()
        self._games = [self._next_game() for _ in range(num_games)]
        self._read_all()

    def _allocate(self) -> None:
        """Allocates every array, once."""
        n = self.num_games
        self.boards: Bytes = np.zeros((n, 81), dtype=np.uint8)
        self.hands: Bytes = np.zeros((n, 14), dtype=np.uint8)
        self.scalars: Bytes = np.zeros((n, 3), dtype=np.uint8)
        self.legal_labels: npt.NDArray[np.int16] = np.zeros(0, dtype=np.int16)
        self.legal_offsets: npt.NDArray[np.int64] = np.zeros(n + 1, dtype=np.int64)
        self.turns: Bytes = np.zeros(n, dtype=np.uint8)
        self.plies: npt.NDArray[np.int64] = np.zeros(n, dtype=np.int64)
        self.game_index: npt.NDArray[np.int64] = np.zeros(n, dtype=np.int64)
        self._spare_boards = np.zeros_like(self.boards)
        self._spare_hands = np.zeros_like(self.hands)
        self._values = np.zeros(0, dtype=np.uint16)
        self._legal_mask = np.zeros((n, NUM_ACTIONS), dtype=np.bool_)
        self._legal_bits: Bytes | None = None
        """Result of `legal_bits` since the last step."""
        self._lanes = np.arange(n)
        self._legal_counts = np.zeros(n, dtype=np.int64)
        self._legal_lanes = np.zeros(0, dtype=np.int64)

    def step(self, choices: npt.ArrayLike) -> StepResult:
        """Plays one ply in every lane, then starts a new game where one ended.

        Args:
            choices: [N] integers, each an index into its lane's legal moves, or a
                `rules.forfeit`: the side to move loses and no ply is played.

        Raises:
            ValueError: a choice is neither. Nothing has changed.
        """
        picks, forfeits = self._checked(choices)
        # A lane that forfeits is moved along with the others and then filled from its new game.
        chosen = self._values[self.legal_offsets[:-1] + picks].astype(np.int64)
        boards, hands = self._spare_boards, self._spare_hands
        play_moves(self.boards, self.hands, chosen, self.turns, out_boards=boards, out_hands=hands)
        self._spare_boards, self._spare_hands = self.boards, self.hands
        self.boards, self.hands = boards, hands
        self.turns ^= 1
        self.plies += 1
        games = self._games
        ends: list[tuple[int, Verdict, Game]] = []
        for lane, (game, value) in enumerate(zip(games, chosen.tolist(), strict=True)):
            verdict = forfeits[lane] if lane in forfeits else game.play(value)
            if verdict is not None:
                ends.append((lane, verdict, game))
                games[lane] = self._next_game()
        result = self._result(ends)
        for lane, _, _ in ends:
            self._read_lane(lane)
        self._read_moves()
        return result

    def legal_bits(self) -> Bytes:
        """[N, 187] uint8: the legal mask over all labels, packed by `np.packbits`. Read only."""
        if self._legal_bits is None:
            mask = self._legal_mask
            mask[:] = False
            mask.ravel()[self._legal_lanes * NUM_ACTIONS + self.legal_labels] = True
            # The labels fill whole bytes, so lanes need not be packed one by one.
            self._legal_bits = np.packbits(mask.ravel()).reshape(self.num_games, -1)
        return self._legal_bits

    def gains(self) -> npt.NDArray[np.int32]:
        """[L] int32: material that each legal move wins at once, in pawns; see `material_gains`."""
        lanes = self._legal_lanes
        return material_gains(self.boards, self._values.astype(np.int64), self.turns, lanes)

    def net_gains(self, lanes: npt.NDArray[np.int64]) -> npt.NDArray[np.int32]:
        """Material that each legal move wins, less the most that the answer to it wins, in pawns.

        A move that mates has `WINS_AT_ONCE`, one that can be answered by a mate in one has
        `LOSES_AT_ONCE`.

        Args:
            lanes: [K] the lanes asked for.

        Returns:
            One value for each legal move of the first lane asked for, then of the second, and so
            on.
        """
        starts, counts = self.legal_offsets[lanes], self._legal_counts[lanes]
        entries = np.concatenate(
            [np.arange(a, a + n) for a, n in zip(starts.tolist(), counts.tolist(), strict=True)]
        )
        of_entry, values = self._legal_lanes[entries], self._values[entries].astype(np.int64)
        boards, hands, turns = self.boards[of_entry], self.hands[of_entry], self.turns[of_entry]
        after = np.empty_like(boards), np.empty_like(hands)
        play_moves(boards, hands, values, turns, out_boards=after[0], out_hands=after[1])
        answers: list[list[int]] = []
        is_lost = np.zeros(len(values), dtype=np.bool_)
        for i, (lane, value) in enumerate(zip(of_entry.tolist(), values.tolist(), strict=True)):
            board, move = self._games[lane].board, Move(value)
            board.apply_move(move)
            answers.append([answer.value for answer in board.legal_moves()])
            is_lost[i] = board.solve_mate_in_one() is not None
            board.undo_move(move)
        num_answers = np.array([len(found) for found in answers])
        rows = np.repeat(np.arange(len(values)), num_answers)
        flat = np.array([answer for found in answers for answer in found], dtype=np.int64)
        best = np.zeros(len(values), dtype=np.int32)
        np.maximum.at(best, rows, material_gains(after[0], flat, turns ^ 1, rows))
        nets: npt.NDArray[np.int32] = self.gains()[entries] - best
        nets[is_lost] = LOSES_AT_ONCE
        nets[num_answers == 0] = WINS_AT_ONCE
        return nets

    def mate_in_one(self) -> npt.NDArray[np.int64]:
        """[N] index of a legal move that mates at once, -1 where rsshogi's solver finds none."""
        found = np.full(self.num_games, -1, dtype=np.int64)
        for lane, game in enumerate(self._games):
            mate = game.board.solve_mate_in_one()
            if mate is not None:
                found[lane] = array("H", game.legal).index(mate.to_move().value)
        return found

    def game(self, lane: int) -> Game:
        """The game in a lane; read only. It stays the same object until it ends."""
        return self._games[lane]

    def find_move(self, lane: int, usi: str) -> int | None:
        """Index of a move among a lane's legal moves, None if it is not legal.

        Args:
            lane: the lane.
            usi: the move in USI notation.

        Raises:
            ValueError: the text is not a move in USI notation.
        """
        return self._games[lane].find_move(usi)

    def usi_position(self, lane: int) -> str:
        """The game in a lane as a USI `position` command: its start and every ply."""
        game = self._games[lane]
        moves = f" moves {game.moves_usi()}" if game.moves else ""
        return f"position sfen {game.sfen}{moves}"

    def current_sfen(self, lane: int) -> str:
        """The position in a lane as SFEN."""
        return self._games[lane].board.to_sfen()

    def last_move_usi(self, lane: int) -> str:
        """The last ply in a lane in USI notation, empty at the start of a game."""
        moves = self._games[lane].moves
        return Move(moves[-1]).to_usi() if moves else ""

    def state(self) -> GamesState:
        """Returns the games in play, for `restore`."""
        return GamesState(
            self._counter.next_index,
            tuple(
                GameInPlay(
                    index=game.index,
                    start_sfen="" if game.sfen == STANDARD_SFEN else game.sfen,
                    opening_plies=game.opening_plies,
                    moves=np.frombuffer(game.moves, np.uint16).astype("<u2").tobytes(),
                )
                for game in self._games
            ),
        )

    def restore(self, state: GamesState) -> None:
        """Plays on with the games of a `state`, which may be another process's.

        Raises:
            CheckpointError: there are more or fewer games than lanes, or a game cannot be
                replayed. Nothing has changed.
        """
        if len(state.games) != self.num_games:
            raise CheckpointError(
                f"the state of an actor holds {len(state.games)} games, expected {self.num_games}."
            )
        games = []
        for saved in state.games:
            try:
                games.append(
                    replayed_game(
                        saved.start_sfen or STANDARD_SFEN,
                        np.frombuffer(saved.moves, "<u2").tolist(),
                        opening_plies=saved.opening_plies,
                        max_plies=self._max_plies,
                        index=saved.index,
                    )
                )
            except ValueError as error:
                raise CheckpointError(
                    f"game {saved.index} cannot be replayed: {error} Resume from another "
                    "checkpoint."
                ) from error
        self._games = games
        self._counter.next_index = state.next_index
        self._read_all()

    def _next_game(self) -> Game:
        """Starts the game with the next index and plays its opening."""
        index = self._counter.take()
        if self._start_game is not None:
            return self._start_game(index)
        assert self._rng_for_game is not None
        rng = self._rng_for_game(index)
        sfens = self._sfens
        return open_game(
            sfens[int(rng.integers(len(sfens)))] if len(sfens) > 1 else sfens[0],
            rng,
            random_opening_plies=self._random_opening_plies,
            max_plies=self._max_plies,
            index=index,
        )

    def _checked(self, choices: npt.ArrayLike) -> tuple[npt.NDArray[np.int64], dict[int, Verdict]]:
        """[N] indices of legal moves, and the verdicts of lanes that forfeit; their index is 0."""
        picks = np.asarray(choices)
        if picks.shape != (self.num_games,) or picks.dtype.kind not in "iu":
            raise ValueError(
                f"choices have shape {picks.shape} and dtype {picks.dtype}, expected "
                f"({self.num_games},) integers."
            )
        counts = self._legal_counts
        picks = picks.astype(np.int64)
        forfeits: dict[int, Verdict] = {}
        for lane in np.flatnonzero((picks < 0) | (picks >= counts)).tolist():
            verdict = forfeit_verdict(int(picks[lane]))
            if verdict is None:
                raise ValueError(
                    f"choices[{lane}] = {picks[lane]}: expected an index into the lane's "
                    f"{counts[lane]} legal moves."
                )
            forfeits[lane] = verdict
            picks[lane] = 0
        return picks, forfeits

    def _result(self, ends: Sequence[tuple[int, Verdict, Game]]) -> StepResult:
        """Builds the result of a step. Boards and hands must still show the final positions."""
        rewards = np.zeros(self.num_games, dtype=np.float32)
        terminated = np.zeros(self.num_games, dtype=np.bool_)
        truncated = np.zeros(self.num_games, dtype=np.bool_)
        final_lanes, final_scalars = [], bytearray()
        for lane, verdict, game in ends:
            rewards[lane] = verdict.reward
            if verdict.reason == "max_plies":
                truncated[lane] = True
                final_lanes.append(lane)
                final_scalars += game.scalars()
            else:
                terminated[lane] = True
        return StepResult(
            rewards=rewards,
            terminated=terminated,
            truncated=truncated,
            finished=tuple([self._game_end(*end) for end in ends]),
            final_lanes=np.array(final_lanes, dtype=np.int64),
            final_boards=self.boards[final_lanes] if final_lanes else self.boards[:0],
            final_hands=self.hands[final_lanes] if final_lanes else self.hands[:0],
            final_scalars=np.frombuffer(final_scalars, dtype=np.uint8).reshape(-1, 3),
        )

    def _game_end(self, lane: int, verdict: Verdict, game: Game) -> GameEnd:
        """Describes the end of a game."""
        return GameEnd(
            lane=lane,
            index=game.index,
            sfen=game.sfen,
            result=result_of(verdict, game.turn),
            reason=verdict.reason,
            plies=len(game.moves),
            opening_plies=game.opening_plies,
            moves=game.moves_usi() if self._save_moves else "",
        )

    def _read_all(self) -> None:
        """Fills every array from the games in play."""
        for lane in range(self.num_games):
            self._read_lane(lane)
        self._read_moves()

    def _read_lane(self, lane: int) -> None:
        """Fills a lane's board, hands, turn and counts from its game."""
        game = self._games[lane]
        self.boards[lane], self.hands[lane], _ = game.observe()
        self.turns[lane] = game.turn
        self.plies[lane] = len(game.moves)
        self.game_index[lane] = game.index

    def _read_moves(self) -> None:
        """Fills scalars and legal labels of every lane from its game."""
        games = self._games
        scalars = bytearray()
        for game in games:
            scalars += game.scalars()
        self.scalars = np.frombuffer(scalars, dtype=np.uint8).reshape(-1, 3)
        legal = [game.legal for game in games]
        self._values = np.frombuffer(b"".join(legal), dtype=np.uint16)
        self._legal_counts = np.array([len(values) for values in legal]) // _BYTES_PER_MOVE
        np.cumsum(self._legal_counts, out=self.legal_offsets[1:])
        self._legal_lanes = np.repeat(self._lanes, self._legal_counts)
        first_entry = np.repeat(self.turns * np.int64(1 << 16), self._legal_counts)
        self.legal_labels = _LABEL_OF_MOVE[first_entry + self._values]
        self._legal_bits = None
