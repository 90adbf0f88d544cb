"""BatchNormalization carries its statistics with the units; what mixes the units pins them."""

from __future__ import annotations

from keras import layers

from keras_iss.calls import Call
from keras_iss.registry import register
from keras_iss.units import Signal


def _batch_normalization(call: Call) -> Signal:
    layer, signal = call.layer, call.inputs[0]
    axis = layer.axis - len(signal.shape) if layer.axis >= 0 else layer.axis
    weights = (layer.gamma if layer.scale else None, layer.beta if layer.center else None)
    if axis == -1:
        for weight in (*weights, layer.moving_mean, layer.moving_variance):
            call.carries(signal, weight)
    elif any(p.axis == axis for p in signal.placements):
        call.pins([signal], f"{call.name} normalizes its units on another axis than the features")
    # A removed unit becomes beta - gamma * mean / sqrt(var): a constant, not 0.
    return signal.passed(zero=False)


def _mixes_units(call: Call) -> None:
    """A mean, variance or norm over the units changes when one is removed, even one that is always 0."""
    signal = call.inputs[0]
    call.pins([signal], f"{call.name} ({type(call.layer).__name__}) normalizes over its units")


def _layer_normalization(call: Call) -> Signal | None:
    layer, signal = call.layer, call.inputs[0]
    axes = layer.axis if isinstance(layer.axis, (list, tuple)) else [layer.axis]
    rank = len(signal.shape)
    if {a - rank if a >= 0 else a for a in axes} & {p.axis for p in signal.placements}:
        return _mixes_units(call)
    return signal.passed(zero=False)


def _unit_normalization(call: Call) -> Signal:
    """x / ||x||: a unit that is 0 adds nothing to the norm and stays 0."""
    call.reads_without_weight(call.inputs[0])
    return call.inputs[0].passed()


register(layers.BatchNormalization, _batch_normalization)
register(layers.LayerNormalization, _layer_normalization)
register(layers.UnitNormalization, _unit_normalization)
for _class in (layers.GroupNormalization, layers.RMSNormalization):
    register(_class, _mixes_units)
