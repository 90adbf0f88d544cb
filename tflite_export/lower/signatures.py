"""The order of a file's signatures.

The converter writes signatures in the order of their names, and an interpreter that isn't told a signature's name
runs the first one. So that this is the one we want, they're converted under names that sort as wanted and get their
own names afterwards.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import TypeVar

from ..stored_once import from_bytes, to_bytes

__all__ = ["ordered", "own_names"]

T = TypeVar("T")


def ordered(functions: Mapping[str, T]) -> dict[str, T]:
    """The functions under names that sort as they stand."""
    return {f"{chr(ord('a') + i)}_{name}": function for i, (name, function) in enumerate(functions.items())}


def own_names(data: bytes, names: Iterable[str]) -> bytes:
    """What the converter made of `ordered(...)`, with the signatures' own names, in order."""
    own = {name.encode(): name[2:].encode() for name in ordered(dict.fromkeys(names))}
    model = from_bytes(data)
    for signature in model.signatureDefs:
        converted = signature.signatureKey
        graph = model.subgraphs[signature.subgraphIndex]
        signature.signatureKey = graph.name = own[converted]
        for tensor in graph.tensors:
            tensor.name = tensor.name.replace(converted, own[converted], 1)
        if not graph.operators:
            _set_apart(signature, graph)
    return to_bytes(model)


def _set_apart(signature, graph) -> None:
    """A tensor of its own for every output of constants that share one where they're equal.

    LiteRT's CompiledModel tells outputs by their tensors.
    """
    seen: set[int] = set()
    for output in signature.outputs:
        if output.tensorIndex in seen:
            tensor = copy.copy(graph.tensors[output.tensorIndex])
            tensor.name += b"_" + output.name  # tools that quantize ask for names that stand once in the file
            graph.tensors.append(tensor)
            output.tensorIndex = len(graph.tensors) - 1
        seen.add(output.tensorIndex)
    if len(seen) > len(set(graph.outputs)):
        graph.outputs = [output.tensorIndex for output in signature.outputs]
