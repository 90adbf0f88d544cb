"""Layers and operations that put several tensors together, and elementwise ones."""

from __future__ import annotations

import dataclasses
from typing import Any

from keras import layers

from keras_iss.calls import Call
from keras_iss.registry import operations, register, zero_at_zero
from keras_iss.units import Signal


def _broadcasts(signal: Signal) -> bool:
    return not signal.placements and bool(signal.shape) and signal.shape[-1] == 1


def _merge(call: Call, *, product: bool = False) -> Signal:
    """Elementwise: unit k of all inputs is one unit; the sum is 0 if all are, the product if one is."""
    signals = call.inputs
    wide = [s for s in signals if not _broadcasts(s)]
    first = wide[0] if wide else signals[0]
    if len({len(s.shape) for s in signals}) > 1:
        call.pins(signals, f"{call.name} merges tensors of different rank")
        return Signal(first.shape)
    if wide:
        call.joins(wide, f"{call.name} merges it with something that can't shrink along with it")
    zeros = [s.zero and bool(s.placements) for s in signals] + [False] * _scalars(call)
    return first.passed(zero=any(zeros[: len(signals)]) if product else all(zeros))


def _scalars(call: Call) -> int:
    """Numbers and arrays among the arguments of `x + 1`."""
    return sum(not isinstance(a, (Signal, list, tuple)) and a is not None for a in call.args)


def _product(call: Call) -> Signal:
    return _merge(call, product=True)


def _scaled(call: Call) -> Signal | None:
    """x / 2; a divisor that carries units, or an array that could hold anything, is not followed."""
    if isinstance(call.args[0], Signal) and isinstance(call.args[1], (int, float)):
        return call.inputs[0].passed()
    call.pins(call.inputs, f"{call.name} divides by something that isn't a number")
    return None


def _operator(call: Call, rule: Any) -> Signal | None:
    """`x + y` and the like: arrays among the arguments have a width of their own, so they pin."""
    if any(getattr(a, "shape", ()) not in ((), (1,)) for a in call.args if not isinstance(a, Signal)):
        call.pins(call.inputs, f"{call.name} merges it with an array that can't shrink along with it")
        return None
    return rule(call)


def _concatenate(call: Call) -> Signal:
    signals = call.inputs
    axis = getattr(call.layer, "axis", -1)
    rank = len(signals[0].shape)
    axis = axis - rank if axis >= 0 else axis
    if axis == -1:
        placements: tuple = ()
        offset = 0
        for s in signals:
            if s.placements and any(p.axis != -1 for p in s.placements):
                call.pins([s], f"{call.name} joins it along another axis than its units'")
                continue
            placements += s.shifted(offset)
            offset += s.shape[-1] or 0
        return Signal((*signals[0].shape[:-1], offset), placements)
    if any(p.axis == axis for s in signals for p in s.placements):
        call.pins(signals, f"{call.name} joins along its units' axis")
        return Signal(signals[0].shape)
    call.joins(signals, f"{call.name} puts it beside something that can't shrink along with it")
    return signals[0].passed(zero=all(s.zero and bool(s.placements) for s in signals))


def _activation(call: Call) -> Signal | None:
    zero = zero_at_zero(call.layer.activation)
    if zero is None:
        call.pins(call.inputs, f"the activation of {call.name} is not known to treat each unit alone")
        return None
    return call.inputs[0].passed(zero=zero)


def _relu(call: Call) -> Signal:
    layer = call.layer
    return call.inputs[0].passed(zero=not (layer.threshold > 0 and layer.negative_slope))


def _prelu(call: Call) -> Signal:
    signal = call.inputs[0]
    if all(p.axis == -1 for p in signal.placements):
        if call.layer.alpha.shape[-1] == signal.shape[-1]:  # not shared over the units
            call.carries(signal, call.layer.alpha)
    else:
        call.pins([signal], f"{call.name} has a slope for each of its units on another axis than the features")
    return signal.passed()


def _softmax(call: Call) -> Signal | None:
    signal = call.inputs[0]
    axes = call.layer.axis if isinstance(call.layer.axis, (list, tuple)) else [call.layer.axis]
    rank = len(signal.shape)
    if {a - rank if a >= 0 else a for a in axes} & {p.axis for p in signal.placements}:
        call.pins([signal], f"{call.name} is a softmax over its units")
        return None
    return signal.passed(zero=False)


def _same(call: Call) -> Signal:
    return call.inputs[0].passed()


def _not_zero(call: Call) -> Signal:
    return call.inputs[0].passed(zero=False)


def _masking(call: Call) -> Signal:
    """Masking looks whether any unit differs from mask_value."""
    signal = call.inputs[0]
    if call.layer.mask_value == 0:
        call.reads_without_weight(signal)
    else:
        call.pins([signal], f"{call.name} compares its units with {call.layer.mask_value}, not with 0")
    return signal.passed()


def _get_item(call: Call) -> Signal | None:
    """x[:, -1], x[:, ::-1]: anything that leaves the last axis whole."""
    signal, key = call.inputs[0], call.argument(1, "key")
    keys = key if isinstance(key, tuple) else (key,)
    plain = all(isinstance(k, (int, slice)) for k in keys) and len(keys) < len(signal.shape)
    if len(keys) == len(signal.shape) and all(isinstance(k, (int, slice)) for k in keys):
        plain = keys[-1] == slice(None)
    if not plain or any(p.axis != -1 for p in signal.placements):
        call.pins([signal], f"{call.name} takes some of its units out by index")
        return None
    return dataclasses.replace(signal.passed(), shape=call.outputs[0].shape)


for _class in (
    layers.Dropout, layers.SpatialDropout1D, layers.SpatialDropout2D, layers.SpatialDropout3D, layers.GaussianNoise,
    layers.GaussianDropout, layers.AlphaDropout, layers.ActivityRegularization, layers.Identity, layers.ELU,
    layers.LeakyReLU,
):  # fmt: skip
    register(_class, _same)
for _class in (layers.Add, layers.Average, layers.Subtract, layers.Maximum, layers.Minimum):
    register(_class, _merge)
register(layers.Multiply, _product)
register(layers.Concatenate, _concatenate)
register(layers.Activation, _activation)
register(layers.ReLU, _relu)
register(layers.PReLU, _prelu)
register(layers.Softmax, _softmax)
register(layers.Masking, _masking)
for _name in ("Add", "Subtract", "Maximum", "Minimum"):
    operations[_name] = lambda call: _operator(call, _merge)
operations["Multiply"] = lambda call: _operator(call, _product)
operations["Divide"] = operations["TrueDivide"] = _scaled
operations["Concatenate"] = _concatenate
operations["GetItem"] = _get_item
for _name in ("Relu", "Relu6", "Tanh", "Silu", "Negative", "Absolute", "LeakyRelu", "Elu", "Selu", "Gelu", "Square"):
    operations[_name] = _same
for _name in ("Sigmoid", "Softplus", "Exp", "HardSigmoid"):
    operations[_name] = _not_zero
