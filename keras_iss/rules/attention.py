"""Attention, AdditiveAttention and MultiHeadAttention as readers of units; Dot and matmul, from which people make their own."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from keras import layers

from keras_iss.calls import Call
from keras_iss.registry import operations, register
from keras_iss.units import Signal, from_end


def _split(call: Call) -> tuple[Signal, Signal, Signal]:
    query, value, *rest = call.argument(0, "inputs")
    return query, value, rest[0] if rest else value


def _with_scores(call: Call, result: Signal) -> list[Signal]:
    """The scores that come with return_attention_scores=True carry no units."""
    return [result, *call.outputs[1:]]


def _attention(call: Call) -> list[Signal]:
    """softmax(q kᵀ) v: unit k of query and key meet in the score, so both are one unit, and it must be 0 to go."""
    query, value, key = _split(call)
    call.joins([query, key], f"{call.name} compares it with something that can't shrink along with it")
    call.reads_without_weight(query, key)
    return _with_scores(call, value.passed())


def _additive_attention(call: Call) -> list[Signal]:
    """Σ_k scale_k tanh(q_k + k_k): read through the weight `scale`."""
    query, value, key = _split(call)
    call.joins([query, key], f"{call.name} compares it with something that can't shrink along with it")
    if call.layer.scale is None:
        call.reads_without_weight(query, key)
    else:
        for signal in (query, key):
            call.reads(signal, call.layer.scale)
    return _with_scores(call, value.passed())


def _multi_head_attention(call: Call) -> list[Signal] | None:
    """Each input is read by a projection; the output projection makes units of its own."""
    layer = call.layer
    query, value = call.argument(0, "query"), call.argument(1, "value")
    key = call.argument(2, "key") or value
    if layer.get_config().get("use_gate"):
        call.pins([query, value, key], f"{call.name} has a gate, which isn't followed")
        return None
    projections = (layer.query_dense, layer.key_dense, layer.value_dense, layer.output_dense)
    for signal, dense in zip((query, key, value), projections, strict=False):
        call.reads(signal, dense.kernel, 0)
    output = projections[-1]
    size = output.kernel.shape[-1]
    units = call.structure(size, kind="dense")
    call.writes(units, output.kernel)
    call.writes(units, output.bias, penalised=False)
    for dense in projections:
        call.multiplies(dense.kernel)
    call.resizes(units, "output_shape", value=size)
    # Left to itself the layer would shrink its output with the query.
    call.resizes(query, "output_shape", value=size, per_unit=0)
    if len(output.kernel.shape) != 3:
        call.pins([units, query], f"{call.name} has an output of several axes")
    return _with_scores(call, units)


def _dot(call: Call) -> Signal:
    x, y = call.inputs
    axes = call.layer.axes if isinstance(call.layer.axes, (list, tuple)) else [call.layer.axes] * 2
    over = [*from_end(axes[0], len(x.shape)), *from_end(axes[1], len(y.shape))]
    kept: list[tuple[int, int] | None] = [(0, a) for a in range(-len(x.shape), 0) if a != over[0]]
    kept += [(1, a) for a in range(1 - len(y.shape), 0) if a != over[1]]
    return _contracted(call, over, kept if len(kept) > 1 else [*kept, None])


def _matmul(call: Call) -> Signal | None:
    """Of two tensors of equal rank whose first axes are the batch and the like."""
    signals = call.inputs
    ranks = {len(s.shape) for s in signals}
    rank = max(ranks)
    if (
        len(signals) != 2
        or len(ranks) > 1
        or rank < 3
        or any(p.axis < -2 for s in signals for p in s.placements)
    ):
        call.pins(signals, f"{call.name} multiplies it in a way that isn't followed")
        return None
    return _contracted(call, [-1, -2], [*[None] * (rank - 2), (0, -2), (1, -1)])


def _contracted(call: Call, over: Sequence[int], kept: Sequence[tuple[int, int] | None]) -> Signal:
    """Σ along one axis of each of two tensors: units there meet in the sum, those on other axes are passed on.

    Args:
        call: Its two inputs are the tensors.
        over: The axis of each, counted from the end.
        kept: For each axis of the result (tensor, axis) where it comes from, or None.
    """
    signals = call.inputs
    met = [
        Signal((), tuple(dataclasses.replace(p, axis=-1) for p in s.placements if p.axis == axis))
        for s, axis in zip(signals, over, strict=True)
    ]
    if any(s.carried for s in met):
        call.joins(met, f"{call.name} compares it with something that can't shrink along with it")
        call.reads_without_weight(*met)
    places = {place: number - len(kept) for number, place in enumerate(kept) if place}
    carried = (
        dataclasses.replace(p, axis=places[which, p.axis])
        for which, s in enumerate(signals)
        for p in s.placements
        if (which, p.axis) in places
    )
    return Signal(call.outputs[0].shape, tuple(carried))


operations["Matmul"] = _matmul
register(layers.Dot, _dot)
register(layers.Attention, _attention)
register(layers.AdditiveAttention, _additive_attention)
register(layers.MultiHeadAttention, _multi_head_attention)
