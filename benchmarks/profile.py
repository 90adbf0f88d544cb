"""Where the time of one call goes, operator by operator.

LiteRT's Python package has no profiler, so every operator of a file is cut out into a file of its own, with its shapes and
its weights, and timed; what the whole file takes beyond their sum is spent between them: turns of loops, copies of
what loops carry, and the interpreter. Loops are counted by their own condition, so all lengths must be fixed.

    python benchmarks/profile.py MODEL.tflite [--threads 1]
    python benchmarks/profile.py --units 64 64 --features 64 --steps 64 [--layer GRU] [--quantize dynamic_int8]
                                 [--lowering loop] [--threads 1] [--json FILE]
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

from tflite_export.stored_once import from_bytes, to_bytes

COPIES = 32  # of a cheap operator in one file, so that the call itself weighs little
HEAVY = 4096  # bytes of constants from which an operator stands alone: copies would fight for the cache
ROUNDS, CALLS = 15, 20
NAMES = {value: name for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)}


def code_of(model: schema.ModelT, operator: schema.OperatorT) -> int:
    code = model.operatorCodes[operator.opcodeIndex]
    return max(code.builtinCode, code.deprecatedBuiltinCode)


def constant(model: schema.ModelT, graph: schema.SubGraphT, index: int) -> np.ndarray | None:
    """A constant tensor's bytes."""
    if index < 0:
        return None
    data = model.buffers[graph.tensors[index].buffer].data
    return None if data is None or len(data) == 0 else np.asarray(data, "uint8")


def executions(model: schema.ModelT, graph: int = 0, times: int = 1) -> Iterator[tuple[int, int, int]]:
    """(graph, place of the operator in it, runs a call), loops followed into their bodies and conditions."""
    for place, operator in enumerate(model.subgraphs[graph].operators):
        if code_of(model, operator) != schema.BuiltinOperator.WHILE:
            yield graph, place, times
            continue
        loop = operator.builtinOptions
        turns = count_turns(model, model.subgraphs[graph], operator)
        yield from executions(model, loop.bodySubgraphIndex, times * turns)
        yield from executions(model, loop.condSubgraphIndex, times * (turns + 1))


def count_turns(model: schema.ModelT, outer: schema.SubGraphT, loop: schema.OperatorT) -> int:
    """Turns of a loop `while t < stop: t += step`, from its three constants."""
    condition = model.subgraphs[loop.builtinOptions.condSubgraphIndex]
    body = model.subgraphs[loop.builtinOptions.bodySubgraphIndex]
    (less,) = (op for op in condition.operators if code_of(model, op) == schema.BuiltinOperator.LESS)
    counter = list(condition.inputs).index(less.inputs[0])
    (step,) = (op for op in body.operators if body.outputs[counter] in op.outputs)
    ends = [
        constant(model, condition, less.inputs[1]),
        constant(model, outer, loop.inputs[counter]),
        constant(model, body, step.inputs[1]),
    ]
    if any(end is None for end in ends):
        raise SystemExit("a loop's length is open: export the model with time_steps=...")
    stop, start, stride = (int(end.view("int32")[0]) for end in ends)
    return -(-(stop - start) // stride)


def alone(model: schema.ModelT, graph: schema.SubGraphT, operator: schema.OperatorT) -> tuple[bytes, int]:
    """A file of copies of one operator, and how many."""
    heavy = sum(len(c) for i in operator.inputs if (c := constant(model, graph, i)) is not None) > HEAVY
    copies = 1 if heavy else COPIES
    cut = schema.ModelT()
    cut.version, cut.description = 3, "one operator"
    cut.operatorCodes = [model.operatorCodes[operator.opcodeIndex]]
    cut.buffers = [schema.BufferT()]
    inside = schema.SubGraphT()
    inside.tensors, inside.inputs, inside.outputs, inside.operators = [], [], [], []

    def add(index: int) -> int:
        tensor = copy.copy(graph.tensors[index])
        tensor.buffer = 0
        data = constant(model, graph, index)
        if data is not None:
            buffer = schema.BufferT()
            buffer.data = data
            cut.buffers.append(buffer)
            tensor.buffer = len(cut.buffers) - 1
        inside.tensors.append(tensor)
        return len(inside.tensors) - 1

    inputs = {i: add(i) for i in dict.fromkeys(int(i) for i in operator.inputs) if i >= 0}
    inside.inputs = [new for old, new in inputs.items() if constant(model, graph, old) is None]
    for _ in range(copies):
        clone = copy.copy(operator)
        clone.opcodeIndex = 0
        clone.inputs = [inputs.get(int(i), -1) for i in operator.inputs]
        clone.outputs = [add(i) for i in operator.outputs]
        inside.outputs += clone.outputs
        inside.operators.append(clone)
    cut.subgraphs = [inside]
    return to_bytes(cut), copies


def prepared(data: bytes, threads: int) -> Callable[[], None]:
    interpreter = Interpreter(model_content=data, num_threads=threads)
    interpreter.allocate_tensors()
    rng = np.random.default_rng(0)
    for detail in interpreter.get_input_details():
        real = np.issubdtype(detail["dtype"], np.floating)
        x = rng.normal(size=detail["shape"]) if real else np.zeros(detail["shape"])
        interpreter.set_tensor(detail["index"], x.astype(detail["dtype"]))
    return interpreter.invoke


def seconds(call: Callable[[], None]) -> float:
    """Median over rounds of the fastest call of a round."""
    best = []
    for _ in range(ROUNDS):
        call()
        times = []
        for _ in range(CALLS):
            start = time.perf_counter()
            call()
            times.append(time.perf_counter() - start)
        best.append(min(times))
    return float(np.median(best))


def signature(model: schema.ModelT, graph: schema.SubGraphT, operator: schema.OperatorT) -> str:
    """The operator and the shapes that decide its time."""
    ends = [*(i for i in operator.inputs if i >= 0), *operator.outputs]
    shapes = [graph.tensors[i].shape for i in ends]
    sizes = sorted({"×".join(str(int(n)) for n in s) for s in shapes if s is not None and len(s) > 1})
    return f"{NAMES[code_of(model, operator)]} {', '.join(sizes)}".strip()


def profile(data: bytes, threads: int) -> list[dict]:
    """A row per kind of operator and graph, the most expensive first, and what is left."""
    model = from_bytes(data)
    call = empty(threads)
    rows: dict[tuple[str, str], dict] = {}
    for graph, place, times in executions(model):
        inside = model.subgraphs[graph]
        operator = inside.operators[place]
        key = ("once" if graph == 0 else "in loops", signature(model, inside, operator))
        if key not in rows:
            file, copies = alone(model, inside, operator)
            each = max(0.0, seconds(prepared(file, threads)) - call) / copies
            rows[key] = {"where": key[0], "operator": key[1], "times": 0, "each_us": each * 1e6}
        rows[key]["times"] += times
    whole = seconds(prepared(data, threads)) * 1e6 - call * 1e6
    found = [row | {"us": row["times"] * row["each_us"]} for row in rows.values()]
    found.sort(key=lambda row: -row["us"])
    rest = whole - sum(row["us"] for row in found)
    return [*found, {"where": "", "operator": "between operators", "times": 1, "each_us": rest, "us": rest}]


def empty(threads: int) -> float:
    """Seconds of a call that does next to nothing: the smallest of operators."""
    model, graph = schema.ModelT(), schema.SubGraphT()
    code, operator = schema.OperatorCodeT(), schema.OperatorT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.NEG
    code.version = 1
    tensors = []
    for name in ("x", "y"):
        tensor = schema.TensorT()
        tensor.shape, tensor.type, tensor.name, tensor.buffer = [1], schema.TensorType.FLOAT32, name, 0
        tensors.append(tensor)
    operator.opcodeIndex, operator.inputs, operator.outputs = 0, [0], [1]
    graph.tensors, graph.inputs, graph.outputs, graph.operators = tensors, [0], [1], [operator]
    model.version, model.operatorCodes, model.subgraphs, model.buffers = (
        3,
        [code],
        [graph],
        [schema.BufferT()],
    )
    return seconds(prepared(to_bytes(model), threads))


def exported(options: argparse.Namespace) -> bytes:
    os.environ["KERAS_BACKEND"] = "tensorflow"
    import keras

    import tflite_export

    keras.utils.set_random_seed(0)
    layer = getattr(keras.layers, options.layer)
    stack = [layer(n, return_sequences=True) for n in options.units]
    model = keras.Sequential([keras.Input((options.steps, options.features)), *stack])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.tflite")
        form = {"quantize": options.quantize, "lowering": options.lowering, "batch_size": options.batch}
        tflite_export.export(model, path, verify=False, **form)
        return path.read_bytes()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", nargs="?", type=Path, help="a .tflite file with fixed lengths")
    parser.add_argument("--units", nargs="+", type=int, default=[64, 64])
    parser.add_argument("--features", type=int, default=64)
    parser.add_argument("--steps", type=int, default=64)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--layer", default="LSTM", choices=["LSTM", "GRU", "SimpleRNN"])
    parser.add_argument("--quantize", choices=["float16", "dynamic_int8"])
    parser.add_argument("--lowering", default="auto", choices=["auto", "loop", "unroll", "fused"])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path, help="write the rows here too")
    options = parser.parse_args()
    data = options.model.read_bytes() if options.model else exported(options)
    rows = profile(data, options.threads)
    whole = sum(row["us"] for row in rows)
    print(f"{'':>9}  {'times':>6}  {'µs each':>8}  {'µs':>9}  {'share':>5}  operator and its shapes")
    for row in rows:
        print(
            f"{row['where']:>9}  {row['times']:>6}  {row['each_us']:>8.2f}  {row['us']:>9.1f}  "
            f"{row['us'] / whole:>5.0%}  {row['operator']}"
        )
    print(f"{whole:.0f} µs a call, {options.threads} thread(s); median of {ROUNDS} rounds")
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
