"""What's equal in several signatures, stored once in the file.

The converter does that for constants, but writes the scales of quantized ones, and the positions of sparse ones, with
every tensor. A flatbuffer may hold those once, too: a part of it can be pointed at from many places.
"""

from __future__ import annotations

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

__all__ = ["from_bytes", "stored_once", "to_bytes"]

_ALIGNMENT = 16  # bytes: what the schema asks of a buffer's data


def stored_once(data: bytes) -> bytes:
    """The same file without repeated constants, scales and positions."""
    model = from_bytes(data)
    _share_parts(model)
    _share_buffers(model)
    return to_bytes(model)


def from_bytes(data: bytes) -> schema.ModelT:
    """The file as objects."""
    return schema.ModelT.InitFromPackedBuf(data)


def to_bytes(model: schema.ModelT) -> bytes:
    """The file of these objects."""
    model.buffers = [_Aligned(buffer) for buffer in model.buffers]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def _share_parts(model) -> None:
    """Equal scales, and equal positions of sparse weights, at one place in the file."""
    shared: dict[bytes, _Shared] = {}
    for graph in model.subgraphs:
        for tensor in graph.tensors:
            for field in ("quantization", "sparsity"):
                if (part := getattr(tensor, field)) is not None:
                    setattr(tensor, field, shared.setdefault(_packed(part), _Shared(part)))


def _packed(part) -> bytes:
    """The part as a file of its own: equal parts are equal bytes."""
    builder = flatbuffers.Builder(64)
    builder.Finish(part.Pack(builder))
    return type(part).__name__.encode() + bytes(builder.Output())


def _share_buffers(model) -> None:
    """Constants of the same bytes in one buffer, even of different shapes; metadata keeps its own."""
    first: dict[bytes, int] = {}
    moved: dict[int, int] = {}
    metadata = {entry.buffer for entry in model.metadata or ()}
    for i, buffer in enumerate(model.buffers):
        if buffer.data is not None and i not in metadata:
            moved[i] = first.setdefault(np.asarray(buffer.data, "uint8").tobytes(), i)
    for graph in model.subgraphs:
        for tensor in graph.tensors:
            tensor.buffer = moved.get(tensor.buffer, tensor.buffer)
    for i, kept in moved.items():
        if kept != i:
            model.buffers[i] = schema.BufferT()


class _Shared:
    """A part of the file that is written once, however often it's asked for."""

    def __init__(self, part):
        self.part, self.offset = part, None

    def Pack(self, builder: flatbuffers.Builder) -> int:
        if self.offset is None:
            self.offset = self.part.Pack(builder)
        return self.offset


class _Aligned:
    """A buffer whose data starts where the schema wants it; the generated code packs it anywhere."""

    def __init__(self, buffer):
        self.buffer = buffer

    def Pack(self, builder: flatbuffers.Builder) -> int:
        if self.buffer.data is not None:
            builder.Prep(_ALIGNMENT, len(self.buffer.data))
        return self.buffer.Pack(builder)
