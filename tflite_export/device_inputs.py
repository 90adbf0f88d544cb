"""What to feed a file on a phone, read from the flatbuffer itself: inputs in the runner's order, and safe ranges.

The runner fills whole numbers with values of its own choice (0..99, in older builds the type's whole range), which an
Embedding of fewer rows can't look up. So a whole-number input is fed values of the user's, or those that the file's own
lookups allow, or it is refused.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from .benchmark_worker import choose_signature
from .errors import ExportError

__all__ = ["Feed", "ModelInput", "feed", "model_inputs"]

_OPERATOR = schema.BuiltinOperator
_TYPES = {code: name.lower() for name, code in vars(schema.TensorType).items() if not name.startswith("_")}
_COMPARE = {_OPERATOR.LESS, _OPERATOR.GREATER, _OPERATOR.EQUAL, _OPERATOR.NOT_EQUAL}
_COMPARE |= {_OPERATOR.LESS_EQUAL, _OPERATOR.GREATER_EQUAL}
_KEEP = {_OPERATOR.CAST, _OPERATOR.RESHAPE, _OPERATOR.EXPAND_DIMS, _OPERATOR.SQUEEZE, _OPERATOR.TRANSPOSE}
_SELECT = {_OPERATOR.SELECT, _OPERATOR.SELECT_V2}
_WHOLE = {"int16", "int32", "int64", "uint16", "uint32", "uint64"}


@dataclass(frozen=True, kw_only=True)
class ModelInput:
    """One input: its shape has -1 where the length is open; `rows` bounds whole numbers, None if unknown."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    quantized: bool
    rows: int | None

    @property
    def whole(self) -> bool:
        """Whether only certain values make sense: a quantized or a true-or-false input takes all of its type."""
        return not self.quantized and self.dtype in (*_WHOLE, "int8", "uint8")


def model_inputs(data: bytes, signature: str | None, path: Path) -> tuple[str, bool, list[ModelInput]]:
    """The signature that is run ("" where the file has none), whether there are others, its inputs in order."""
    try:
        return _read(schema.Model.GetRootAs(data, 0), signature)
    except ValueError as error:
        raise ExportError(f"Can't run {str(path)!r}: {error}.") from error
    except (AttributeError, IndexError, TypeError, struct.error) as error:
        raise ExportError(f"{str(path)!r} is damaged or cut short; export the model again.") from error


def _read(model, signature: str | None) -> tuple[str, bool, list[ModelInput]]:
    signatures = {
        s.SignatureKey().decode(): s for s in map(model.SignatureDefs, range(model.SignatureDefsLength()))
    }
    key = choose_signature(list(signatures), signature)
    graph = model.Subgraphs(signatures[key].SubgraphIndex() if key else 0)
    names = {}
    if key:
        maps = map(signatures[key].Inputs, range(signatures[key].InputsLength()))
        names = {each.TensorIndex(): each.Name().decode() for each in maps}
    inputs = [_input(model, graph, index, names) for index in map(graph.Inputs, range(graph.InputsLength()))]
    return key, len(signatures) > 1, inputs


def _input(model, graph, index: int, names: dict[int, str]) -> ModelInput:
    tensor = graph.Tensors(index)
    shape = tensor.ShapeAsNumpy() if tensor.ShapeLength() else ()
    if tensor.ShapeSignatureLength():
        shape = tensor.ShapeSignatureAsNumpy()
    quantization = tensor.Quantization()
    return ModelInput(
        name=names[index] if index in names else tensor.Name().decode(),
        shape=tuple(int(n) for n in np.atleast_1d(shape)),
        dtype=_TYPES[tensor.Type()],
        quantized=quantization is not None and quantization.ScaleLength() > 0,
        rows=_rows(model, graph, index),
    )


def _rows(model, graph, index: int) -> int | None:
    """The smallest table that the input's values are looked up in, or None if they're used in any other way."""
    operators = [graph.Operators(i) for i in range(graph.OperatorsLength())]
    values, rows = {index}, []
    for operator in operators:  # a TFLite graph lists its operators in the order they run
        code = model.OperatorCodes(operator.OpcodeIndex())
        kind = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
        reads = list(operator.InputsAsNumpy()) if operator.InputsLength() else []
        place = [i for i, tensor in enumerate(reads) if tensor in values]
        if not place or kind in _COMPARE:
            continue
        if (
            kind in _KEEP
            or (kind in _SELECT and 0 not in place)
            or _wraps(model, graph, operators, operator, kind)
        ):
            values |= set(operator.OutputsAsNumpy())
        elif kind == _OPERATOR.GATHER and place == [1]:
            rows.append(int(graph.Tensors(reads[0]).Shape(_axis(operator))))
        elif kind == _OPERATOR.EMBEDDING_LOOKUP and place == [0]:
            rows.append(int(graph.Tensors(reads[1]).Shape(0)))
        else:
            return None
    if values & set(graph.OutputsAsNumpy()):
        return None
    return min(rows, default=None)


def _wraps(model, graph, operators, operator, kind: int) -> bool:
    """Whether an ADD only serves as the other choice of a SELECT: how Keras lets negative indices wrap around."""
    if kind != _OPERATOR.ADD:
        return False
    readers = [o for o in operators if operator.Outputs(0) in (o.InputsAsNumpy() if o.InputsLength() else [])]
    codes = [model.OperatorCodes(o.OpcodeIndex()) for o in readers]
    return bool(codes) and all(max(c.BuiltinCode(), c.DeprecatedBuiltinCode()) in _SELECT for c in codes)


def _axis(operator) -> int:
    options = schema.GatherOptions()
    table = operator.BuiltinOptions()
    if table is None:
        return 0
    options.Init(table.Bytes, table.Pos)
    return options.Axis()


@dataclass(frozen=True, kw_only=True)
class Feed:
    """The runner's words for the inputs: flags, files to be pushed (name -> bytes), and the shapes run on."""

    shapes: dict[str, list[int]]
    ranges: dict[str, int]
    files: dict[str, bytes]

    def flags(self, prefix: str) -> list[str]:
        """The runner's flags; it only warns of names that aren't the tensors', so plain ones are made up.

        Args:
            prefix: What stands before the names of the pushed files.
        """
        if not self.shapes:
            return []
        short = {name: f"i{k}" for k, name in enumerate(self.shapes)}
        shapes = ":".join(",".join(map(str, shape)) for shape in self.shapes.values())
        words = [f"--input_layer={','.join(short.values())}", f"--input_layer_shape={shapes}"]
        if self.ranges:
            ranges = (f"{short[name]},0,{rows - 1}" for name, rows in self.ranges.items())
            words.append(f"--input_layer_value_range={':'.join(ranges)}")
        if self.files:
            files = (f"{short[name]}:{prefix}{self.file_name(name)}" for name in self.files)
            words.append(f"--input_layer_value_files={','.join(files)}")
        return words

    def file_name(self, name: str) -> str:
        """What an input's file is called on the phone."""
        return f"input{list(self.shapes).index(name)}.bin"


def feed(inputs: list[ModelInput], given: Mapping[str, np.ndarray], steps: int, path: Path) -> Feed:
    """Values for every input: the given ones, or the runner's own within a range that is safe.

    Args:
        inputs: The file's inputs.
        given: Input name -> array.
        steps: The length of open axes that no array tells.
        path: The file, for messages.

    Raises:
        ExportError: An array fits no input, or nobody knows which whole numbers an input may hold.
    """
    names = [each.name for each in inputs]
    for name in given:
        if name not in names:
            raise ExportError(
                f"{str(path)!r} has no input {name!r}; its inputs are {', '.join(map(repr, names))}."
            )
    shapes, ranges, files = {}, {}, {}
    for each in inputs:
        shapes[each.name] = [n if n >= 0 else steps for n in each.shape]
        if each.name in given:
            array = np.asarray(given[each.name])
            shapes[each.name] = _fitting_shape(each, array, path)
            files[each.name] = array.astype(each.dtype).tobytes()
        elif each.whole and each.rows is None:
            raise ExportError(
                f"Nobody can tell which whole numbers input {each.name!r} ({each.dtype}) of {str(path)!r} may hold; "
                f"give them as inputs={{{each.name!r}: array of shape {tuple(shapes[each.name])}}} (on the command "
                "line --inputs FILE.npz)."
            )
        elif each.whole:
            ranges[each.name] = each.rows
    return Feed(shapes=shapes, ranges=ranges, files=files)


def _fitting_shape(each: ModelInput, array: np.ndarray, path: Path) -> list[int]:
    fits = array.ndim == len(each.shape) and all(
        n in (-1, m) for n, m in zip(each.shape, array.shape, strict=True)
    )
    if not fits or not math.prod(array.shape):
        raise ExportError(
            f"Invalid value for argument `inputs`. Expected shape {each.shape} for input {each.name!r} of "
            f"{str(path)!r} (-1: any length). Received: shape {array.shape}"
        )
    return list(array.shape)
