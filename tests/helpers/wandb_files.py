"""Reader of .wandb files, which hold wandb's records in LevelDB's log format."""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

BLOCK = 32768
FULL, FIRST, MIDDLE, LAST = 1, 2, 3, 4


def read_records(path: Path) -> Iterator[Any]:
    """Yields the records of a .wandb file, in order, as `wandb.proto.wandb_internal_pb2.Record`."""
    from wandb.proto import wandb_internal_pb2

    new_record: Any = vars(wandb_internal_pb2)["Record"]  # Made at import, unseen by type checkers.

    if len(data := path.read_bytes()) < 7:
        return
    magic, number, version = struct.unpack_from("<4sHB", data)
    assert (magic, number, version) == (b":W&B", 0xBEE1, 0)
    at, parts = 7, b""
    while at + 7 <= len(data):
        if BLOCK - at % BLOCK < 7:  # The rest of a block is too short for a header.
            at += BLOCK - at % BLOCK
            continue
        _, length, kind = struct.unpack_from("<IHB", data, at)
        chunk = data[at + 7 : at + 7 + length]
        if len(chunk) < length:  # It is still being written.
            return
        at += 7 + length
        parts = chunk if kind in (FULL, FIRST) else parts + chunk
        if kind in (FULL, LAST):
            record = new_record()
            record.ParseFromString(parts)
            yield record
