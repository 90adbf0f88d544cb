"""Layers and operations that put several tensors together, and masks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from keras import layers

from keras_iss.calls import Call
from keras_iss.registry import operations, register
from keras_iss.units import Placement, Signal, from_end


def _merge(call: Call) -> Signal:
    return _merged(call, call.inputs, _numbers(call.args))


def _product(call: Call) -> Signal:
    return _merged(call, call.inputs, _numbers(call.args), product=True)


def _merged(call: Call, signals: Sequence[Signal], numbers: int, *, product: bool = False) -> Signal:
    """Elementwise: unit k of all signals is one unit; the sum is 0 if all are, the product if one is.

    Args:
        numbers: How many numbers other than 0 are merged with them.
    """
    if len({len(s.shape) for s in signals}) > 1:
        call.pins(signals, f"{call.name} merges tensors of different rank")
        return Signal(signals[0].shape)
    axes = {p.axis for s in signals for p in s.placements}
    wide = [s for s in signals if any(s.shape[axis] != 1 for axis in axes)] or signals
    if not call.joins(wide, f"{call.name} merges it with something that can't shrink along with it"):
        return wide[0].passed(zero=False)
    narrow = [s for s in signals if s not in wide]
    call.pins(narrow, f"{call.name} spreads it over all units of something else")
    others = len(narrow) + numbers
    return united(wide, any if product else lambda zeros: all(zeros) and not others)


def united(signals: Sequence[Signal], zero: Callable[[Iterable[bool]], bool]) -> Signal:
    """The units of signals that lie alike; `zero` tells from those of all signals whether one is still read as 0."""
    flags = zip(*([p.zero for p in s.placements] for s in signals), strict=True)
    return signals[0].with_zeros([zero(unit) for unit in flags])


def _numbers(arguments: Sequence[Any]) -> int:
    """Numbers among the arguments of `x + 1` that aren't 0."""
    others = (a for a in arguments if not isinstance(a, (Signal, list, tuple)) and a is not None)
    return sum(not (isinstance(a, (int, float)) and a == 0) for a in others)


def _scaled(call: Call) -> Signal | None:
    """x / 2; a divisor that carries units, or an array that could hold anything, is not followed."""
    if isinstance(call.args[0], Signal) and isinstance(call.args[1], (int, float)):
        return call.inputs[0].passed()
    call.pins(call.inputs, f"{call.name} divides by something that isn't a number")
    return None


def _operator(call: Call, rule: Any) -> Signal | None:
    """`x + y` and the like: arrays among the arguments have a width of their own, so they pin."""
    if _arrays(call.args):
        call.pins(call.inputs, f"{call.name} merges it with an array that can't shrink along with it")
        return None
    return rule(call)


def _arrays(arguments: Sequence[Any]) -> bool:
    return any(getattr(a, "shape", ()) not in ((), (1,)) for a in arguments if not isinstance(a, Signal))


def _chosen(call: Call) -> Signal | None:
    """`ops.where(mask, x, y)`: a mask of one value for all units chooses between what unit k of both is."""
    mask, *branches = (call.argument(i, name) for i, name in enumerate(("condition", "x1", "x2")))
    signals = [x for x in branches if isinstance(x, Signal)]
    axes = {p.axis for s in signals for p in s.placements}
    same = isinstance(mask, Signal) and all(len(mask.shape) == len(s.shape) for s in signals)
    if not same or any(mask.shape[axis] != 1 for axis in axes) or _arrays(branches):
        call.pins(call.inputs, f"{call.name} chooses by something that can't shrink along with it")
        return None
    call.pins([mask], f"{call.name} chooses by it")
    return _merged(call, signals, _numbers(branches)) if signals else None


def _concatenate(call: Call) -> Signal:
    signals = call.inputs
    (axis,) = from_end(getattr(call.layer, "axis", -1), len(signals[0].shape))
    if axis == -1:
        return _beside(call, signals)
    if any(p.axis == axis for s in signals for p in s.placements):
        call.pins(signals, f"{call.name} joins along its units' axis")
        return Signal(signals[0].shape)
    if call.joins(signals, f"{call.name} puts it beside something that can't shrink along with it"):
        return united(signals, all)
    return signals[0].passed(zero=False)


def _beside(call: Call, signals: Sequence[Signal]) -> Signal:
    """Concatenated features: each signal's units are shifted by the width of those before it."""
    placements: tuple[Placement, ...] = ()
    offset = 0
    for s in signals:
        if any(p.axis != -1 for p in s.placements):
            call.pins([s], f"{call.name} joins it along another axis than its units'")
        elif s.shape[-1] is None:
            call.pins(signals, f"{call.name} joins features whose number isn't known")
        else:
            placements += s.shifted(offset)
        offset += s.shape[-1] or 0
    return Signal((*signals[0].shape[:-1], offset), placements)


def _masking(call: Call) -> Signal:
    """Sets whole steps to 0; the mask itself is made by operations of its own."""
    signal = call.inputs[0]
    if call.layer.mask_value == 0:
        call.reads_without_weight(signal)
    else:
        call.pins([signal], f"{call.name} compares its units with {call.layer.mask_value}, not with 0")
    return signal.passed()


def _not_equal(call: Call) -> Signal | None:
    """x != 0, from which a mask is made: False for a unit that is 0."""
    if isinstance(call.args[0], Signal) and isinstance(call.args[1], (int, float)) and call.args[1] == 0:
        return call.inputs[0].passed()
    return _operator(call, _merge)


def _any(call: Call) -> None:
    """Whether any unit is not 0: read without a weight."""
    signal = call.inputs[0]
    if {p.axis for p in signal.placements} <= set(from_end(call.layer.axis, len(signal.shape))):
        call.reads_without_weight(signal)
    else:
        call.pins([signal], f"{call.name} looks at each of its units alone")


for _class in (layers.Add, layers.Average, layers.Subtract, layers.Maximum, layers.Minimum):
    register(_class, _merge)
register(layers.Multiply, _product)
register(layers.Concatenate, _concatenate)
register(layers.Masking, _masking)
for _name in ("Add", "Subtract", "Maximum", "Minimum"):
    operations[_name] = lambda call: _operator(call, _merge)
operations["Multiply"] = lambda call: _operator(call, _product)
operations["Divide"] = operations["TrueDivide"] = _scaled
operations["Where"] = _chosen
operations["Concatenate"] = _concatenate
operations["NotEqual"] = _not_equal
operations["Any"] = _any
