"""What a TFLite file holds: its operators, read from the flatbuffer itself."""

from __future__ import annotations

from collections import Counter

from ai_edge_litert import schema_py_generated as schema

__all__ = ["operators"]

_NAMES = {code: name for name, code in vars(schema.BuiltinOperator).items() if not name.startswith("_")}


def operators(data: bytes) -> dict[str, int]:
    """How often each operator stands in the file, most frequent first; a loop's body counts once.

    Custom operators appear under their own name; a TensorFlow ("Flex") operator's begins with "Flex".
    """
    model = schema.Model.GetRootAs(data, 0)
    names = [_name(model.OperatorCodes(i)) for i in range(model.OperatorCodesLength())]
    graphs = [model.Subgraphs(i) for i in range(model.SubgraphsLength())]
    counts = Counter(
        names[graph.Operators(i).OpcodeIndex()] for graph in graphs for i in range(graph.OperatorsLength())
    )
    return dict(counts.most_common())


def _name(code) -> str:
    builtin = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
    return code.CustomCode().decode() if builtin == schema.BuiltinOperator.CUSTOM else _NAMES[builtin]
