"""Which layers and operations act on every time step by itself, so that a stream can pass through them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import layers

from keras_iss import layers as own_layers

__all__ = ["Call", "takes_the_last_step", "why_not_per_step"]

_TIME = 1  # the axis


@dataclass(frozen=True, kw_only=True)
class Call:
    """A layer or operation on symbolic tensors, of which `steps` hold time on axis 1 and `fixed` don't change."""

    operation: Any
    args: tuple
    kwargs: dict[str, Any]
    steps: list[keras.KerasTensor]
    fixed: list[keras.KerasTensor]


Rule = Callable[[Call], "str | None"]


def why_not_per_step(call: Call) -> str | None:
    """The reason why the operation doesn't act on every step by itself; None where it does."""
    operation = call.operation
    # The classes of keras.ops operations are not public: they're found by their names.
    rule = _RULES.get(type(operation) if isinstance(operation, layers.Layer) else type(operation).__name__)
    return _reason_of(operation) if rule is None else rule(call)


def takes_the_last_step(call: Call) -> bool:
    """Whether it's `x[:, -1]` or `x[:, -1, ...]`."""
    if type(call.operation).__name__ != "GetItem":
        return False
    key = _key(call)
    return len(key) > _TIME and isinstance(key[_TIME], int) and key[_TIME] == -1 and key[0] == slice(None)


def _reason_of(operation) -> str:
    """What's known of the layers that no rule lets through."""
    kind = type(operation).__name__
    if type(operation) is layers.Flatten:
        return "it lays all time steps side by side; read the last step with return_sequences=False"
    if isinstance(operation, layers.Bidirectional):
        return "it reads the sequence from its end too; train a model that reads forward only"
    if "Pooling" in kind:
        return "it pools over time steps; read the last step of a recurrent layer with return_sequences=False"
    if "Attention" in kind:
        return "it attends to all time steps; train a recurrent layer in its place"
    if type(operation) is layers.Lambda:
        return "it holds code that can't be looked into; use layers or keras.ops in its place"
    return (
        "it isn't known to act on every time step by itself; wrap it in TimeDistributed if it does, "
        "or export with streaming=False"
    )


def _any(call: Call) -> None:
    """Elementwise, or apart for every step by its nature."""


def _features(call: Call) -> str | None:
    """Acts on the last axis, which must not be time."""
    if any(len(x.shape) < 3 for x in call.steps):
        return "it works along the time axis, since its input has no axis of features"
    return None


def _axes(call: Call) -> str | None:
    """A layer that works along `axis`."""
    return _features(call) or _along(call.operation.axis, call.steps[0])


def _along(axis, x: keras.KerasTensor) -> str | None:
    if axis is None or {a % len(x.shape) for a in _listed(axis)} & {0, _TIME}:
        return "it works along the time axis; set its axis to the features, axis=-1"
    return None


def _listed(axis) -> Iterable[int]:
    return [axis] if isinstance(axis, int) else list(axis)


def _prelu(call: Call) -> str | None:
    if _TIME in (call.operation.shared_axes or ()):
        return None
    return "it has weights of its own for every time step; share them with shared_axes=[1]"


def _merge(call: Call) -> str | None:
    """A layer that merges tensors one by one; what has no time axis is spread over all steps."""
    if any(len(x.shape) > 2 and x.shape[_TIME] != 1 for x in call.fixed):
        return "it joins the steps with a tensor that has a time axis of its own; give it one step"
    return None


def _concatenate(call: Call) -> str | None:
    if call.fixed:
        return (
            "it joins the steps with a tensor that isn't streamed; make that an input with a value per step"
        )
    return _along(call.operation.axis, call.steps[0])


def _convolution(call: Call) -> str | None:
    """Causal ones carry a window and are streamed elsewhere; a kernel of one step needs none."""
    layer = call.operation
    if layer.data_format != "channels_last":
        return 'its time axis isn\'t axis 1; use data_format="channels_last"'
    if layer.strides[0] != 1:
        return "its strides are above 1, so that it doesn't give an output for every time step; set strides=1"
    if layer.kernel_size[0] == 1:
        return None
    return f'padding="{layer.padding}" is not causal; use padding="causal"'


def _reshape(call: Call) -> str | None:
    before, after = tuple(call.steps[0].shape[2:]), tuple(call.operation.target_shape)
    if after[0] == -1 and math.prod(after[1:]) == math.prod(before):
        return None
    return "it doesn't keep the time axis apart; write the shape of one step after -1: Reshape((-1, ...))"


def _permute(call: Call) -> str | None:
    return None if call.operation.dims[0] == _TIME else "it moves the time axis; keep 1 first in its dims"


def _elementwise(call: Call) -> str | None:
    """An operation on tensors and constants, aligned from the last axis."""
    rank = max(len(x.shape) for x in call.steps)
    constants = [x for x in (*call.args, *call.kwargs.values()) if isinstance(x, np.ndarray) or _is_weight(x)]
    for x in [*call.steps, *call.fixed, *constants]:
        aligned = [1] * (rank - len(x.shape)) + list(x.shape)
        ours = any(x is step for step in call.steps)
        if (ours and len(x.shape) != rank) or (not ours and aligned[_TIME] != 1):
            return "it joins every time step with another part of a tensor; give both the same time axis"
    return None


def _is_weight(x) -> bool:
    return not isinstance(x, keras.KerasTensor) and hasattr(x, "shape") and hasattr(x, "dtype")


def _reduction(call: Call) -> str | None:
    return _along(call.operation.axis, call.steps[0])


def _expand(call: Call) -> str | None:
    axes = {a % (len(call.steps[0].shape) + 1) for a in _listed(call.operation.axis)}
    return "it moves the time axis" if axes & {0, _TIME} else None


def _get_item(call: Call) -> str | None:
    key = _key(call)
    if all(part == slice(None) for part in key[: _TIME + 1]):
        return None
    return "it picks out some time steps; take all of them, or the last one with [:, -1]"


def _key(call: Call) -> tuple:
    key = call.args[1] if len(call.args) > 1 else call.kwargs["key"]
    key = key if isinstance(key, tuple) else (key,)
    if Ellipsis not in key:
        return key
    at = key.index(Ellipsis)
    named = sum(part is not None for part in key) - 1
    return key[:at] + (slice(None),) * (len(call.steps[0].shape) - named) + key[at + 1 :]


_RULES: dict[type | str, Rule] = {
    **dict.fromkeys(
        (
            *(layers.Dropout, layers.SpatialDropout1D, layers.GaussianNoise, layers.GaussianDropout),
            *(layers.AlphaDropout, layers.ActivityRegularization, layers.Rescaling, layers.Embedding),
            *(layers.Identity, layers.ReLU, layers.LeakyReLU, layers.ELU, layers.TimeDistributed),
        ),
        _any,
    ),
    **dict.fromkeys((layers.Dense, layers.Activation, layers.Masking), _features),
    **dict.fromkeys(
        (
            *(layers.LayerNormalization, layers.BatchNormalization, layers.RMSNormalization),
            *(layers.UnitNormalization, layers.Normalization, layers.Softmax),
            *(own_layers.StrippedLayerNormalization, own_layers.StrippedRMSNormalization),
        ),
        _axes,
    ),
    **dict.fromkeys(
        (layers.Add, layers.Subtract, layers.Multiply, layers.Average, layers.Maximum, layers.Minimum), _merge
    ),
    layers.PReLU: _prelu,
    layers.Concatenate: _concatenate,
    layers.Conv1D: _convolution,
    layers.Reshape: _reshape,
    layers.Permute: _permute,
    **dict.fromkeys(
        (
            *("Add", "Subtract", "Multiply", "Divide", "TrueDivide", "Maximum", "Minimum", "Power", "Clip"),
            *(
                "Absolute",
                "Negative",
                "Exp",
                "Expm1",
                "Log",
                "Log1p",
                "Sqrt",
                "Rsqrt",
                "Square",
                "Cast",
                "Sign",
            ),
            *("Tanh", "Sigmoid", "Relu", "Relu6", "LeakyRelu", "Elu", "Selu", "Gelu", "Silu", "Softplus"),
            *("Softsign", "HardSigmoid", "HardSilu", "HardTanh", "Sin", "Cos", "Identity"),
            *("Equal", "NotEqual", "Greater", "GreaterEqual", "Less", "LessEqual"),
            *("LogicalAnd", "LogicalOr", "LogicalNot", "Where"),
        ),
        _elementwise,
    ),
    **dict.fromkeys(("Any", "All", "Sum", "Mean", "Max", "Min", "Softmax", "LogSoftmax"), _reduction),
    "Concatenate": _concatenate,
    "ExpandDims": _expand,
    "GetItem": _get_item,
    "OneHot": lambda call: None if call.operation.axis == -1 else "it moves the time axis; use axis=-1",
}
