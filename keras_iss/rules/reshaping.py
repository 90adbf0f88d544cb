"""Flatten, Reshape, RepeatVector, pooling and sums over time: what moves units about."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import layers

from keras_iss.calls import Call
from keras_iss.registry import operations, register
from keras_iss.units import Placement, Signal, from_end


def _reshaped(call: Call) -> Signal:
    """Follows each unit's number through numpy's own reshape and looks where it comes out."""
    signal = call.inputs[0]
    output = Signal(tuple(call.layer.compute_output_shape(signal.shape)))
    known = all(signal.shape[p.axis] is not None for p in signal.placements)
    channels_first = getattr(call.layer, "data_format", None) == "channels_first"
    if not known or channels_first or max(x.shape[1:].count(None) for x in (signal, output)) > 1:
        call.pins([signal], f"{call.name} reshapes it to a shape that isn't known here")
        return output
    target = [-1 if d is None else d for d in output.shape[1:]]
    length = _some_length(signal.shape[1:], output.shape[1:])
    shape = [length if d is None else d for d in signal.shape[1:]]
    placements = []
    for p in signal.placements:
        owner = np.full(shape[p.axis], -1)
        owner[p.indices()] = np.arange(p.draft.root.size)[:, None]
        owners = np.broadcast_to(
            owner.reshape([-1 if a == p.axis % len(shape) else 1 for a in range(len(shape))]), shape
        )
        moved = _find(owners.reshape(target), p)
        if moved is None:
            call.pins([signal], f"{call.name} spreads its units over several axes")
            return output
        placements.append(moved)
    result = Signal(output.shape, tuple(placements))
    _resize_target(call, result)
    return result


def _some_length(shape: Sequence[int | None], target: Sequence[int | None]) -> int:
    """A length for the open axis that the target can hold; any such length gives the same pattern of units."""
    given, taken = (math.prod(d for d in dims if d is not None) for dims in (shape, target))
    return 2 * taken // math.gcd(given, taken)


def _find(owners: np.ndarray, placement: Placement) -> Placement | None:
    """The axis along which the owner of each index is the same everywhere else, as a placement."""
    for axis in reversed(range(owners.ndim)):  # features first: a single unit is the same along every axis
        line = np.moveaxis(owners, axis, -1).reshape(-1, owners.shape[axis])
        if np.all(line == line[:1]):
            return _as_placement(line[0], axis - owners.ndim, placement)
    return None


def _as_placement(line: np.ndarray, axis: int, placement: Placement) -> Placement | None:
    """Writes "who owns index i" as offsets, stride and repeat, if it has that form."""
    size = placement.draft.root.size
    places = [np.flatnonzero(line == k) for k in range(size)]
    if len({len(p) for p in places}) != 1 or not len(places[0]):
        return None
    first = places[0]
    breaks = np.flatnonzero(np.diff(first) != 1) + 1
    stride = int(places[1][0] - first[0]) if size > 1 else 1
    for repeat in {len(run) for run in np.split(first, breaks)} | {1}:
        if size > 1 and repeat > abs(stride):  # neighbouring runs of one unit: only with several offsets
            continue
        if len(first) % repeat or stride < 1:
            continue
        offsets = tuple(int(o) for o in first[::repeat])
        candidate = dataclasses.replace(placement, axis=axis, offsets=offsets, stride=stride, repeat=repeat)
        if np.array_equal(candidate.indices(), np.stack(places)):
            return candidate
    return None


def _resize_target(call: Call, result: Signal) -> None:
    if not isinstance(call.layer, layers.Reshape):
        return
    target = call.layer.target_shape
    for index, value in enumerate(target):
        there = tuple(p for p in result.placements if index == len(target) + p.axis)
        if there and value != -1:
            call.resizes(Signal((), there), "target_shape", index, value=value)


def _over_time(call: Call) -> Any:
    """Pooling, padding, cropping, repeating: the last axis stays as it is, zeros stay zeros."""
    signal = call.inputs[0]
    layer = call.layer
    first = getattr(layer, "data_format", "channels_last") == "channels_first"
    if first or any(p.axis != -1 for p in signal.placements):
        call.pins([signal], f"{call.name} works along its units' axis")
        return None
    return signal.passed()


def _reduced(call: Call) -> Signal | None:
    """`ops.sum(x, axis=1)` and the like: 0 where the unit is 0 at every step."""
    signal = call.inputs[0]
    over_units = -1 in from_end(call.layer.axis, len(signal.shape))
    if over_units or any(p.axis != -1 for p in signal.placements):
        call.pins([signal], f"{call.name} puts its units together")
        return None
    return signal.passed(zero=not getattr(call.layer, "initial", None))  # of `max` and `min`


def _reduced_to_other(call: Call) -> Signal | None:
    """`ops.logsumexp(x, axis=1)`: of zeros it's the logarithm of their number."""
    reduced = _reduced(call)
    return reduced and reduced.passed(zero=False)


def _deviation(call: Call) -> None:
    reason = "isn't smooth where a unit is 0 at every step; take ops.sqrt(ops.var(...) + 1e-5)"
    call.pins(call.inputs, f"{call.name} {reason}")


register(layers.Flatten, _reshaped)
register(layers.Reshape, _reshaped)
for _class in (
    layers.RepeatVector, layers.GlobalAveragePooling1D, layers.GlobalMaxPooling1D, layers.AveragePooling1D,
    layers.MaxPooling1D, layers.UpSampling1D, layers.ZeroPadding1D, layers.Cropping1D,
):  # fmt: skip
    register(_class, _over_time)
for _name in ("Sum", "Mean", "Max", "Min", "Amax", "Amin", "Prod", "Var"):
    operations[_name] = _reduced
operations["Logsumexp"] = _reduced_to_other
operations["Std"] = _deviation
