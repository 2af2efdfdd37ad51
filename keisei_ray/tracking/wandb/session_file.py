"""Reader of the files in which wandb keeps the records of a session, in LevelDB's log format.

After a `kill -9` the end of a file is missing, or is half of a record: reading ends there.
"""

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

BLOCK: Final = 32768
HEADER: Final = 7
"""Bytes of the file's header, and of that of each part of a record."""
FULL, FIRST, LAST = 1, 2, 4
"""Kinds of parts; a record has one FULL part, or FIRST, others between, and LAST."""


def last_timestep(run_dir: Path) -> int | None:
    """Returns the timestep of the last metrics in the newest session's file; None without any.

    Raises:
        OSError: a file cannot be read.
    """
    files = sorted(run_dir.glob("wandb/*run-*/*.wandb"), key=lambda path: path.stat().st_mtime)
    found = None
    for record in read_records(files[-1]) if files else ():
        for item in record.history.item:
            if (item.key or ".".join(item.nested_key)) == "timestep":
                found = int(json.loads(item.value_json))
    return found


def read_records(path: Path) -> Iterator[Any]:
    """Yields the records of a file, in order, as `wandb.proto.wandb_internal_pb2.Record`."""
    from google.protobuf.message import DecodeError
    from wandb.proto import wandb_internal_pb2

    new_record: Any = vars(wandb_internal_pb2)["Record"]  # Made at import, unseen by type checkers.

    for content in _contents(path):
        record = new_record()
        try:
            record.ParseFromString(content)
        except DecodeError:
            return
        yield record


def _contents(path: Path) -> Iterator[bytes]:
    """Yields the bytes of each whole record."""
    with path.open("rb") as file:
        header = file.read(HEADER)
        if len(header) < HEADER or struct.unpack("<4sHB", header) != (b":W&B", 0xBEE1, 0):
            return
        at, content = HEADER, b""
        while True:
            if BLOCK - at % BLOCK < HEADER:  # The rest of a block is too short for a header.
                at += len(file.read(BLOCK - at % BLOCK))
            header = file.read(HEADER)
            if len(header) < HEADER:
                return
            _, length, kind = struct.unpack("<IHB", header)
            part = file.read(length)
            if len(part) < length:
                return
            at += HEADER + length
            content = part if kind in (FULL, FIRST) else content + part
            if kind in (FULL, LAST):
                yield content
