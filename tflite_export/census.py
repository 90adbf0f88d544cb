"""What a TFLite file holds: its operators, read from the flatbuffer itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from ai_edge_litert import schema_py_generated as schema

__all__ = ["Sparse", "operators", "operators_by_signature", "sparse_weights"]

_NAMES = {code: name for name, code in vars(schema.BuiltinOperator).items() if not name.startswith("_")}

_CONTROL = {
    schema.BuiltinOptions.WhileOptions: (
        schema.WhileOptions,
        schema.WhileOptions.CondSubgraphIndex,
        schema.WhileOptions.BodySubgraphIndex,
    ),
    schema.BuiltinOptions.IfOptions: (
        schema.IfOptions,
        schema.IfOptions.ThenSubgraphIndex,
        schema.IfOptions.ElseSubgraphIndex,
    ),
}


def operators(data: bytes) -> dict[str, int]:
    """How often each operator stands in the file, most frequent first; a loop's body counts once.

    Custom operators appear under their own name; a TensorFlow ("Flex") operator's begins with "Flex".
    """
    model = schema.Model.GetRootAs(data, 0)
    names = _names(model)
    return _count(model, names, range(model.SubgraphsLength()))


def operators_by_signature(data: bytes) -> dict[str, dict[str, int]]:
    """How often each operator stands in what each signature runs, loops' bodies included."""
    model = schema.Model.GetRootAs(data, 0)
    names = _names(model)
    signatures = [model.SignatureDefs(i) for i in range(model.SignatureDefsLength())]
    return {
        s.SignatureKey().decode(): _count(model, names, _reached(model, s.SubgraphIndex()))
        for s in signatures
    }


@dataclass(frozen=True, kw_only=True)
class Sparse:
    """The matrices of a file that are stored without their zeros.

    Attributes:
        matrices: How many.
        weights: How many weights they have.
        stored: How many of those stand in the file; in a matrix of blocks, also the zeros within a block.
        direct: How many of the matrices LiteRT multiplies as they are; the others are unpacked when the file is opened.
    """

    matrices: int
    weights: int
    stored: int
    direct: int


def sparse_weights(data: bytes) -> Sparse:
    """What a file stores without zeros; a matrix that several graphs read counts once."""
    model = schema.Model.GetRootAs(data, 0)
    names = _names(model)
    found, unpacked = {}, set()
    for i in range(model.SubgraphsLength()):
        graph = model.Subgraphs(i)
        tensors = [graph.Tensors(n) for n in range(graph.TensorsLength())]
        found |= {t.Buffer(): t for t in tensors if t.Sparsity() is not None}
        unpacked |= {
            tensors[op.Inputs(0)].Buffer()
            for op in _operators(model, i)
            if names[op.OpcodeIndex()] == "DENSIFY"
        }
    return Sparse(
        matrices=len(found),
        weights=sum(int(np.prod(t.ShapeAsNumpy())) for t in found.values()),
        stored=sum(model.Buffers(buffer).DataLength() // 4 for buffer in found),
        direct=len(found.keys() - unpacked),
    )


def _count(model, names: list[str], graphs: Iterable[int]) -> dict[str, int]:
    counts = Counter(names[operator.OpcodeIndex()] for g in graphs for operator in _operators(model, g))
    return dict(counts.most_common())


def _operators(model, index: int) -> list:
    graph = model.Subgraphs(index)
    return [graph.Operators(i) for i in range(graph.OperatorsLength())]


def _reached(model, graph: int) -> set[int]:
    """The graph and those that its loops and branches run, however deep."""
    found, waiting = set(), [graph]
    while waiting:
        graph = waiting.pop()
        found.add(graph)
        for operator in _operators(model, graph):
            options, table = _CONTROL.get(operator.BuiltinOptionsType()), operator.BuiltinOptions()
            if options is not None:
                inner = options[0]()
                inner.Init(table.Bytes, table.Pos)
                waiting += {index(inner) for index in options[1:]} - found
    return found


def _names(model) -> list[str]:
    """Of the operators' codes, in their order."""
    return [_name(model.OperatorCodes(i)) for i in range(model.OperatorCodesLength())]


def _name(code) -> str:
    builtin = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
    return code.CustomCode().decode() if builtin == schema.BuiltinOperator.CUSTOM else _NAMES[builtin]
