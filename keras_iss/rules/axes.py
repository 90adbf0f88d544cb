"""Permute, and operations that index a tensor or reorder, add, drop and go along its axes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import layers

from keras_iss.calls import Call
from keras_iss.registry import operations, register
from keras_iss.rules.merging import united
from keras_iss.units import Signal, from_end

_MOVES_THE_BATCH = "moves the batch"
_BY_INDEX = "takes some of its units out by index"


def _rank(call: Call) -> int:
    return len(call.inputs[0].shape)


def _permute(call: Call) -> Signal | None:
    return _reordered(call, (0, *call.layer.dims))


def _transposed(call: Call) -> Signal | None:
    return _reordered(call, call.layer.axes or range(_rank(call))[::-1])


def _swapped(call: Call) -> Signal | None:
    order = np.arange(_rank(call))
    axes = [call.layer.axis1, call.layer.axis2]
    order[axes] = order[axes[::-1]]
    return _reordered(call, order.tolist())


def _moved(call: Call) -> Signal | None:
    numbered = np.empty(range(_rank(call)))  # each axis is as long as its number
    return _reordered(call, np.moveaxis(numbered, call.layer.source, call.layer.destination).shape)


def _reordered(call: Call, order: Sequence[int]) -> Signal | None:
    """The same axes, the batch among them, in another order."""
    return _rearranged(call, call.inputs[0], from_end(order, len(order)), _MOVES_THE_BATCH)


def _expanded(call: Call) -> Signal | None:
    rank = len(call.outputs[0].shape)
    fresh = from_end(call.layer.axis, rank)
    old = iter(range(-_rank(call), 0))
    sources = [None if axis in fresh else next(old) for axis in range(-rank, 0)]
    return _rearranged(call, call.inputs[0], sources, _MOVES_THE_BATCH)


def _squeezed(call: Call) -> Signal | None:
    signal, rank = call.inputs[0], _rank(call)
    ones = [a for a in range(-rank, 0) if signal.shape[a] == 1]
    gone = ones if call.layer.axis is None else from_end(call.layer.axis, rank)
    sources = [a for a in range(-rank, 0) if a not in gone]
    return _rearranged(call, signal, sources, "drops the axis of its only unit")


def _get_item(call: Call) -> Signal | None:
    """x[:, -1], x[:, None], x[..., ::-1, :]: anything that leaves the units' axis whole."""
    signal, key = call.inputs[0], call.argument(1, "key")
    keys = list(key) if isinstance(key, tuple) else [key]
    if not all(k is None or k is Ellipsis or isinstance(k, (int, slice)) for k in keys):
        call.pins([signal], f"{call.name} {_BY_INDEX}")
        return None
    if Ellipsis not in keys:
        keys.append(Ellipsis)
    where = keys.index(Ellipsis)
    keys[where : where + 1] = [slice(None)] * (len(signal.shape) - sum(k is not None for k in keys) + 1)
    old = iter(range(-len(signal.shape), 0))
    sources, cut = [], set()
    for k in keys:
        axis = None if k is None else next(old)
        if not isinstance(k, int):
            sources.append(axis)
        if k is not None and k != slice(None):
            cut.add(axis)
    if any(p.axis in cut for p in signal.placements):
        call.pins([signal], f"{call.name} {_BY_INDEX}")
        return None
    return _rearranged(call, signal, sources, _MOVES_THE_BATCH)


def _rearranged(call: Call, signal: Signal, sources: Sequence[int | None], reason: str) -> Signal | None:
    """The signal with other axes, if the batch stays first and the units' axes stay at all."""
    if sources[:1] != [-len(signal.shape)] or not {p.axis for p in signal.placements} <= set(sources):
        call.pins([signal], f"{call.name} {reason}")
        return None
    return signal.rearranged(sources)


def _stacked(call: Call) -> Signal | None:
    """Beside each other along a new axis, unit k of all inputs is one unit."""
    signals, rank = call.inputs, _rank(call)
    if not call.joins(signals, f"{call.name} puts it beside something that can't shrink along with it"):
        return None
    sources: list[int | None] = list(range(-rank, 0))
    sources.insert(call.layer.axis % (rank + 1), None)
    return _rearranged(call, united(signals, all), sources, _MOVES_THE_BATCH)


def _along(call: Call) -> Signal | None:
    """Turned round, rolled, added up or repeated along another axis than the units'."""
    signal = call.inputs[0]
    if {p.axis for p in signal.placements} & set(from_end(call.layer.axis, _rank(call))):
        call.pins([signal], f"{call.name} works along its units' axis")
        return None
    return signal.passed()


def _taken(call: Call) -> Signal | None:
    """Steps by number: `ops.take(x, indices, axis=1)`."""
    signal, indices = call.argument(0, "x"), call.argument(1, "indices")
    count = len(indices.shape) if hasattr(indices, "shape") else np.ndim(indices)
    if not _takes_steps(call, signal, indices):
        return None
    (axis,) = from_end(call.layer.axis, len(signal.shape))
    sources: list[int | None] = list(range(-len(signal.shape), 0))
    sources[axis + len(sources) : axis + len(sources) + 1] = [None] * count
    return _rearranged(call, signal, sources, _MOVES_THE_BATCH)


def _taken_along(call: Call) -> Signal | None:
    """`ops.take_along_axis(x, indices, axis=1)` with the same index for all units: the last step that counts."""
    signal, indices = call.argument(0, "x"), call.argument(1, "indices")
    if not _takes_steps(call, signal, indices):
        return None
    if any(indices.shape[p.axis] != 1 for p in signal.placements):
        call.pins([signal], f"{call.name} {_BY_INDEX}")
        return None
    return signal.passed()


def _takes_steps(call: Call, signal: Any, indices: Any) -> bool:
    """Whether the axis along which something is taken isn't that of units, and no units say what; else they're pinned."""
    if isinstance(indices, Signal):
        call.pins([indices], f"{call.name} takes something by it")
    if not isinstance(signal, Signal):
        return False
    axes = {-len(signal.shape), *(p.axis for p in signal.placements)}
    if call.layer.axis is None or axes & set(from_end(call.layer.axis, len(signal.shape))):
        call.pins([signal], f"{call.name} {_BY_INDEX}")
        return False
    return True


def _padded(call: Call) -> Signal | None:
    signal = call.inputs[0]
    widths = call.layer.pad_width
    widths = widths * len(signal.shape) if len(widths) == 1 else widths
    if any(tuple(widths[p.axis]) != (0, 0) for p in signal.placements):
        call.pins([signal], f"{call.name} works along its units' axis")
        return None
    return signal.passed(zero=not call.argument(1, "constant_values"))


register(layers.Permute, _permute)
operations["Transpose"] = _transposed
operations["Swapaxes"] = _swapped
operations["Moveaxis"] = _moved
operations["ExpandDims"] = _expanded
operations["Squeeze"] = _squeezed
operations["GetItem"] = _get_item
operations["Stack"] = _stacked
operations["Take"] = _taken
operations["TakeAlongAxis"] = _taken_along
operations["Pad"] = _padded
for _name in ("Flip", "Roll", "Cumsum", "Repeat", "Diff"):
    operations[_name] = _along
