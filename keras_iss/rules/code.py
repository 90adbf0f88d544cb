"""Lambda: what its function is made of."""

from __future__ import annotations

import inspect
from typing import Any

import keras
from keras import layers

from keras_iss.calls import Call
from keras_iss.registry import register
from keras_iss.units import Signal


def _lambda(call: Call) -> Any:
    """Follows the operations of `keras.ops` that the function applies, if it would apply the same to fewer units."""
    layer = call.layer
    if not any(signal.placements for signal in call.inputs):
        return None
    graph, reason = None, "computes with a mask or differently in training"
    extra = {"mask", "training"} & set(inspect.signature(layer.function).parameters)
    if not extra and not callable(layer.mask):
        try:
            graph, reason = _graph(call)
        except Exception as error:
            # Whatever a function of the user's says to a tensor without values or widths.
            reason = f"isn't made of keras.ops alone, or counts units ({type(error).__name__})"
    if graph is None:
        call.pins(call.inputs, f"{call.name} {reason}")
        return None
    return keras.tree.pack_sequence_as(graph.output, call.walks(graph))


def _graph(call: Call) -> tuple[keras.Model | None, str]:
    """The function as a model, or why there is none."""
    if isinstance(call.layer.get_config().get("output_shape"), (list, tuple)):
        return None, "has a fixed output_shape; without it Keras finds the shape by itself"
    _applied(call, without_widths=True)
    graph = _applied(call, without_widths=False)
    if any(not isinstance(layer, layers.InputLayer) for layer in graph.layers):
        return None, "calls a layer"  # the old one, also in the stripped model
    return graph, ""


def _applied(call: Call, *, without_widths: bool) -> keras.Model:
    def entry(signal: Signal) -> Any:
        units = {p.axis + len(signal.shape) for p in signal.placements} if without_widths else ()
        return keras.Input(batch_shape=[None if i in units else d for i, d in enumerate(signal.shape)])

    inputs = keras.tree.map_structure(lambda x: entry(x) if isinstance(x, Signal) else x, call.args[0])
    outputs = call.layer.function(inputs, **call.layer.arguments)
    return keras.Model(keras.tree.flatten(inputs), outputs)


register(layers.Lambda, _lambda)
