"""The record that travels from a self-play actor to the learner: a rollout and its header.

This module defines a rollout (fields, dtypes, shapes, points of view) and refuses anything else by
an error that names the field. It plays nothing, packs nothing, and knows neither torch nor Ray;
`packed_rollout.py` turns a rollout into bytes.

T: plies of a rollout. N: games played side by side, one in each lane. A: policy labels (1,496).

Arrays are time-major, [T, N, ...], and C-contiguous. Row [t, n] describes the t-th ply of the
rollout in lane n: the position before the ply, seen by the side to move, the ply, and its result.
Time slice t is [t] of every field: the t-th ply in all lanes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from types import MappingProxyType
from typing import Final, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from keisei_ray.errors import RolloutFormatError

NUM_ACTIONS: Final = 1496
"""A: policy labels, one for every structurally possible move, seen from the side to move."""
NUM_PIECE_CODES: Final = 29
"""Board codes: 0 empty, 1..14 the mover's pieces, 15..28 the opponent's."""
MAX_IN_HAND: Final = 18
"""Largest number of pieces of one kind in a hand (pawns)."""
MAX_EARLIER_OCCURRENCES: Final = 3
"""Largest count of earlier occurrences of a position, in `scalars[..., 0]`."""
LOG_PROB_TOLERANCE: Final = 1e-4
"""Largest log-probability that is accepted; rounding in float32 may lift it above zero."""


class FieldSpec(NamedTuple):
    """Type and shape of one array of a rollout."""

    dtype: np.dtype[np.generic]
    """Dtype of the array."""
    trailing: tuple[int, ...]
    """Shape after the leading [T, N]."""


ROLLOUT_FIELDS: Final[Mapping[str, FieldSpec]] = MappingProxyType(
    {
        "boards": FieldSpec(np.dtype(np.uint8), (81,)),
        "hands": FieldSpec(np.dtype(np.uint8), (14,)),
        "scalars": FieldSpec(np.dtype(np.uint8), (3,)),
        "legal_bits": FieldSpec(np.dtype(np.uint8), (NUM_ACTIONS // 8,)),
        "actions": FieldSpec(np.dtype(np.int16), ()),
        "behavior_log_probs": FieldSpec(np.dtype(np.float32), ()),
        "values": FieldSpec(np.dtype(np.float32), ()),
        "draw_probs": FieldSpec(np.dtype(np.float16), ()),
        "rewards": FieldSpec(np.dtype(np.float32), ()),
        "terminated": FieldSpec(np.dtype(np.bool_), ()),
        "truncated": FieldSpec(np.dtype(np.bool_), ()),
        "bootstrap_values": FieldSpec(np.dtype(np.float32), ()),
        "bootstrap_draw_probs": FieldSpec(np.dtype(np.float16), ()),
        "is_trained": FieldSpec(np.dtype(np.bool_), ()),
        "is_forced": FieldSpec(np.dtype(np.bool_), ()),
    }
)
"""Every array of a rollout, in the order in which it is stored."""


@dataclass(frozen=True, slots=True)
class RolloutHeader:
    """The origin and the size of a rollout; enough to count it without unpacking it."""

    actor_id: int
    """Number of the self-play actor, from 0."""
    incarnation: int
    """Start number of the actor's process, from 0, counted over all sessions of the run."""
    sequence: int
    """Rollouts that this incarnation had produced before this one."""
    weights_version: int
    """Updates behind the weights that played every ply of this rollout."""
    T: int
    """Plies of the rollout, played in each game."""
    N: int
    """Games played side by side."""

    @property
    def timesteps(self) -> int:
        """Timesteps of the rollout: T * N, one for each row."""
        return self.T * self.N

    def check(self) -> None:
        """Checks that every entry is a plain integer in its range.

        Raises:
            RolloutFormatError: names the first entry that is not.
        """
        for f in fields(self):
            value = getattr(self, f.name)
            least = 1 if f.name in ("T", "N") else 0
            if type(value) is not int or value < least:
                raise RolloutFormatError(
                    f"rollout header: {f.name} = {value!r}, expected an integer >= {least}."
                )


@dataclass(frozen=True, eq=False)
class Rollout:
    """T plies of N games.

    The record is frozen, its arrays are not: an actor allocates them once and fills them by slices,
    rollout after rollout. To keep a rollout beyond the actor's next one, copy or pack it.
    """

    header: RolloutHeader
    """Origin and size."""
    boards: npt.NDArray[np.uint8]
    """[T, N, 81] piece codes; square = file * 9 + rank; the mover plays towards rank 0."""
    hands: npt.NDArray[np.uint8]
    """[T, N, 14] pieces in hand: the mover's P L N S B R G, then the opponent's."""
    scalars: npt.NDArray[np.uint8]
    """[T, N, 3] earlier occurrences of the position (0..3); checks in a row given by the mover;
    checks in a row given by the opponent (> 0: the mover is in check)."""
    legal_bits: npt.NDArray[np.uint8]
    """[T, N, 187] `np.packbits` of the legal mask [A], most significant bit first."""
    actions: npt.NDArray[np.int16]
    """[T, N] policy label of the ply; its bit is set in `legal_bits`."""
    behavior_log_probs: npt.NDArray[np.float32]
    """[T, N] log-probability of the action, over legal moves, under the weights that played."""
    values: npt.NDArray[np.float32]
    """[T, N] value of the position before the ply, for its side to move, in [-1, 1], from the
    weights that played."""
    draw_probs: npt.NDArray[np.float16]
    """[T, N] probability of a draw in the same position; 0 from a scalar value head."""
    rewards: npt.NDArray[np.float32]
    """[T, N] reward to the side that played the ply, in [-1, 1]; 0 where not `terminated`."""
    terminated: npt.NDArray[np.bool_]
    """[T, N] whether the rules ended the game at this ply."""
    truncated: npt.NDArray[np.bool_]
    """[T, N] whether the ply cap ended the game at this ply; never where `terminated`."""
    bootstrap_values: npt.NDArray[np.float32]
    """[T, N] value of the position after the ply, for the side then to move, in [-1, 1], where
    `is_cut`; 0 elsewhere. Never the value of the next game's first position."""
    bootstrap_draw_probs: npt.NDArray[np.float16]
    """[T, N] probability of a draw in the same position, where `is_cut`; 0 elsewhere."""
    is_trained: npt.NDArray[np.bool_]
    """[T, N] whether the learner's policy chose the ply. False where a pool member moved: there
    `values`, `draw_probs` and `behavior_log_probs` are 0, and nothing is trained on the row."""
    is_forced: npt.NDArray[np.bool_]
    """[T, N] the ply is a mate in one that self-play played whatever the policy said
    (`self_play.finish_mates`). Only where `is_trained`."""

    @classmethod
    def allocate(cls, T: int, N: int) -> Self:
        """Allocates arrays of zeros: storage to be filled, not a valid rollout.

        Args:
            T: plies, >= 1.
            N: games side by side, >= 1.

        Raises:
            ValueError: T or N below 1.
        """
        if T < 1 or N < 1:
            raise ValueError(f"Rollout.allocate: T = {T}, N = {N}; both must be at least 1.")
        arrays = {
            name: np.zeros((T, N, *f.trailing), f.dtype) for name, f in ROLLOUT_FIELDS.items()
        }
        return cls(RolloutHeader(0, 0, 0, 0, T, N), **arrays)

    @classmethod
    def from_arrays(
        cls, header: RolloutHeader, arrays: Mapping[str, npt.NDArray[np.generic]]
    ) -> Self:
        """Makes a rollout that shares the memory of named arrays. Does not validate it.

        Raises:
            RolloutFormatError: a field is missing or unknown.
        """
        if missing := [name for name in ROLLOUT_FIELDS if name not in arrays]:
            raise RolloutFormatError(f"{_subject(header)} lacks the field {missing[0]!r}.")
        if unknown := [name for name in arrays if name not in ROLLOUT_FIELDS]:
            raise RolloutFormatError(
                f"{_subject(header)} has an unknown field {unknown[0]!r}; expected "
                f"{', '.join(ROLLOUT_FIELDS)}."
            )
        return cls(header, **arrays)  # type: ignore[arg-type]  # validate() checks the dtypes

    def with_header(self, header: RolloutHeader) -> Self:
        """Returns the same arrays (shared, not copied) under another header of the same T and N.

        Raises:
            ValueError: the header's T or N differ from the storage.
        """
        if (header.T, header.N) != (self.header.T, self.header.N):
            raise ValueError(
                f"header says T = {header.T}, N = {header.N}; the storage was allocated for "
                f"T = {self.header.T}, N = {self.header.N}."
            )
        return replace(self, header=header)

    def arrays(self) -> dict[str, npt.NDArray[np.generic]]:
        """Returns the arrays by name, in the order of `ROLLOUT_FIELDS`, sharing their memory."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name != "header"}

    @property
    def raw_bytes(self) -> int:
        """Bytes of all arrays before any compression."""
        return sum(array.nbytes for array in self.arrays().values())

    @property
    def is_cut(self) -> npt.NDArray[np.bool_]:
        """[T, N] bool: whether the trajectory is cut after the ply although the game is undecided.

        True where `truncated`, and in the last time slice where not `terminated`.
        """
        cut = self.truncated.copy()
        cut[-1] |= ~self.terminated[-1]
        return cut

    def distinct_positions(self) -> float:
        """Number of distinct positions divided by the number of rows, in (0, 1].

        A position is a board with its hands, from the side to move; the moves before do not count.
        """
        rows = np.concatenate([self.boards, self.hands], axis=2)
        whole = rows.reshape(-1, rows.shape[2]).view(f"V{rows.shape[2]}")
        return len(set(whole.ravel().tolist())) / len(whole)

    def validate(self) -> None:
        """Checks header, shapes, dtypes, memory layout and values.

        Called whenever a rollout is packed and whenever one is unpacked.

        Raises:
            RolloutFormatError: names the actor, the weights version and the first bad field.
        """
        self.header.check()
        subject = _subject(self.header)
        for name, array in self.arrays().items():
            _check_layout(subject, name, array, (self.header.T, self.header.N))
        _check_ranges(self, subject)
        _check_ends(self, subject)
        _check_legality(self, subject)


def _subject(header: RolloutHeader) -> str:
    """Words that name a rollout in an error message."""
    return f"rollout from actor {header.actor_id} (weights {header.weights_version})"


def _check_layout(
    subject: str, name: str, array: npt.NDArray[np.generic], leading: tuple[int, int]
) -> None:
    """Checks type, dtype, shape and contiguity of one field."""
    field = ROLLOUT_FIELDS[name]
    if not isinstance(array, np.ndarray):
        raise RolloutFormatError(
            f"{subject}: {name} is a {type(array).__name__}, expected an array."
        )
    if array.dtype != field.dtype:
        raise RolloutFormatError(f"{subject}: {name} is {array.dtype}, expected {field.dtype}.")
    expected = (*leading, *field.trailing)
    if array.shape != expected:
        raise RolloutFormatError(
            f"{subject}: {name} has shape {array.shape}, expected {expected}: "
            "time first, then games."
        )
    if not array.flags.c_contiguous:
        raise RolloutFormatError(f"{subject}: {name} is not C-contiguous; pass a contiguous copy.")


def _check_ranges(rollout: Rollout, subject: str) -> None:
    """Checks that every value lies in the range of its field; codes are used as indices later."""
    for name in ("behavior_log_probs", "values", "rewards", "bootstrap_values"):
        array = getattr(rollout, name)
        _refuse(subject, name, array, ~np.isfinite(array), "finite numbers")
    for name in ("draw_probs", "bootstrap_draw_probs"):
        array = getattr(rollout, name)
        _refuse(subject, name, array, ~((array >= 0) & (array <= 1)), "probabilities in [0, 1]")
    for name in ("values", "rewards", "bootstrap_values"):
        array = getattr(rollout, name)
        _refuse(subject, name, array, np.abs(array) > 1, "values in [-1, 1]")
    log_probs = rollout.behavior_log_probs
    _refuse(subject, "behavior_log_probs", log_probs, log_probs > LOG_PROB_TOLERANCE, "at most 0")
    boards, hands, scalars = rollout.boards, rollout.hands, rollout.scalars
    if boards.max() >= NUM_PIECE_CODES:
        _refuse(subject, "boards", boards, boards >= NUM_PIECE_CODES, f"0..{NUM_PIECE_CODES - 1}")
    _refuse(subject, "hands", hands, hands > MAX_IN_HAND, f"0..{MAX_IN_HAND}")
    most = np.array([MAX_EARLIER_OCCURRENCES, 255, 255], np.uint8)
    _refuse(
        subject, "scalars", scalars, scalars > most, f"0..{MAX_EARLIER_OCCURRENCES} occurrences"
    )


def _check_ends(rollout: Rollout, subject: str) -> None:
    """Checks that ends of games, rewards, bootstrap values and opponents' plies agree."""
    both = rollout.terminated & rollout.truncated
    _refuse(subject, "truncated", rollout.truncated, both, "False where terminated")
    paid = (rollout.rewards != 0) & ~rollout.terminated
    _refuse(subject, "rewards", rollout.rewards, paid, "0 where not terminated")
    for name in ("bootstrap_values", "bootstrap_draw_probs"):
        array = getattr(rollout, name)
        loose = (array != 0) & ~rollout.is_cut
        _refuse(subject, name, array, loose, "0 where the trajectory is not cut")
    for name in ("values", "draw_probs", "behavior_log_probs"):
        array = getattr(rollout, name)
        foreign = (array != 0) & ~rollout.is_trained
        _refuse(subject, name, array, foreign, "0 where an opponent moved")
    forced = rollout.is_forced & ~rollout.is_trained
    _refuse(subject, "is_forced", rollout.is_forced, forced, "False where an opponent moved")


def _check_legality(rollout: Rollout, subject: str) -> None:
    """Checks that every action is a label whose bit is set in `legal_bits`."""
    actions = rollout.actions
    outside = (actions < 0) | (actions >= NUM_ACTIONS)
    _refuse(subject, "actions", actions, outside, f"labels 0..{NUM_ACTIONS - 1}")
    byte = np.take_along_axis(rollout.legal_bits, (actions >> 3)[..., None], axis=2)[..., 0]
    legal = (byte >> (7 - (actions & 7)).astype(np.uint8)) & 1
    _refuse(subject, "actions", actions, legal == 0, "labels that are legal by legal_bits")


def _refuse(
    subject: str,
    name: str,
    array: npt.NDArray[np.generic],
    bad: npt.NDArray[np.bool_],
    expected: str,
) -> None:
    """Raises for the first element of `array` where `bad` is True, if there is any."""
    if bad.any():
        where = tuple(int(i) for i in np.argwhere(bad)[0])
        value = array[where]
        raise RolloutFormatError(
            f"{subject}: {name}[{', '.join(map(str, where))}] = {value}, expected {expected}."
        )
