"""Activations and other functions of each unit alone."""

from __future__ import annotations

from keras import layers

from keras_iss.calls import Call
from keras_iss.registry import operations, register, zero_at_zero
from keras_iss.units import Signal, from_end


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
        call.pins(
            [signal], f"{call.name} has a slope for each of its units on another axis than the features"
        )
    return signal.passed()


def _softmax(call: Call) -> Signal | None:
    signal = call.inputs[0]
    if {p.axis for p in signal.placements} & set(from_end(call.layer.axis, len(signal.shape))):
        call.pins([signal], f"{call.name} is a softmax over its units")
        return None
    return signal.passed(zero=False)


def _same(call: Call) -> Signal:
    return call.inputs[0].passed()


def _not_zero(call: Call) -> Signal:
    return call.inputs[0].passed(zero=False)


def _not_finite(call: Call) -> Signal | None:
    """Such as the square root: a unit that is 0 would make the training's gradient infinite."""
    signal = call.inputs[0]
    if any(p.zero for p in signal.placements):
        call.pins([signal], f"{call.name} or its gradient isn't finite at 0; add a small number before it")
        return None
    return signal.passed(zero=False)


def _clipped(call: Call) -> Signal | None:
    low, high = call.layer.x_min, call.layer.x_max
    if not all(isinstance(limit, (int, float)) for limit in (low, high)):
        call.pins(call.inputs, f"{call.name} clips by something that isn't a number")
        return None
    return call.inputs[0].passed(zero=low <= 0 <= high)


def _power(call: Call) -> Signal | None:
    base, exponent = call.args
    if not isinstance(base, Signal) or not isinstance(exponent, (int, float)):
        call.pins(call.inputs, f"{call.name} has an exponent that isn't a number")
        return None
    return base.passed() if exponent >= 1 else _not_finite(call)


for _class in (
    layers.Dropout, layers.SpatialDropout1D, layers.SpatialDropout2D, layers.SpatialDropout3D, layers.GaussianNoise,
    layers.GaussianDropout, layers.AlphaDropout, layers.ActivityRegularization, layers.Identity, layers.ELU,
    layers.LeakyReLU,
):  # fmt: skip
    register(_class, _same)
register(layers.Activation, _activation)
register(layers.ReLU, _relu)
register(layers.PReLU, _prelu)
register(layers.Softmax, _softmax)
operations["Softmax"] = _softmax
operations["Clip"] = _clipped
operations["Power"] = _power
for _name in (
    "Abs", "Absolute", "Cast", "Celu", "Elu", "Expm1", "Gelu", "HardShrink", "HardSilu", "HardTanh", "LeakyRelu", "Log1p",
    "Negative", "Relu", "Relu6", "Round", "Selu", "Sign", "Silu", "Sin", "SoftShrink", "Softsign", "Square", "StopGradient",
    "Tanh", "TanhShrink",
):  # fmt: skip
    operations[_name] = _same
for _name in (
    "Cos", "Cosh", "Exp", "HardSigmoid", "LogSigmoid", "Sigmoid", "Softplus", "SparseSigmoid", "Squareplus",
):  # fmt: skip
    operations[_name] = _not_zero
for _name in ("Log", "Reciprocal", "Rsqrt", "Sqrt"):
    operations[_name] = _not_finite
