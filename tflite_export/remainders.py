"""Sparse matrices whose columns don't fill whole blocks, mended.

The converter encodes a product's weights (outputs, inputs) in blocks of four inputs where most zeros lie in such blocks. It
counts and writes whole blocks only: of seven inputs the last three are lost, and so many weights pass for zeros when it
decides. Such matrices are written anew, from a file of the same graph without sparsity: weight by weight (CSR, which
LiteRT's kernel multiplies as it is, too), or whole where that is smaller.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from .errors import ExportError
from .stored_once import from_bytes, to_bytes

__all__ = ["with_remainders"]


def with_remainders(data: bytes, dense: Callable[[], bytes]) -> bytes:
    """The same file with all weights of its sparse matrices.

    Args:
        data: A file with sparse matrices, as the converter wrote it.
        dense: Makes the file of the same graph without sparse matrices; called only where weights were lost.

    Raises:
        ExportError: If the lost weights can't be told from the other file.
    """
    model = from_bytes(data)
    cut = [t for graph in model.subgraphs for t in graph.tensors if _is_cut(t)]
    if not cut:
        return data
    whole = _matrices(from_bytes(dense()))
    mended = [
        _found(_decoded(model, tensor), tensor, whole) for tensor in cut
    ]  # before any buffer is emptied
    for tensor, matrix in zip(cut, mended, strict=True):
        _store(model, tensor, matrix)
    return to_bytes(model)


def _is_cut(tensor) -> bool:
    """Whether the blocks of a sparse matrix leave a remainder of its inputs."""
    sparsity = tensor.sparsity
    if sparsity is None or sparsity.blockMap is None or not len(sparsity.blockMap):
        return False
    return bool(tensor.shape[1] % sparsity.dimMetadata[2].denseSize)


def _decoded(model, tensor) -> np.ndarray:
    """The columns that are in whole blocks."""
    rows, blocks, inner = tensor.sparsity.dimMetadata
    values = _bytes(model, tensor).view("float32").reshape(-1, inner.denseSize)
    found = np.zeros((rows.denseSize, tensor.shape[1] // inner.denseSize, inner.denseSize), "float32")
    ends, places = (np.asarray(v.values) for v in (blocks.arraySegments, blocks.arrayIndices))
    for row, (start, end) in enumerate(itertools.pairwise(ends)):
        found[row, places[start:end]] = values[start:end]
    return found.reshape(rows.denseSize, -1)


def _matrices(model) -> list[np.ndarray]:
    """All constant matrices of floats."""
    return [
        _bytes(model, tensor).view("float32").reshape(tensor.shape)
        for graph in model.subgraphs
        for tensor in graph.tensors
        if tensor.type == schema.TensorType.FLOAT32 and len(tensor.shape) == 2 and _has_data(model, tensor)
    ]


def _has_data(model, tensor) -> bool:
    data = model.buffers[tensor.buffer].data
    return data is not None and len(data) == 4 * int(np.prod(tensor.shape))


def _found(part: np.ndarray, tensor, whole: list[np.ndarray]) -> np.ndarray:
    """The one matrix that begins with these columns."""
    fitting = [
        w for w in whole if w.shape == tuple(tensor.shape) and np.array_equal(w[:, : part.shape[1]], part)
    ]
    if not fitting or any(not np.array_equal(w, fitting[0]) for w in fitting):
        raise ExportError(
            f"The converter lost weights of matrix {tensor.name.decode()!r} {tuple(tensor.shape)}, whose inputs don't fill "
            'blocks of four, and they can\'t be restored. Export with quantize="float16" or "dynamic_int8", or make '
            "the layer's inputs a multiple of four."
        )
    return fitting[0]


def _store(model, tensor, matrix: np.ndarray) -> None:
    """Weight by weight, or whole if that is smaller."""
    rows, columns = np.nonzero(matrix)
    ends = np.concatenate([[0], np.bincount(rows, minlength=len(matrix)).cumsum()])
    parts = [_unsigned(ends), _unsigned(columns)]
    if 4 * len(columns) + sum(p.values.nbytes for _, p in parts) < matrix.nbytes:
        tensor.sparsity.blockMap = None
        tensor.sparsity.traversalOrder = np.arange(2, dtype="int32")
        lines, within, _ = tensor.sparsity.dimMetadata
        for name, (kind, vector) in zip(("arraySegments", "arrayIndices"), parts, strict=True):
            setattr(within, name, vector)
            setattr(within, f"{name}Type", kind)
        tensor.sparsity.dimMetadata = [lines, within]
        matrix = matrix[rows, columns]
    else:
        tensor.sparsity = None
    buffer = schema.BufferT()
    buffer.data = np.frombuffer(np.ascontiguousarray(matrix).tobytes(), "uint8")
    before, tensor.buffer = tensor.buffer, len(model.buffers)
    model.buffers.append(buffer)
    if all(other.buffer != before for graph in model.subgraphs for other in graph.tensors):
        model.buffers[before] = schema.BufferT()


def _unsigned(values: np.ndarray):
    """A vector of the narrowest type that the schema has for these numbers."""
    kinds = schema.SparseIndexVector
    most = values.max(initial=0)
    if most < 2**8:
        kind, vector, dtype = kinds.Uint8Vector, schema.Uint8VectorT(), "uint8"
    elif most < 2**16:
        kind, vector, dtype = kinds.Uint16Vector, schema.Uint16VectorT(), "uint16"
    else:
        kind, vector, dtype = kinds.Int32Vector, schema.Int32VectorT(), "int32"
    vector.values = values.astype(dtype)
    return kind, vector


def _bytes(model, tensor) -> np.ndarray:
    return np.asarray(model.buffers[tensor.buffer].data, "uint8")
