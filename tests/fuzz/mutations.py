"""Damage: bytes of any file, members of a zip archive, parts of a JSON text."""

from __future__ import annotations

import io
import json
import random
import struct
import zipfile
from collections.abc import Callable
from typing import Any

ODD_NUMBERS = (
    0,
    1,
    -1,
    2**31 - 1,
    -(2**31),
    2**32,
    2**63 - 1,
    -(2**63),
    10**30,
    0.5,
    float("nan"),
    float("inf"),
)
ODD_TEXTS = (
    "",
    "\0",
    "\x1b[2J",
    "a" * 10_000,
    "../../etc/passwd",
    "ä\ud800",
    "__lambda__",
    "keras.utils",
    "é" * 300,
)


def some_bytes(data: bytes, rng: random.Random) -> bytes:
    """The data with one to eight faults."""
    for _ in range(rng.choice((1, 1, 2, 3, 8))):
        data = rng.choice(_FAULTS)(bytearray(data or b"\0"), rng)
    return bytes(data)


def _flip(data: bytearray, rng: random.Random) -> bytearray:
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return data


def _overwrite(data: bytearray, rng: random.Random) -> bytearray:
    at = rng.randrange(len(data))
    number = struct.pack("<q", rng.choice((0, -1, 1, 255, 2**31 - 1, 2**32 - 1, 2**62, rng.randrange(2**32))))
    return (
        data[:at] + number[: rng.choice((1, 2, 4, 8))] + data[at + 8 :]
        if rng.random() < 0.2
        else _put(data, at, number[: rng.choice((1, 2, 4, 8))])
    )


def _put(data: bytearray, at: int, new: bytes) -> bytearray:
    data[at : at + len(new)] = new
    return data


def _cut(data: bytearray, rng: random.Random) -> bytearray:
    return data[: rng.randrange(len(data))]


def _remove(data: bytearray, rng: random.Random) -> bytearray:
    at = rng.randrange(len(data))
    del data[at : at + rng.choice((1, 4, 100, 5000))]
    return data


def _copy(data: bytearray, rng: random.Random) -> bytearray:
    """A piece of the file again, somewhere else."""
    start, at, length = rng.randrange(len(data)), rng.randrange(len(data)), rng.choice((4, 16, 200, 4000))
    piece = data[start : start + length]
    return data[:at] + piece + data[at if rng.random() < 0.5 else at + length :]


def _noise(data: bytearray, rng: random.Random) -> bytearray:
    at = rng.randrange(len(data))
    return _put(data, at, rng.randbytes(min(rng.choice((4, 50, 500)), len(data) - at)))


_FAULTS: tuple[Callable, ...] = (_flip, _flip, _overwrite, _overwrite, _cut, _remove, _copy, _noise)


def some_text(text: str, rng: random.Random) -> str:
    """The text with faults; a third of them whole lines or numbers in it."""
    if rng.random() < 0.66:
        return some_bytes(text.encode(), rng).decode(errors="replace")
    lines = text.split("\n")
    at = rng.randrange(len(lines))
    if rng.random() < 0.5:
        lines[at] = rng.choice((*ODD_TEXTS, *map(str, ODD_NUMBERS)))
    else:
        words = lines[at].split(" ")
        words[rng.randrange(len(words))] = rng.choice((*ODD_TEXTS, *map(str, ODD_NUMBERS)))
        lines[at] = " ".join(words)
    return "\n".join(lines).encode(errors="replace").decode()


def some_json(value: Any, rng: random.Random) -> Any:
    """The value with one to four parts removed, exchanged or replaced."""
    for _ in range(rng.choice((1, 1, 2, 4))):
        value = _one_part(value, rng)
    return value


def _one_part(value: Any, rng: random.Random) -> Any:
    parts = list(_parts(value))
    if not parts:
        return rng.choice((*ODD_NUMBERS, *ODD_TEXTS, None, [], {}))
    holder, key = rng.choice(parts)
    how = rng.random()
    if how < 0.15:
        del holder[key]
    elif how < 0.35:
        other, place = rng.choice(parts)
        holder[key] = json.loads(json.dumps(other[place])) if place in _keys(other) else None
    elif how < 0.75 and isinstance(holder[key], (int, float)):
        holder[key] = rng.choice((*ODD_NUMBERS, rng.randrange(100), 10**6, -holder[key]))
    else:
        holder[key] = rng.choice(
            (*ODD_NUMBERS, *ODD_TEXTS, None, True, [], {}, [[]] * 100, {"class_name": "LSTM"})
        )
    return value


def _keys(holder: Any):
    return holder if isinstance(holder, dict) else range(len(holder))


def _parts(value: Any):
    if isinstance(value, (dict, list)):
        for key in _keys(value):
            yield value, key
            yield from _parts(value[key])


def some_zip(data: bytes, rng: random.Random, inner: Callable[[str, bytes, random.Random], bytes]) -> bytes:
    """The archive with members changed by `inner`, left out, renamed, repeated, packed otherwise; or as plain bytes."""
    if rng.random() < 0.2:
        return some_bytes(data, rng)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = [(name, archive.read(name)) for name in archive.namelist()]
    at = rng.randrange(len(members))
    name, content = members[at]
    how = rng.random()
    if how < 0.8:
        members[at] = (name, inner(name, content, rng))
    elif how < 0.85:
        del members[at]
    elif how < 0.9:
        members[at] = (rng.choice((*ODD_TEXTS[1:5], "model.weights.npz", name.upper())), content)
    elif how < 0.95:
        members.append((name, content))
    else:
        members.append((rng.choice(("assets/x", "../x", "model.weights.h5/x")), content))
    packed = io.BytesIO()
    kind = rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2))
    with zipfile.ZipFile(packed, "w", kind) as archive:
        for name, content in members:
            archive.writestr(name.replace("\0", "_") if "\ud800" not in name else "x", content)
    return packed.getvalue()
