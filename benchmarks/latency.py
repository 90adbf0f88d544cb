"""Latency of two stacked LSTMs, before and after ISS: Keras's own export, ours, ONNX Runtime and PyTorch.

The sizes are the paper's (Wen et al., ICLR 2018, Table 1): (1500, 1500) dense, (373, 315) learned, on 1500 inputs. All
engines hold the same weights and take turns in one process; medians of the calls, in milliseconds.

    python benchmarks/latency.py [--quick] [--runs 20] [--json FILE]
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import onnx
import onnxruntime
import torch
from ai_edge_litert.interpreter import Interpreter
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic

import tflite_export
from tflite_export.convert import keras_export

ENGINES = ("Keras export", "tflite_export", "ONNX Runtime", "PyTorch")
PRECISIONS = {"float32": None, "int8": "dynamic_int8"}
SHAPES = ((10, 10), (1, 20), (1, 1))  # batch × steps
THREADS = (1, 2)
BURST = 4  # measured calls before the next engine's turn


def keras_model(units: tuple[int, int], features: int) -> keras.Model:
    keras.utils.set_random_seed(0)
    layers = [keras.layers.LSTM(n, return_sequences=True) for n in units]
    return keras.Sequential([keras.Input((None, features)), *layers])


def gates(matrix: np.ndarray, order: str) -> np.ndarray:
    """Keras's gate columns i, f, g, o as rows in another engine's order."""
    parts = dict(zip("ifgo", np.split(matrix, 4, axis=-1), strict=True))
    return np.concatenate([parts[gate] for gate in order], axis=-1).T


def litert_run(data: bytes, x: np.ndarray, threads: int) -> Callable[[], np.ndarray]:
    interpreter = Interpreter(model_content=data, num_threads=threads)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
    output = interpreter.get_output_details()[0]["index"]

    def run():
        interpreter.invoke()
        return interpreter.get_tensor(output)

    return run


def onnx_model(model: keras.Model) -> onnx.ModelProto:
    """The same LSTMs as ONNX operators, time first."""
    nodes, weights, x = [], [], "x"
    for i, layer in enumerate(model.layers):
        kernel, recurrent, bias = layer.get_weights()
        values = {
            f"W{i}": gates(kernel, "iofg")[None],
            f"R{i}": gates(recurrent, "iofg")[None],
            f"B{i}": np.concatenate([gates(bias, "iofg"), np.zeros_like(bias)])[None],
            f"axes{i}": np.array([1]),
        }
        weights += [numpy_helper.from_array(np.ascontiguousarray(v), name) for name, v in values.items()]
        nodes.append(
            helper.make_node("LSTM", [x, f"W{i}", f"R{i}", f"B{i}"], [f"y{i}"], hidden_size=layer.units)
        )
        nodes.append(helper.make_node("Squeeze", [f"y{i}", f"axes{i}"], [x := f"h{i}"]))
    features, units = model.input_shape[-1], model.layers[-1].units
    graph = helper.make_graph(
        nodes,
        "lstms",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["time", "batch", features])],
        [helper.make_tensor_value_info(x, TensorProto.FLOAT, ["time", "batch", units])],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def onnx_run(path: Path, x: np.ndarray, threads: int) -> Callable[[], np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    feed = {"x": np.ascontiguousarray(x.swapaxes(0, 1))}
    return lambda: session.run(None, feed)[0].swapaxes(0, 1)


def torch_run(model: keras.Model, x: np.ndarray, precision: str, threads: int) -> Callable[[], np.ndarray]:
    class Stack(torch.nn.Module):
        def __init__(self):
            super().__init__()
            sizes = [model.input_shape[-1], *(layer.units for layer in model.layers)]
            self.layers = torch.nn.ModuleList(torch.nn.LSTM(a, b) for a, b in itertools.pairwise(sizes))

        def forward(self, h):
            for layer in self.layers:
                h = layer(h)[0]
            return h

    stack = Stack().eval()
    with torch.no_grad():
        for layer, source in zip(stack.layers, model.layers, strict=True):
            kernel, recurrent, bias = (
                torch.tensor(np.ascontiguousarray(gates(w, "ifgo"))) for w in source.get_weights()
            )
            layer.weight_ih_l0.copy_(kernel)
            layer.weight_hh_l0.copy_(recurrent)
            layer.bias_ih_l0.copy_(bias)
            layer.bias_hh_l0.zero_()
    if precision == "int8":
        with warnings.catch_warnings(action="ignore"):  # torchao, its successor, has no quantized LSTM
            stack = torch.ao.quantization.quantize_dynamic(stack, {torch.nn.LSTM}, dtype=torch.qint8)
    inputs = torch.tensor(np.ascontiguousarray(x.swapaxes(0, 1)))

    def run():
        torch.set_num_threads(threads)
        with torch.inference_mode():
            return stack(inputs).numpy().swapaxes(0, 1)

    return run


def engines(model, x, precision: str, threads: int, folder: Path) -> dict[str, Callable[[], np.ndarray]]:
    batch, steps, _ = x.shape
    quantize = PRECISIONS[precision]
    files = {name: folder / f"{name.split()[0]}-{precision}.tflite" for name in ENGINES[:2]}
    if threads == THREADS[0]:
        keras_export(model, files["Keras export"], batch_size=batch, time_steps=steps, quantize=quantize)
        tflite_export.export(
            model, files["tflite_export"], batch_size=batch, time_steps=steps, quantize=quantize, verify=False
        )
        onnx.save(onnx_model(model), folder / "float32.onnx")
        if quantize:
            quantize_dynamic(folder / "float32.onnx", folder / "int8.onnx", weight_type=QuantType.QInt8)
    runs = {name: litert_run(file.read_bytes(), x, threads) for name, file in files.items()}
    runs["ONNX Runtime"] = onnx_run(folder / f"{precision}.onnx", x, threads)
    runs["PyTorch"] = torch_run(model, x, precision, threads)
    return runs


def check(runs: dict[str, Callable[[], np.ndarray]], precision: str) -> None:
    """All engines compute the same thing, or the comparison means nothing."""
    reference = runs["Keras export"]()
    for name, run in runs.items():
        difference = np.abs(run() - reference).max()
        if not difference < (1e-4 if precision == "float32" else 5e-2):
            raise SystemExit(f"{name}'s outputs differ from those of Keras's export by {difference:.1e}")


def medians(
    runs: dict[tuple[str, str], Callable[[], np.ndarray]], count: int
) -> dict[tuple[str, str], float]:
    """Milliseconds a call; all engines and sizes take turns, and the first call of a turn isn't counted."""
    times: dict[tuple[str, str], list[float]] = {name: [] for name in runs}
    while any(len(t) < count for t in times.values()):
        for name, run in runs.items():
            run()
            for _ in range(BURST):
                start = time.perf_counter()
                run()
                times[name].append((time.perf_counter() - start) * 1e3)
    return {name: float(np.median(t)) for name, t in times.items()}


def measure(sizes: dict[str, tuple[int, int]], features: int, runs: int) -> list[dict]:
    rows = []
    for (batch, steps), precision in itertools.product(SHAPES, PRECISIONS):
        x = np.random.default_rng(0).normal(size=(batch, steps, features)).astype("float32")
        models = {size: keras_model(units, features) for size, units in sizes.items()}
        with tempfile.TemporaryDirectory() as folder:
            for threads in THREADS:
                subjects = {}
                for size, model in models.items():
                    place = Path(folder, size)
                    place.mkdir(exist_ok=True)
                    mine = engines(model, x, precision, threads, place)
                    check(mine, precision)
                    subjects.update({(engine, size): run for engine, run in mine.items()})
                for (engine, size), ms in medians(subjects, runs).items():
                    where = {"batch": batch, "steps": steps, "size": size, "precision": precision}
                    rows.append({**where, "threads": threads, "engine": engine, "ms": ms})
        print(f"  measured {batch} x {steps}, {precision}", flush=True)
    return rows


def table(rows: list[dict], sizes: dict[str, tuple[int, int]]) -> str:
    cells = {
        tuple(row[k] for k in ("batch", "steps", "engine", "size", "precision", "threads")): row["ms"]
        for row in rows
    }
    columns = list(itertools.product(PRECISIONS, sizes))
    lines = [
        "| batch × steps | engine | "
        + " | ".join(f"{size} {precision}" for precision, size in columns)
        + " |",
        "|" + "---|" * (2 + len(columns)),
    ]
    for (batch, steps), engine in itertools.product(SHAPES, ENGINES):
        values = [
            " / ".join(f"{cells[batch, steps, engine, size, precision, threads]:.3g}" for threads in THREADS)
            for precision, size in columns
        ]
        lines.append(f"| {batch} × {steps} | {engine} | " + " | ".join(values) + " |")
    return "\n".join(lines)


def summary(rows: list[dict], sizes: dict[str, tuple[int, int]]) -> str:
    def ms(engine, **where):
        return {
            tuple(row[k] for k in ("batch", "steps", "size", "precision", "threads")): row["ms"]
            for row in rows
            if row["engine"] == engine and all(row[k] == v for k, v in where.items())
        }

    ours, theirs = ms("tflite_export"), ms("Keras export")
    ratios = {cell: theirs[cell] / ours[cell] for cell in ours}
    worst, best = min(ratios, key=ratios.get), max(ratios, key=ratios.get)
    lines = [
        f"tflite_export over Keras's own export: {ratios[worst]:.2f} times (worst, {worst}) to {ratios[best]:.2f} "
        f"times (best, {best}) as fast; faster in {sum(r > 1 for r in ratios.values())} of {len(ratios)} cells"
    ]
    dense, small = sizes
    for threads in THREADS:
        a, b = (ours[10, 10, size, "float32", threads] for size in (dense, small))
        lines.append(
            f"{sizes[small]} over {sizes[dense]}, float32, 10 x 10, {threads} thread(s): {a / b:.2f} times as fast"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--quick", action="store_true", help="a fifth of the width, few calls: a look, not a result"
    )
    parser.add_argument("--runs", type=int, default=20, help="measured calls per cell (default 20)")
    parser.add_argument("--json", type=Path, help="write the rows here too")
    options = parser.parse_args()
    sizes, features, runs = {"dense": (1500, 1500), "ISS": (373, 315)}, 1500, options.runs
    if options.quick:
        sizes, features, runs = {"dense": (300, 300), "ISS": (75, 63)}, 300, 8
    rows = measure(sizes, features, runs)
    threads = " / ".join(f"{n} thread{'s' if n > 1 else ''}" for n in THREADS)
    print(f"\nms per call, median; {threads}; dense {sizes['dense']}, ISS {sizes['ISS']}, {features} inputs")
    print(table(rows, sizes))
    print(summary(rows, sizes))
    print(f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()} {platform.release()}")
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
