"""The same recurrent model in LiteRT, ONNX Runtime and PyTorch: functions that run it once."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import onnx
import onnxruntime
import torch
from ai_edge_litert.interpreter import Interpreter
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic

Run = Callable[[], np.ndarray]

# Keras's gates in Keras's order, and in the orders of the others.
GATES = {
    "LSTM": {"keras": "ifgo", "onnx": "iofg", "torch": "ifgo"},
    "GRU": {"keras": "zrn", "onnx": "zrn", "torch": "rzn"},
}


def litert_run(data: bytes, x: np.ndarray, threads: int) -> Run:
    interpreter = Interpreter(model_content=data, num_threads=threads)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
    output = interpreter.get_output_details()[0]["index"]

    def run():
        interpreter.invoke()
        return interpreter.get_tensor(output)

    return run


def directions(layer: keras.Layer) -> list[keras.Layer]:
    """The layer, or a Bidirectional's two."""
    return [layer.forward_layer, layer.backward_layer] if hasattr(layer, "forward_layer") else [layer]


def parts(layer: keras.Layer, engine: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Kernel, recurrent kernel and both biases, gates as rows in the engine's order."""
    orders = GATES[type(layer).__name__]
    kernel, recurrent, bias = layer.get_weights()
    bias = bias if bias.ndim == 2 else np.stack([bias, np.zeros_like(bias)])

    def reordered(matrix: np.ndarray) -> np.ndarray:
        gates = dict(zip(orders["keras"], np.split(matrix, len(orders["keras"]), axis=-1), strict=True))
        return np.ascontiguousarray(np.concatenate([gates[g] for g in orders[engine]], axis=-1).T)

    return reordered(kernel), reordered(recurrent), reordered(bias).T


def onnx_model(model: keras.Model) -> onnx.ModelProto:
    """The same layers as ONNX operators, time first."""
    nodes, weights, x = [], [], "x"
    for i, layer in enumerate(model.layers):
        sides = directions(layer)
        kernels, recurrents, biases = zip(*(parts(side, "onnx") for side in sides), strict=True)
        values = {
            f"W{i}": np.stack(kernels),
            f"R{i}": np.stack(recurrents),
            f"B{i}": np.stack([bias.reshape(-1) for bias in biases]),
            f"shape{i}": np.array([0, 0, -1]),
        }
        weights += [numpy_helper.from_array(np.ascontiguousarray(v), name) for name, v in values.items()]
        kind = type(sides[0]).__name__
        options: dict = {"hidden_size": sides[0].units}
        options["direction"] = "bidirectional" if len(sides) == 2 else "forward"
        if kind == "GRU":
            options["linear_before_reset"] = 1
        nodes += [
            helper.make_node(kind, [x, f"W{i}", f"R{i}", f"B{i}"], [f"y{i}"], **options),
            # (time, directions, batch, units) -> (time, batch, directions · units)
            helper.make_node("Transpose", [f"y{i}"], [f"t{i}"], perm=[0, 2, 1, 3]),
            helper.make_node("Reshape", [f"t{i}", f"shape{i}"], [x := f"h{i}"]),
        ]
    features, units = model.input_shape[-1], model.output_shape[-1]
    graph = helper.make_graph(
        nodes,
        "stack",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["time", "batch", features])],
        [helper.make_tensor_value_info(x, TensorProto.FLOAT, ["time", "batch", units])],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def onnx_run(model: keras.Model, x: np.ndarray, precision: str, threads: int, folder: Path) -> Run:
    path = folder / f"{precision}.onnx"
    if not path.exists():
        onnx.save(onnx_model(model), folder / "float32.onnx")
        if precision == "int8":
            quantize_dynamic(folder / "float32.onnx", path, weight_type=QuantType.QInt8)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    feed = {"x": np.ascontiguousarray(x.swapaxes(0, 1))}
    return lambda: session.run(None, feed)[0].swapaxes(0, 1)


def torch_run(model: keras.Model, x: np.ndarray, precision: str, threads: int) -> Run:
    class Stack(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = torch.nn.ModuleList()
            size = model.input_shape[-1]
            for layer in model.layers:
                sides = directions(layer)
                kind = getattr(torch.nn, type(sides[0]).__name__)
                self.layers.append(kind(size, sides[0].units, bidirectional=len(sides) == 2))
                size = layer.output.shape[-1]

        def forward(self, h):
            for layer in self.layers:
                h = layer(h)[0]
            return h

    stack = Stack().eval()
    with torch.no_grad():
        for layer, source in zip(stack.layers, model.layers, strict=True):
            for side, suffix in zip(directions(source), ("", "_reverse"), strict=False):
                kernel, recurrent, bias = (torch.tensor(w.copy()) for w in parts(side, "torch"))
                getattr(layer, f"weight_ih_l0{suffix}").copy_(kernel)
                getattr(layer, f"weight_hh_l0{suffix}").copy_(recurrent)
                getattr(layer, f"bias_ih_l0{suffix}").copy_(bias[0])
                getattr(layer, f"bias_hh_l0{suffix}").copy_(bias[1])
    if precision == "int8":
        with warnings.catch_warnings(action="ignore"):  # torchao, its successor, has no quantized LSTM
            kinds = {torch.nn.LSTM, torch.nn.GRU}
            stack = torch.ao.quantization.quantize_dynamic(stack, kinds, dtype=torch.qint8)
    inputs = torch.tensor(np.ascontiguousarray(x.swapaxes(0, 1)))

    def run():
        torch.set_num_threads(threads)
        with torch.inference_mode():
            return stack(inputs).numpy().swapaxes(0, 1)

    return run
