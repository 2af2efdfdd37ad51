"""Packs a rollout into a buffer and unpacks it: the form in which rollouts are sent and stored.

The only module that knows both the record (rollout.py) and the format (packed_buffer.py). Both
directions validate: an invalid rollout is neither packed nor returned.

Measured on self-play of an untrained network, T = N = 64, games in all phases (48 legal moves on
average), one core, zstd level 1, validation included: 310 bytes per ply become 34.7; packing takes
0.7 to 1.5 us per ply, unpacking 0.6 us. Bytes per ply by field: legal_bits 16.0, boards 6.4, values
3.5, behavior_log_probs 3.1, actions 1.5, hands 1.3, draw_probs 1.2, all others 0.3.

Alternatives, measured on random play (33.4 bytes per ply, without draw_probs):
    - fields stored game by game ([N, T]): 32.6, at the price of a second copy of all arrays in each
      direction; not used
    - XOR with the row two plies before (same side to move): boards 8.1, legal_bits 19.0; worse
    - floats not shuffled: 0.5 more; shuffling is used
    - zstd level 3: 36.9, level 5: 35.2, since the long matches of level 1 suit rows that repeat;
      level 9: 32.3 in ten times the time
"""

from collections.abc import Sequence
from dataclasses import asdict, fields
from reprlib import repr as shortened
from typing import Final

from keisei_ray.errors import RolloutFormatError
from keisei_ray.rollouts import packed_buffer
from keisei_ray.rollouts.payload import FieldLayout
from keisei_ray.rollouts.rollout import ROLLOUT_FIELDS, Rollout, RolloutHeader

KIND: Final = "rollout"
"""Kind of these buffers in their header."""
FLOAT_FIELDS: Final = (
    "behavior_log_probs",
    "values",
    "draw_probs",
    "rewards",
    "bootstrap_values",
    "bootstrap_draw_probs",
)
"""Fields that hold floats; these are stored byte-shuffled."""


def pack_rollout(rollout: Rollout, zstd_level: int) -> packed_buffer.PackedBuffer:
    """Validates and packs a rollout. The rollout's storage may be reused afterwards.

    Args:
        rollout: completely filled; not changed.
        zstd_level: 1 (fast) to 22 (small).

    Returns:
        [bytes] uint8, read-only.

    Raises:
        RolloutFormatError: the rollout is not valid.
    """
    rollout.validate()
    meta, arrays = asdict(rollout.header), rollout.arrays()
    return packed_buffer.pack(KIND, meta, arrays, zstd_level=zstd_level, shuffle=FLOAT_FIELDS)


def unpack_rollout(
    buffer: packed_buffer.BufferLike, *, max_timesteps: int | None = None
) -> Rollout:
    """Unpacks a rollout, verifies the buffer and validates the content.

    Nothing is decompressed unless the buffer's fields are exactly those of a rollout of that size.

    Args:
        buffer: what `pack_rollout` returned, or a copy of its bytes.
        max_timesteps: most timesteps (T * N) that the rollout may have; None: no limit.

    Returns:
        The rollout; its arrays are writable copies.

    Raises:
        DamagedBufferError, ForeignBufferError, NewerSchemaError: see `packed_buffer.unpack`.
        RolloutFormatError: the buffer is sound, its content is not a valid rollout.
    """

    def check(meta: dict[str, packed_buffer.Scalar], fields: Sequence[FieldLayout]) -> None:
        _check_fields(_header(meta), fields, max_timesteps)

    meta, arrays = packed_buffer.unpack(buffer, KIND, check)
    rollout = Rollout.from_arrays(_header(meta), arrays)
    rollout.validate()
    return rollout


def _header(meta: dict[str, packed_buffer.Scalar]) -> RolloutHeader:
    """Makes the typed header; checks names and types, since the header comes from outside."""
    names = [field.name for field in fields(RolloutHeader)]
    if sorted(meta) != sorted(names):
        found = shortened(sorted(meta))
        raise RolloutFormatError(f"rollout header has {found}, expected {names}.")
    header = RolloutHeader(**meta)  # type: ignore[arg-type]  # check() refuses other types
    header.check()
    return header


def _check_fields(
    header: RolloutHeader, layout: Sequence[FieldLayout], max_timesteps: int | None
) -> None:
    """Compares the fields that a buffer announces with those of a rollout of this header."""
    subject = f"rollout from actor {header.actor_id} (weights {header.weights_version})"
    if max_timesteps is not None and header.timesteps > max_timesteps:
        raise RolloutFormatError(
            f"{subject} has T = {header.T}, N = {header.N}, {header.timesteps} timesteps, "
            f"expected at most {max_timesteps}."
        )
    announced = {field.name: field for field in layout}
    if missing := [name for name in ROLLOUT_FIELDS if name not in announced]:
        raise RolloutFormatError(f"{subject} lacks the field {missing[0]!r}.")
    for name, field in announced.items():
        spec = ROLLOUT_FIELDS.get(name)
        if spec is None:
            raise RolloutFormatError(
                f"{subject} has an unknown field {shortened(name)}; expected "
                f"{', '.join(ROLLOUT_FIELDS)}."
            )
        expected = (header.T, header.N, *spec.trailing)
        if (field.dtype, field.shape) != (spec.dtype, expected):
            raise RolloutFormatError(
                f"{subject}: {name} has shape {shortened(field.shape)}, {field.dtype}, expected "
                f"{expected}, {spec.dtype}: time first, then games."
            )
