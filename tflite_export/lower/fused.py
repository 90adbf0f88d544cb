"""LiteRT's own operator for a whole LSTM layer, made to forget what an earlier call left behind.

UNIDIRECTIONAL_SEQUENCE_LSTM keeps its states in variables that outlive the call, so a second call would start where the
first one ended. A step is therefore put before the first one, in which one more input feature, large there and 0 elsewhere,
closes all gates: f = i = o = σ(−10⁴) = 0, so that c = f·c + i·g = 0 and h = o·tanh(c) = 0, exactly.
"""

from __future__ import annotations

import struct
import uuid

import keras
import numpy as np
import tensorflow as tf

from .cells import LSTM, Cell

__all__ = ["fused", "refusal", "without_clip"]

_CLOSED = 1e4


def refusal(cell: Cell, *, mask: bool, initial_state: bool, return_state: bool) -> str | None:
    """Why the operator would compute something else than the layer; None where it doesn't."""
    if not isinstance(cell, LSTM):
        return "LiteRT has no such operator for it, only for LSTM"
    if cell.activation is not keras.activations.tanh or cell.gate is not keras.activations.sigmoid:
        return "the operator's activations are tanh and sigmoid"
    if mask:
        return "the operator knows no mask"
    if initial_state or return_state:
        return "the operator neither takes nor returns states"
    return None


def fused(cell: Cell, x: tf.Tensor) -> tf.Tensor:
    """The outputs (batch, time, units) of a whole LSTM layer on x, (batch, time, features)."""
    batch, _, features = (int(size or 0) for size in x.shape)
    # The weight is no larger than the others, so that quantizing them together costs them nothing.
    weight = max(float(np.abs(cell.kernel).max()), 1e-3)
    closing = -weight * np.repeat([1.0, 1.0, 0.0, 1.0], cell.units)[None]
    kernel = np.concatenate([cell.kernel, closing.astype("float32")])
    bias = np.zeros(4 * cell.units, "float32") if cell.bias is None else cell.bias
    first = np.zeros((batch, 1, features + 1), "float32")
    first[..., -1] = _CLOSED / weight
    x = tf.concat([tf.constant(first), tf.pad(x, [[0, 0], [0, 0], [0, 1]])], axis=1)
    # The converter stores equal constants once: zeros would make states of recurrent weights that are zero. What the
    # states hold at first doesn't count.
    states = tf.fill((batch, cell.units), 0.7310586)
    return _operator()(x, states, states, kernel, cell.recurrent, bias)[1][:, 1:]


def _operator():
    """A function that the converter replaces by the operator, going by its attributes and its arguments' order."""

    def lstm(inputs, h, c, kernel, recurrent_kernel, bias):
        outputs = tf.concat(
            [inputs[:, :, :1]] * h.shape[1], axis=-1
        )  # of the right shape: nothing else counts
        return outputs[:, -1], outputs, h, c, tf.constant(0.0)

    attributes = {
        "api_implements": f"lstm_{uuid.uuid4()}",
        "api_preferred_device": "CPU",
        "time_major": False,
        "go_backwards": False,
    }
    return tf.function(lstm, experimental_attributes=attributes, autograph=False)


def without_clip(data: bytes) -> bytes:
    """The file with the operator's cell clip switched off, which the converter sets to 10."""
    from ai_edge_litert import schema_py_generated as schema

    file = bytearray(data)
    model = schema.Model.GetRootAs(file, 0)
    for graph in (model.Subgraphs(i) for i in range(model.SubgraphsLength())):
        for operator in (graph.Operators(i) for i in range(graph.OperatorsLength())):
            if operator.BuiltinOptionsType() != schema.BuiltinOptions.UnidirectionalSequenceLSTMOptions:
                continue
            table = operator.BuiltinOptions()
            offset = table.Offset(6)  # cell_clip, the second field
            if offset:
                struct.pack_into("<f", file, table.Pos + offset, 0.0)
    return bytes(file)
