"""Bytes of the states from which processes go on: msgpack of plain values after a schema number.

A state that is sent with a rollout is one such row, the file of a checkpoint is a row of those.
Nothing is unpickled; the values are checked by the modules that know their meaning.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from reprlib import repr as shortened
from typing import Any, Final, Protocol, TypeVar

import msgpack

from keisei_ray.errors import CheckpointError

SCHEMA: Final = 1
"""Schema that this program writes, and the newest one that it reads."""
_MAX_COUNT: Final = (1 << 62) - 1


class _Owned(Protocol):
    """State of a numbered process."""

    @property
    def actor_id(self) -> int: ...


State = TypeVar("State", bound=_Owned)


@dataclass(frozen=True, slots=True)
class StateFormat:
    """Bytes of one kind of state, and the words of its errors."""

    file: str
    """Word for a file of such states, for instance "actors"."""
    owner: str
    """Process with such a state, for instance "a self-play actor"."""

    def pack(self, values: Sequence[object]) -> bytes:
        """Returns the bytes of one state's values."""
        packed: bytes = msgpack.packb([SCHEMA, *values])
        return packed

    def unpack(self, content: bytes) -> list[Any]:
        """Returns the values that `pack` was given.

        Raises:
            CheckpointError: the bytes are something else, or written by a newer program.
        """
        try:
            values = msgpack.unpackb(content)
        except (ValueError, msgpack.UnpackException) as error:
            cause = shortened(str(error))
            raise CheckpointError(f"{self.file}: not msgpack: {cause}.") from error
        first = values[0] if isinstance(values, list) and values else values
        if first is values or type(first) is not int or first < 1:
            raise self.bad("schema", first)
        if first > SCHEMA:
            raise CheckpointError(
                f"{self.file}: schema {first}; this program reads up to {SCHEMA}. Upgrade it."
            )
        return list(values[1:])

    def pack_all(self, states: Sequence[bytes]) -> bytes:
        """Returns the bytes of several states as one file."""
        return self.pack([list(states)])

    def read_all(self, content: bytes, read: Callable[[bytes], State]) -> dict[int, State]:
        """Reads what `pack_all` returned: number of the process -> state.

        Args:
            content: bytes of the file.
            read: reader of one state.

        Raises:
            CheckpointError: the bytes are something else, or written by a newer program.
        """
        values = self.unpack(content)
        packed = values[0] if len(values) == 1 else None
        if not isinstance(packed, list) or not all(isinstance(one, bytes) for one in packed):
            raise self.bad("content", packed)
        states = {state.actor_id: state for state in map(read, packed)}
        if len(states) < len(packed):
            raise self.bad(self.file, "two states of one process")
        return states

    def check_count(self, name: str, value: object) -> None:
        """Raises CheckpointError if a value is no count."""
        if type(value) is not int or not 0 <= value <= _MAX_COUNT:
            raise self.bad(name, value)

    def bad(self, name: str, value: object) -> CheckpointError:
        """Returns the error of a value that no such state has."""
        return CheckpointError(
            f"{self.file}: {name} = {shortened(value)}: not the state of {self.owner}. Resume from "
            "another checkpoint."
        )
