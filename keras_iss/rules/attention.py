"""Attention, AdditiveAttention and MultiHeadAttention as readers of units; Dot, matmul and einsum, from which people make
their own.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from string import ascii_uppercase

from keras import layers

from keras_iss.calls import Call
from keras_iss.registry import operations, register
from keras_iss.rules.merging import united
from keras_iss.units import Placement, Signal


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
    x, y = (len(s.shape) for s in call.inputs)
    axes = call.layer.axes if isinstance(call.layer.axes, (list, tuple)) else [call.layer.axes] * 2
    first, second = "b" + ascii_uppercase[: x - 1], "b" + ascii_uppercase[x : x + y - 1]
    meeting = first[axes[0]]
    second = second.replace(second[axes[1]], meeting)
    kept = [letter for letter in first + second[1:] if letter != meeting]
    return _product_sum(call, (first, second), "".join(kept) if len(kept) > 1 else f"{kept[0]}z")


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
    batch = ascii_uppercase[: rank - 2]
    return _product_sum(call, (f"{batch}xy", f"{batch}yz"), f"{batch}xz")


def _einsum(call: Call) -> Signal | None:
    """Of tensors, the letters of each once and the batch first: "btd,bsd->bts"."""
    signals = call.inputs
    terms, arrow, result = call.layer.subscripts.partition("->")
    given = terms.split(",")
    plain = arrow and "." not in terms and all(len(set(t)) == len(t) for t in (*given, result))
    if not plain or len(given) != len(signals) or {t[:1] for t in (*given, result)} != {result[:1]}:
        call.pins(signals, f"{call.name} multiplies it in a way that isn't followed")
        return None
    return _product_sum(call, given, result)


def _product_sum(call: Call, given: Sequence[str], result: str) -> Signal:
    """The product of tensors, summed over the axes that the result lacks: units there meet in the sum, others are passed on.

    Args:
        call: Its inputs are the tensors.
        given: A letter for each axis of each tensor, as for einsum.
        result: Those of the result.
    """
    kept: list[Placement] = []
    for letter in dict.fromkeys("".join(given)):
        met = [
            _on(letters.index(letter) - len(letters), s)
            for s, letters in zip(call.inputs, given, strict=True)
            if letter in letters
        ]
        if not any(s.carried for s in met):
            continue
        if len(met) == 1 and letter not in result:
            call.pins(met, f"{call.name} puts its units together")
        elif not call.joins(met, f"{call.name} compares it with something that can't shrink along with it"):
            continue
        elif letter in result:
            axis = result.index(letter) - len(result)
            kept += [dataclasses.replace(p, axis=axis) for p in united(met, any).carried]
        else:
            call.reads_without_weight(*met)
    return Signal(call.outputs[0].shape, tuple(kept))


def _on(axis: int, signal: Signal) -> Signal:
    """The units on one axis alone, as if they were features."""
    return Signal((), tuple(dataclasses.replace(p, axis=-1) for p in signal.placements if p.axis == axis))


operations["Matmul"] = _matmul
operations["Einsum"] = _einsum
register(layers.Dot, _dot)
register(layers.Attention, _attention)
register(layers.AdditiveAttention, _additive_attention)
register(layers.MultiHeadAttention, _multi_head_attention)
