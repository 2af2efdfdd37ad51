"""The manifest of a checkpoint: size and SHA-256 of its files, and a digest of itself.

    {"schema": 1, "timestep": ..., "info": {...},
     "files": {name: {"sha256": ..., "bytes": ...}}, "digest": ...}

`digest` is the SHA-256 of the rest in canonical JSON, so damage to the manifest itself is found
too. `checkpoint.py` decides when and where manifests are written and read.
"""

import contextlib
import errno
import hashlib
import json
import re
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from reprlib import repr as shortened
from typing import Any, Final, TypeAlias

from keisei_ray.config.json_text import read_json
from keisei_ray.errors import CheckpointError, UnreadableCheckpointError
from keisei_ray.storage.run_layout import MANIFEST_FILE

SCHEMA: Final = 1
"""Manifest schema that this program writes, and the newest one that it reads."""

MAX_MANIFEST_BYTES: Final = 1 << 20
"""Largest manifest that is read. One of a training checkpoint takes about 1.5 KB."""

_NO_SUCH_FILE: Final = (
    errno.ENOENT,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.ENAMETOOLONG,
    errno.ELOOP,
)
"""Numbers of errors that say that there is no such file. Others say that it cannot be read now."""

Scalar: TypeAlias = str | int | float | bool | None


def make_manifest(
    timestep: int, files: Mapping[str, bytes], info: Mapping[str, Scalar]
) -> dict[str, Any]:
    """Returns the manifest of a checkpoint with these files.

    Args:
        timestep: >= 0.
        files: plain file name to content; at least one.
        info: JSON scalars, finite.

    Raises:
        ValueError: a name or value that no checkpoint can hold.
    """
    if timestep < 0 or not files:
        raise ValueError(f"a checkpoint at timestep {timestep} with {len(files)} files.")
    if bad := [name for name in files if not _is_plain_name(name)]:
        raise ValueError(f"{bad[0]!r} is not a plain file name.")
    if bad := [key for key, v in info.items() if not isinstance(v, Scalar)]:
        raise ValueError(f"info {bad[0]!r} = {info[bad[0]]!r} is not a JSON scalar.")
    entries = {
        name: {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
        for name, content in files.items()
    }
    body = {"schema": SCHEMA, "timestep": timestep, "info": dict(info), "files": entries}
    return body | {"digest": _digest(body)}


def _digest(body: Mapping[str, Any]) -> str:
    """Returns the SHA-256 of a manifest without its digest, written as canonical JSON."""
    text = json.dumps(body, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _is_plain_name(name: str) -> bool:
    return bool(re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", name)) and name != MANIFEST_FILE


def manifest_bytes(manifest: Mapping[str, Any]) -> bytes:
    """Returns the content of the manifest's file."""
    return (json.dumps(manifest, indent=2) + "\n").encode()


@contextlib.contextmanager
def _read_errors_named(path: Path) -> Iterator[None]:
    """Turns an OSError of reading a file into a CheckpointError.

    Raises:
        UnreadableCheckpointError: the file may be there and intact.
        CheckpointError: there is no such file.
    """
    try:
        yield
    except FileNotFoundError as error:
        raise CheckpointError(f"{path} is missing.") from error
    except OSError as error:
        cause = error.strerror or error
        if error.errno in _NO_SUCH_FILE:
            raise CheckpointError(f"cannot read {path}: {cause}.") from error
        raise UnreadableCheckpointError(
            f"cannot read {path}: {cause}. Check its rights, and the disk or network it is on."
        ) from error


def _is_directory(path: Path) -> bool:
    """Returns whether a path is a directory.

    Raises:
        UnreadableCheckpointError: the system does not say.
    """
    with _read_errors_named(path):
        try:
            return stat.S_ISDIR(path.stat().st_mode)
        except ValueError:  # It has a character that no path has.
            return False
        except OSError as error:
            if error.errno in _NO_SUCH_FILE:
                return False
            raise


def check_size(path: Path, size: int) -> None:
    """Refuses a file of a checkpoint whose size is not the one that its manifest says.

    Raises:
        CheckpointError: missing, not a file, or not `size` bytes long.
        UnreadableCheckpointError: it cannot be looked at.
    """
    with _read_errors_named(path):
        if path.exists() and not path.is_file():
            raise CheckpointError(f"{path} is not a file.")
        if (found := path.stat().st_size) != size:
            raise CheckpointError(f"{path}: {found} bytes, the manifest says {size}: truncated?")


def read_file(path: Path, size: int) -> bytes:
    """Reads a file, unless its size is not the expected one.

    Raises:
        CheckpointError: missing, or not `size` bytes long.
        UnreadableCheckpointError: it cannot be read.
    """
    check_size(path, size)
    with _read_errors_named(path):
        return path.read_bytes()


def _read_small_json(path: Path) -> Any:
    """Reads a manifest as JSON; a file beyond MAX_MANIFEST_BYTES is none.

    Raises:
        ValueError: not JSON.
        CheckpointError: missing.
        UnreadableCheckpointError: it cannot be read.
    """
    with _read_errors_named(path):
        if path.exists() and not path.is_file():
            raise CheckpointError(f"{path} is not a file.")
        return read_json(path, MAX_MANIFEST_BYTES)


def read_manifest(path: Path) -> dict[str, Any]:
    """Reads the manifest of a checkpoint directory and verifies its digest and structure.

    Raises:
        CheckpointError: missing, damaged, written by a newer program, or with a name that is not
            a plain file name.
        UnreadableCheckpointError: it cannot be read.
    """
    if not _is_directory(path):
        raise CheckpointError(
            f"no checkpoint at {path}: not a directory. Name a run, a checkpoint of one, or latest."
        )
    where = path / MANIFEST_FILE
    try:
        manifest = _read_small_json(where)
    except ValueError as error:
        raise CheckpointError(f"{where} is not JSON: {error}.") from error
    schema = manifest.get("schema") if isinstance(manifest, dict) else None
    if type(schema) is int and schema > SCHEMA:
        raise CheckpointError(
            f"{where} has schema {schema}; this program reads up to {SCHEMA}. Upgrade it."
        )
    if type(schema) is not int or schema < 1:
        raise CheckpointError(
            f"{where} is not a checkpoint's manifest: schema {shortened(schema)}."
        )
    body = {key: value for key, value in manifest.items() if key != "digest"}
    if manifest.get("digest") != _digest_or_none(body):
        raise CheckpointError(f"{where} does not match its own digest: changed or damaged.")
    if complaint := _complaint(body):
        raise CheckpointError(f"{where}: {complaint}.")
    return dict(manifest)


def _digest_or_none(body: Mapping[str, Any]) -> str | None:
    """Returns the digest; None if the manifest has no canonical JSON, as where it holds NaN."""
    try:
        return _digest(body)
    except (ValueError, RecursionError):
        return None


def _complaint(manifest: Mapping[str, Any]) -> str | None:
    """Returns a complaint about the structure of a manifest; None if there is none."""
    files, info = manifest.get("files"), manifest.get("info")
    if type(manifest.get("timestep")) is not int or manifest["timestep"] < 0:
        return f"timestep = {shortened(manifest.get('timestep'))}, expected an integer >= 0"
    if not isinstance(info, dict) or not isinstance(files, dict) or not files:
        return "expected a mapping 'info' and a non-empty mapping 'files'"
    if any(not isinstance(value, Scalar) for value in info.values()):
        return "'info' holds a value that is not a scalar"
    for name, entry in files.items():
        if not _is_plain_name(name):
            return f"{shortened(name)} is not a plain file name"
        if (
            not isinstance(entry, dict)
            or type(entry.get("bytes")) is not int
            or not isinstance(entry.get("sha256"), str)
        ):
            return f"the entry of {shortened(name)} lacks its bytes or sha256"
    return None
