"""How units pass through normalizations: their weights go with the units, and what the others see stays the same."""

from __future__ import annotations

from collections.abc import Sequence

from keras import layers

from keras_iss.calls import Call
from keras_iss.layers.normalization import StrippedLayerNormalization, StrippedRMSNormalization
from keras_iss.registry import becomes, register
from keras_iss.units import Signal, from_end


def _batch_normalization(call: Call) -> Signal:
    layer, signal = call.layer, call.inputs[0]
    (axis,) = from_end(layer.axis, len(signal.shape))
    weights = (layer.gamma if layer.scale else None, layer.beta if layer.center else None)
    if axis == -1:
        for weight in (*weights, layer.moving_mean, layer.moving_variance):
            call.carries(signal, weight)
    elif any(p.axis == axis for p in signal.placements):
        call.pins([signal], f"{call.name} normalizes its units on another axis than the features")
    # A removed unit becomes beta - gamma * mean / sqrt(var): a constant, not 0.
    return signal.passed(zero=False)


def _layer_normalization(call: Call) -> Signal | None:
    layer, signal = call.layer, call.inputs[0]
    along = _along(signal, _axes(call))
    if along.placements and (layer.rms_scaling or not _counts_units(call, along)):
        return _mixes_units(call)
    for weight in (layer.gamma, layer.beta):
        call.writes(along, weight, penalised=False)
    # A unit that is 0 becomes beta - gamma * mean / sqrt(var); where all are 0, as along another axis, beta.
    return signal.with_zeros([p in along.placements and layer.scale for p in signal.placements])


def _rms_normalization(call: Call) -> Signal | None:
    """x / sqrt(mean(x²)): a unit that is 0 stays 0."""
    signal = call.inputs[0]
    along = _along(signal, [-1])
    if signal.placements and (_axes(call) != [-1] or (along.placements and not _counts_units(call, along))):
        return _mixes_units(call)
    call.carries(along, call.layer.scale)
    return signal.passed()


def _axes(call: Call) -> list[int]:
    return from_end(call.layer.axis, len(call.inputs[0].shape))


def _along(signal: Signal, axes: Sequence[int]) -> Signal:
    """What lies on the normalized axes, where the weights do."""
    return Signal(signal.shape, tuple(p for p in signal.placements if p.axis in axes))


def _counts_units(call: Call, along: Signal) -> bool:
    """Has a mean over the features taken over as many units as before, which is exact for units that are always 0.

    Returns:
        Whether that can be done.
    """
    total = getattr(call.layer, "total_units", along.shape[-1])
    if _axes(call) != [-1] or total is None or call.wrapped:
        return False
    call.reads_without_weight(along)
    call.resizes(along, "total_units", value=total, per_unit=0)
    return True


def _mixes_units(call: Call) -> None:
    """A mean or variance over the units changes when one is removed, even one that is always 0."""
    signal = call.inputs[0]
    call.pins([signal], f"{call.name} ({type(call.layer).__name__}) normalizes over its units")


def _unit_normalization(call: Call) -> Signal:
    """x / ||x||: a unit that is 0 adds nothing to the norm and stays 0."""
    call.reads_without_weight(call.inputs[0])
    return call.inputs[0].passed()


register(layers.BatchNormalization, _batch_normalization)
register(layers.UnitNormalization, _unit_normalization)
register(layers.GroupNormalization, _mixes_units)
for _class, _stripped, _rule in (
    (layers.LayerNormalization, StrippedLayerNormalization, _layer_normalization),
    (layers.RMSNormalization, StrippedRMSNormalization, _rms_normalization),
):
    register(_class, _rule)
    register(_stripped, _rule)
    becomes[_class] = _stripped
