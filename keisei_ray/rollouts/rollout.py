"""The record that crosses processes: a rollout of self-play and its header.

This module says what a rollout is (fields, dtypes, shapes, points of view) and refuses
anything else by name. It plays nothing, packs nothing and knows neither torch nor Ray;
packed_buffer.py and packed_rollout.py turn a rollout into bytes.

Legend: T = plies of a rollout, N = games played side by side, A = 1,496 policy labels.
Arrays are time-major `[T, N, ...]` and C-contiguous. Row `[t, n]` is the position that
game `n` was in before ply `t`, seen by the side to move there, and what was done in it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from types import MappingProxyType
from typing import Final, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from keisei_ray.errors import RolloutFormatError

NUM_ACTIONS: Final = 1496
"""Policy labels: every structurally possible move from the mover's side (A)."""
NUM_PIECE_CODES: Final = 29
"""Board codes: 0 empty, 1..14 the mover's pieces, 15..28 the opponent's."""
MAX_IN_HAND: Final = 18
"""The most pieces of one kind that exist (pawns)."""
MAX_EARLIER_OCCURRENCES: Final = 3
"""`scalars[..., 0]` counts earlier occurrences of the position up to this."""
LOG_PROB_TOLERANCE: Final = 1e-4
"""How far float32 rounding may lift a log-probability above zero."""


class Field(NamedTuple):
    """What one array of a rollout looks like behind its leading `[T, N]`."""

    dtype: np.dtype[np.generic]
    trailing: tuple[int, ...]


FIELDS: Final[Mapping[str, Field]] = MappingProxyType(
    {
        "boards": Field(np.dtype(np.uint8), (81,)),
        "hands": Field(np.dtype(np.uint8), (14,)),
        "scalars": Field(np.dtype(np.uint8), (3,)),
        "legal_bits": Field(np.dtype(np.uint8), (NUM_ACTIONS // 8,)),
        "actions": Field(np.dtype(np.int16), ()),
        "behavior_log_probs": Field(np.dtype(np.float32), ()),
        "values": Field(np.dtype(np.float32), ()),
        "draw_probs": Field(np.dtype(np.float16), ()),
        "rewards": Field(np.dtype(np.float32), ()),
        "terminated": Field(np.dtype(np.bool_), ()),
        "truncated": Field(np.dtype(np.bool_), ()),
        "bootstrap_values": Field(np.dtype(np.float32), ()),
        "bootstrap_draw_probs": Field(np.dtype(np.float16), ()),
        "is_trained": Field(np.dtype(np.bool_), ()),
    }
)
"""Every array of a rollout, in the order in which it is stored."""


@dataclass(frozen=True, slots=True)
class RolloutHeader:
    """Where a rollout comes from; enough to count it without opening it."""

    actor_id: int
    """The self-play actor's number, from 0."""
    incarnation: int
    """How often that actor had been started before; grows also over a resume."""
    sequence: int
    """Rollouts that this incarnation had produced before this one."""
    weights_version: int
    """Updates behind the weights that played every ply of this rollout."""
    T: int
    """Plies of the rollout (rollout length)."""
    N: int
    """Games played side by side."""

    @property
    def timesteps(self) -> int:
        """Timesteps in the rollout: T * N."""
        return self.T * self.N

    def check(self) -> None:
        """Check that every entry is a plain integer of its range.

        Raises:
            RolloutFormatError: naming the first entry that is not.
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
    """T plies of N games, as the learner needs them.

    The record is frozen, its arrays are not: an actor allocates them once and fills
    them by slices, rollout after rollout. Whoever keeps a rollout beyond the next
    collect copies or packs it.
    """

    header: RolloutHeader
    boards: npt.NDArray[np.uint8]
    """[T, N, 81] piece codes, square = file * 9 + rank, mover's side at the bottom."""
    hands: npt.NDArray[np.uint8]
    """[T, N, 14] pieces in hand: own P L N S B R G, then the opponent's."""
    scalars: npt.NDArray[np.uint8]
    """[T, N, 3] earlier occurrences of the position (0..3), checks in a row given by the
    mover, checks in a row given by the opponent (> 0: the mover is in check)."""
    legal_bits: npt.NDArray[np.uint8]
    """[T, N, 187] `np.packbits` of the legal mask [A], most significant bit first."""
    actions: npt.NDArray[np.int16]
    """[T, N] policy label of the ply, legal by `legal_bits`."""
    behavior_log_probs: npt.NDArray[np.float32]
    """[T, N] log-probability of the action under the weights that played."""
    values: npt.NDArray[np.float32]
    """[T, N] value of the position before the ply, for its side to move, by the weights
    that played, in [-1, 1]."""
    draw_probs: npt.NDArray[np.float16]
    """[T, N] probability of a draw that goes with `values`; zeros from a scalar value head."""
    rewards: npt.NDArray[np.float32]
    """[T, N] reward to the mover of the ply, in [-1, 1]; nonzero only where `terminated`."""
    terminated: npt.NDArray[np.bool_]
    """[T, N] the rules ended the game at this ply."""
    truncated: npt.NDArray[np.bool_]
    """[T, N] the ply cap ended the game at this ply; never where `terminated`."""
    bootstrap_values: npt.NDArray[np.float32]
    """[T, N] where `cut`: value of the position after the ply, before any reset, for the
    side then to move, in [-1, 1]. Zero elsewhere."""
    bootstrap_draw_probs: npt.NDArray[np.float16]
    """[T, N] probability of a draw that goes with `bootstrap_values`. Zero where not `cut`."""
    is_trained: npt.NDArray[np.bool_]
    """[T, N] the learner's policy chose the ply. False where an opponent of the pool moved: then
    `values`, `draw_probs` and `behavior_log_probs` are 0 and nothing is trained on the row."""

    @classmethod
    def allocate(cls, T: int, N: int) -> Self:
        """A rollout of zeros with a header of zeros: storage to fill, not a valid rollout.

        Args:
            T: plies, >= 1.
            N: games side by side, >= 1.

        Raises:
            ValueError: T or N below 1.
        """
        if T < 1 or N < 1:
            raise ValueError(f"Rollout.allocate: T = {T}, N = {N}; both must be at least 1.")
        arrays = {name: np.zeros((T, N, *f.trailing), f.dtype) for name, f in FIELDS.items()}
        return cls(RolloutHeader(0, 0, 0, 0, T, N), **arrays)

    @classmethod
    def from_arrays(
        cls, header: RolloutHeader, arrays: Mapping[str, npt.NDArray[np.generic]]
    ) -> Self:
        """A rollout from its named arrays, sharing their memory. Not validated.

        Raises:
            RolloutFormatError: a field is missing or unknown.
        """
        if missing := [name for name in FIELDS if name not in arrays]:
            raise RolloutFormatError(f"{_who(header)} lacks the field {missing[0]!r}.")
        if unknown := [name for name in arrays if name not in FIELDS]:
            raise RolloutFormatError(
                f"{_who(header)} has an unknown field {unknown[0]!r}; expected {', '.join(FIELDS)}."
            )
        return cls(header, **arrays)  # type: ignore[arg-type]  # validate() checks the dtypes

    def with_header(self, header: RolloutHeader) -> Self:
        """The same arrays (shared, not copied) under another header of the same T and N.

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
        """The arrays by name, in the order of `FIELDS`, sharing memory."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name != "header"}

    @property
    def raw_bytes(self) -> int:
        """Bytes of all arrays before any compression."""
        return sum(array.nbytes for array in self.arrays().values())

    @property
    def cut(self) -> npt.NDArray[np.bool_]:
        """[T, N] bool: the trajectory is cut after the ply while the game could go on.

        True where `truncated`, and in the last row where not `terminated`.
        """
        cut = self.truncated.copy()
        cut[-1] |= ~self.terminated[-1]
        return cut

    def distinct_positions(self) -> float:
        """Distinct positions over rows: 1 where no position comes twice.

        A position is a board with its hands, from the mover's side, whatever led to it.
        """
        rows = np.concatenate([self.boards, self.hands], axis=2)
        whole = rows.reshape(-1, rows.shape[2]).view(f"V{rows.shape[2]}")
        return len(set(whole.ravel().tolist())) / len(whole)

    def validate(self) -> None:
        """Check header, shapes, dtypes, layout and values; called at each door.

        Raises:
            RolloutFormatError: naming the actor, the weights version and the first bad field.
        """
        self.header.check()
        who = _who(self.header)
        for name, array in self.arrays().items():
            _check_layout(who, name, array, (self.header.T, self.header.N))
        _check_ranges(self, who)
        _check_ends(self, who)
        _check_legality(self, who)


def _who(header: RolloutHeader) -> str:
    return f"rollout from actor {header.actor_id} (weights {header.weights_version})"


def _check_layout(
    who: str, name: str, array: npt.NDArray[np.generic], leading: tuple[int, int]
) -> None:
    """Type, dtype, shape and contiguity of one field."""
    field = FIELDS[name]
    if not isinstance(array, np.ndarray):
        raise RolloutFormatError(f"{who}: {name} is a {type(array).__name__}, expected an array.")
    if array.dtype != field.dtype:
        raise RolloutFormatError(f"{who}: {name} is {array.dtype}, expected {field.dtype}.")
    expected = (*leading, *field.trailing)
    if array.shape != expected:
        raise RolloutFormatError(
            f"{who}: {name} has shape {array.shape}, expected {expected}: time first, then games."
        )
    if not array.flags.c_contiguous:
        raise RolloutFormatError(f"{who}: {name} is not C-contiguous; pass a contiguous copy.")


def _check_ranges(rollout: Rollout, who: str) -> None:
    """Every value lies in its field's range; codes index tables on the learner's device."""
    for name in ("behavior_log_probs", "values", "rewards", "bootstrap_values"):
        array = getattr(rollout, name)
        _refuse(who, name, array, ~np.isfinite(array), "finite numbers")
    for name in ("draw_probs", "bootstrap_draw_probs"):
        array = getattr(rollout, name)
        _refuse(who, name, array, ~((array >= 0) & (array <= 1)), "probabilities in [0, 1]")
    for name in ("values", "rewards", "bootstrap_values"):
        array = getattr(rollout, name)
        _refuse(who, name, array, np.abs(array) > 1, "values in [-1, 1]")
    log_probs = rollout.behavior_log_probs
    _refuse(who, "behavior_log_probs", log_probs, log_probs > LOG_PROB_TOLERANCE, "at most 0")
    boards, hands, scalars = rollout.boards, rollout.hands, rollout.scalars
    if boards.max() >= NUM_PIECE_CODES:
        _refuse(who, "boards", boards, boards >= NUM_PIECE_CODES, f"0..{NUM_PIECE_CODES - 1}")
    _refuse(who, "hands", hands, hands > MAX_IN_HAND, f"0..{MAX_IN_HAND}")
    most = np.array([MAX_EARLIER_OCCURRENCES, 255, 255], np.uint8)
    _refuse(who, "scalars", scalars, scalars > most, f"0..{MAX_EARLIER_OCCURRENCES} occurrences")


def _check_ends(rollout: Rollout, who: str) -> None:
    """Ends of games agree with each other, with the rewards and with the bootstrap values."""
    both = rollout.terminated & rollout.truncated
    _refuse(who, "truncated", rollout.truncated, both, "False where terminated")
    paid = (rollout.rewards != 0) & ~rollout.terminated
    _refuse(who, "rewards", rollout.rewards, paid, "0 where not terminated")
    for name in ("bootstrap_values", "bootstrap_draw_probs"):
        array = getattr(rollout, name)
        loose = (array != 0) & ~rollout.cut
        _refuse(who, name, array, loose, "0 where the trajectory is not cut")
    for name in ("values", "draw_probs", "behavior_log_probs"):
        array = getattr(rollout, name)
        foreign = (array != 0) & ~rollout.is_trained
        _refuse(who, name, array, foreign, "0 where an opponent moved")


def _check_legality(rollout: Rollout, who: str) -> None:
    """Every action is a label, and its bit is set in `legal_bits`."""
    actions = rollout.actions
    outside = (actions < 0) | (actions >= NUM_ACTIONS)
    _refuse(who, "actions", actions, outside, f"labels 0..{NUM_ACTIONS - 1}")
    byte = np.take_along_axis(rollout.legal_bits, (actions >> 3)[..., None], axis=2)[..., 0]
    legal = (byte >> (7 - (actions & 7)).astype(np.uint8)) & 1
    _refuse(who, "actions", actions, legal == 0, "labels that are legal by legal_bits")


def _refuse(
    who: str,
    name: str,
    array: npt.NDArray[np.generic],
    bad: npt.NDArray[np.bool_],
    expected: str,
) -> None:
    """Raise for the first place of `array` where `bad` is True."""
    if bad.any():
        where = tuple(int(i) for i in np.argwhere(bad)[0])
        value = array[where]
        raise RolloutFormatError(
            f"{who}: {name}[{', '.join(map(str, where))}] = {value}, expected {expected}."
        )
