"""Seeded mutations of what the program's readers read, by structure and with valid checksums.

A random byte hardly gets past a checksum. So these change the values inside a format and write its
lengths, digests and CRCs anew.
"""

import hashlib
import io
import json
import random
import struct
import zipfile
from collections.abc import Callable
from typing import Any

import msgpack
import numpy as np
import torch
import zstandard

from keisei_ray.rollouts.packed_buffer import MAGIC

ESCAPES = ("\x1b[2J", "\x1b]52;c;aGk=\x07", "\x1b]0;title\x07", "\r\x08\x7f\x9b31m", "a\nb")
"""Texts that a terminal obeys."""
TEXTS = ("", "[/]", "[bold", "../../x", "\0", "\ud800", "\u202ev", "v12", ":smile:", *ESCAPES)
NUMBERS = (0, 1, -1, 2, 7, 255, 1 << 31, (1 << 63) - 1, -(1 << 63), 1 << 63, 1 << 64, 10**400)
FLOATS = (0.0, -0.5, 1e-320, 1e38, 1e308, -1e308, float("inf"), float("-inf"), float("nan"))
POISONS: tuple[Any, ...] = (None, True, False, [], {}, [[]], {"": {}}, *TEXTS, *NUMBERS, *FLOATS)
"""Values of every JSON type, with the limits of each."""


def mutated(value: Any, rng: random.Random, poisons: tuple[Any, ...] = POISONS) -> Any:
    """Returns nested dicts and lists in which one to three places differ; `value` is not changed.

    What does not differ is shared with `value`.
    """
    for _ in range(rng.randint(1, 3)):
        value = _mutated_once(value, rng, poisons)
    return value


def _mutated_once(value: Any, rng: random.Random, poisons: tuple[Any, ...]) -> Any:
    if not isinstance(value, dict | list | tuple) or not value or rng.random() < 0.05:
        return _poison(value, rng, poisons)
    changed: Any = dict(value) if isinstance(value, dict) else list(value)
    key = rng.choice(list(value)) if isinstance(value, dict) else rng.randrange(len(value))
    action = rng.random()
    if action < 0.6:
        changed[key] = _mutated_once(value[key], rng, poisons)
    elif action < 0.75:
        changed[key] = _poison(value[key], rng, poisons)
    elif action < 0.85:
        del changed[key]
    elif isinstance(changed, dict):
        name = rng.choice((*value, *TEXTS))
        changed[name] = rng.choice((value[key], rng.choice(poisons)))
    else:
        changed.insert(key, rng.choice((value[key], rng.choice(poisons))))
    return changed


def _poison(value: Any, rng: random.Random, poisons: tuple[Any, ...]) -> Any:
    if type(value) is int and rng.random() < 0.5:
        return value + rng.choice((-1, 1, 2, value, 10**6))
    if type(value) is float and rng.random() < 0.5:
        return value * rng.choice((-1.0, 2.0, 1e300, 1e-300))
    if type(value) is str and rng.random() < 0.5:
        cut = rng.randint(0, len(value))
        return value[:cut] + rng.choice(TEXTS) + value[cut:]
    return rng.choice(poisons)


def mutated_bytes(content: bytes, rng: random.Random) -> bytes:
    """Returns bytes with a few changed, cut out or doubled."""
    data = bytearray(content)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(data) + 1)
        match rng.randrange(4):
            case 0 if data:
                data[min(at, len(data) - 1)] = rng.randrange(256)
            case 1:
                del data[at : at + rng.choice((1, 4, 64))]
            case 2:
                data[at:at] = data[at : at + rng.choice((1, 4, 64))]
            case _:
                data[at : at + 8] = rng.randbytes(8)
    return bytes(data)


def json_bytes(value: Any) -> bytes:
    """Returns JSON as a file may hold it, NaN and halves of surrogate pairs included."""
    return json.dumps(value).encode()


def mutated_json(value: Any, rng: random.Random) -> bytes:
    """Returns the text of a mutated value; now and then of something that is no JSON."""
    chance = rng.random()
    if chance < 0.03:
        return b"[" * rng.choice((5, 100_000)) + b"1" * rng.choice((1, 5_000))
    content = json_bytes(mutated(value, rng))
    return mutated_bytes(content, rng) if chance < 0.1 else content


def _digest(*parts: bytes) -> bytes:
    return hashlib.blake2b(b"".join(parts), digest_size=16).digest()


def split_packed(buffer: bytes) -> tuple[dict[str, Any], bytes]:
    """Returns header and payload of a packed buffer."""
    _, size = struct.unpack_from("<4sI", buffer)
    return msgpack.unpackb(buffer[24 : 24 + size]), buffer[24 + size :]


def joined_packed(header: Any, payload: bytes) -> bytes:
    """Returns a packed buffer with a valid digest of its header."""
    head = header if isinstance(header, bytes) else msgpack_bytes(header)
    prefix = struct.pack("<4sI", MAGIC, len(head))
    return prefix + _digest(prefix, head) + head + payload


def mutated_packed(buffer: bytes, rng: random.Random) -> bytes:
    """Returns a packed buffer with mutated header, payload or content, digests valid."""
    header, payload = split_packed(buffer)
    chance = rng.random()
    if chance < 0.1:
        return mutated_bytes(buffer, rng)
    if chance < 0.2:
        return joined_packed(mutated_bytes(msgpack_bytes(header), rng), payload)
    if chance < 0.5:
        raw = bytearray(zstandard.ZstdDecompressor().decompress(payload))
        for _ in range(rng.randint(1, 8)):
            raw[rng.randrange(len(raw))] = rng.randrange(256)
        payload = zstandard.ZstdCompressor().compress(bytes(raw))
    elif chance < 0.6:
        payload = mutated_bytes(payload, rng)
    header |= {"checksum": _digest(payload), "payload_bytes": len(payload)}
    if chance > 0.4:
        header = mutated(header, rng, (*POISONS, b"x", bytes(16)))
    return joined_packed(header, payload)


def msgpack_bytes(value: Any) -> bytes:
    """Packs a value; integers and texts that msgpack cannot hold are replaced."""
    packed: bytes = msgpack.packb(_packable(value))
    return packed


def _packable(value: Any) -> Any:
    if isinstance(value, dict):
        return {_packable(key): _packable(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_packable(inner) for inner in value]
    if type(value) is int:
        return min(max(value, -(1 << 63)), (1 << 64) - 1)
    return value.encode(errors="replace").decode() if isinstance(value, str) else value


def mutated_safetensors(content: bytes, rng: random.Random) -> bytes:
    """Returns a safetensors file with a mutated header or weights, its length right."""
    size = int.from_bytes(content[:8], "little")
    header, data = json.loads(content[8 : 8 + size]), content[8 + size :]
    chance = rng.random()
    if chance < 0.1:
        return mutated_bytes(content, rng)
    if chance < 0.3:
        data = mutated_bytes(data, rng)
    elif chance < 0.6:
        inner = json.loads(header["__metadata__"]["keisei_ray"])
        header["__metadata__"]["keisei_ray"] = mutated_json(inner, rng).decode(errors="replace")
    else:
        header = mutated(header, rng, (*POISONS, "F16", "BOOL", "F8_E4M3", "I64", [1 << 40, 0]))
    head = json_bytes(header)
    return len(head).to_bytes(8, "little") + head + data


def torch_mutator(content: bytes) -> Callable[[random.Random], bytes]:
    """Returns what mutates a file of `torch.save`: its state, or its pickle with a valid CRC."""
    state = torch.load(io.BytesIO(content), weights_only=True)
    tensors = (
        torch.zeros(()),
        torch.zeros(3, dtype=torch.int64),
        torch.zeros(5056, dtype=torch.uint8),
        torch.ones(1).expand(7, 7),
        torch.full((2, 2), float("nan"), dtype=torch.float64),
        torch.zeros(0),
    )
    poisons = (*POISONS, *tensors, {0: {}}, (1, 2), np.float64(1.0), {"exp_avg": torch.zeros(2)})
    # The pickle comes last in this archive, so that only the pickle is written anew.
    rest = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(rest, "w") as new:
        [name] = (name for name in old.namelist() if name.endswith(".pkl"))
        pickled = old.read(name)
        for other in old.namelist():
            if other != name:
                new.writestr(other, old.read(other))

    def mutate(rng: random.Random) -> bytes:
        chance = rng.random()
        if chance < 0.1:
            return mutated_bytes(content, rng)
        if chance > 0.5:
            saved = io.BytesIO()
            torch.save(mutated(state, rng, poisons), saved)
            return saved.getvalue()
        archive = io.BytesIO(rest.getvalue())
        with zipfile.ZipFile(archive, "a") as added:
            added.writestr(name, _mutated_pickle(pickled, rng))
        return archive.getvalue()

    return mutate


def _mutated_pickle(content: bytes, rng: random.Random) -> bytes:
    """Returns a pickle with other sizes, names or bytes."""
    swaps = (
        (b"torch._utils\n_rebuild_tensor_v2", b"torch._utils\n_rebuild_parameter"),
        (b"torch._utils\n_rebuild_tensor_v2", b"torch._utils\n_rebuild_meta_tensor_no_storage"),
        (b"torch\nFloatStorage", b"torch\nDoubleStorage"),
        (b"collections\nOrderedDict", b"collections\nCounter"),
        (b"collections\nOrderedDict", b"__builtin__\nbytearray"),
        (b"K\x01", b"J\xff\xff\xff\x7f"),
        (b"K\x10", b"J\xff\xff\xff\x7f"),
        (b"K\x03", b"\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f"),
    )
    old, new = rng.choice(swaps)
    if rng.random() < 0.5 and old in content:
        at = rng.choice([i for i in range(len(content)) if content.startswith(old, i)])
        return content[:at] + new + content[at + len(old) :]
    return mutated_bytes(content, rng)


def rezipped(
    content: bytes, change: Callable[[str, bytes], bytes], compression: int = zipfile.ZIP_STORED
) -> bytes:
    """Returns a zip archive with changed entries and valid CRCs."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(out, "w", compression) as new:
        for name in old.namelist():
            new.writestr(name, change(name, old.read(name)))
    return out.getvalue()
