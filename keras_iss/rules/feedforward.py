"""Dense, Embedding, ReversibleEmbedding, Conv1D: what reads units through a weight, and makes units of its own."""

from __future__ import annotations

from keras import layers

from keras_iss.calls import Call
from keras_iss.registry import register, zero_at_zero
from keras_iss.units import Signal


def _affine(call: Call, size: int, config_field: str) -> Signal:
    """A kernel whose last axis holds the layer's own units and whose axis before reads the input's."""
    layer = call.layer
    zero = zero_at_zero(layer.activation)
    units = call.structure(size, kind="dense", zero=zero is True)
    if zero is None:
        call.pins([units], f"the activation of {call.name} is not known to treat each unit alone")
    call.reads(call.inputs[0], layer.kernel, -2)
    call.writes(units, layer.kernel)
    call.writes(units, layer.bias if layer.use_bias else None, penalised=False)
    call.multiplies(layer.kernel)
    call.resizes(units, config_field, value=size)
    return units


def _dense(call: Call) -> Signal:
    return _affine(call, call.layer.units, "units")


def _conv1d(call: Call) -> Signal | None:
    layer = call.layer
    if layer.groups != 1 or layer.data_format != "channels_last":
        call.pins(call.inputs, f"{call.name} reads it in groups or channels first")
        call.multiplies(layer.kernel)
        return None
    return _affine(call, layer.filters, "filters")


def _embedding(call: Call) -> Signal:
    layer = call.layer
    units = call.structure(layer.output_dim, kind="embedding")
    call.vocabulary(call.inputs[0], layer.input_dim)
    call.writes(units, layer.embeddings)
    call.resizes(units, "output_dim", value=layer.output_dim)
    return units


def _reversible_embedding(call: Call) -> Signal | None:
    reverse = call.argument(1, "reverse", False)
    if not reverse:
        return _embedding(call)
    layer = call.layer
    kernel, axis = (layer.embeddings, 1) if layer.tie_weights else (layer.reverse_embeddings, 0)
    call.reads(call.inputs[0], kernel, axis)
    if not layer.tie_weights:  # both tables get their width from one config field
        own = call.structure(layer.output_dim, kind="embedding")
        call.joins([own, call.inputs[0]], f"{call.name} is read by something that can't shrink along with it")
    call.multiplies(kernel)
    return None


register(layers.Dense, _dense)
register(layers.Conv1D, _conv1d)
register(layers.Embedding, _embedding)
register(layers.ReversibleEmbedding, _reversible_embedding)
