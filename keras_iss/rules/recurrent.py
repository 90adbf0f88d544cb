"""LSTM, GRU, SimpleRNN, RHN, HLSTM (its cell is in hlstm.py), RNN(cell), StackedRNNCells, Bidirectional, TimeDistributed.

A unit's incoming weights are its columns in every gate of kernel, recurrent kernel and bias; its outgoing weights are
its row of the recurrent kernel and the rows of whatever reads the layer (Wen et al., arXiv 1709.05027, figure 3). In
an RHN, whose recurrent kernel is (depth, units, 2 · units), those of all depths are one unit's (section 4.2).
"""

from __future__ import annotations

from typing import Any

import keras
from keras import layers

from keras_iss.calls import Call
from keras_iss.layers.hlstm import HLSTM
from keras_iss.layers.rhn import RHN, RHNCell
from keras_iss.registry import register, zero_at_zero
from keras_iss.structures import Role
from keras_iss.units import Signal

_GATES = {layers.LSTMCell: 4, layers.GRUCell: 3, layers.SimpleRNNCell: 1, RHNCell: 2}


def _cell(call: Call) -> tuple[Signal, list[Signal]]:
    """One cell: args are the input and the list of its initial states (None where they are zeros)."""
    cell, (inputs, states) = call.layer, call.args
    elementwise = [zero_at_zero(cell.activation), zero_at_zero(getattr(cell, "recurrent_activation", None))]
    traced = [state for state in states or [] if isinstance(state, Signal)]
    constant = len(traced) < len(states or [])
    # The states stay 0 if tanh(0) = 0, whatever the gates are, unless a state that isn't 0 comes in.
    zero = elementwise[0] is True and not constant and all(s.zero for s in traced)
    units = call.structure(cell.units, kind="hidden", zero=zero)
    if None in elementwise:
        call.pins([units], f"an activation of {call.name} is not known to treat each unit alone")
    if constant:
        call.pins([units], f"an initial state of {call.name} is a constant, which can't shrink with it")
    gates = _GATES[type(cell)]
    call.reads(inputs, cell.kernel)
    call.reads(units, cell.recurrent_kernel, -2)
    for matrix in (cell.kernel, cell.recurrent_kernel):
        call.writes(units, matrix, gates=gates)
        call.multiplies(matrix)
    call.writes(units, cell.bias, gates=gates, penalised=False)
    call.resizes(units, "units", value=cell.units)
    for state in traced:
        call.joins(
            [units, state], f"the initial state of {call.name} comes from something that can't shrink with it"
        )
    return units, [units] * (2 if isinstance(cell, layers.LSTMCell) else 1)


def _stacked_cells(call: Call) -> tuple[Signal, list[Any]]:
    signal, states = call.args
    new_states = []
    for index, cell in enumerate(call.layer.cells):
        state = None if states is None else states[index]
        state = [state] if isinstance(state, Signal) else state
        field = ("cells", index, "config")
        signal, new_state = call.inner(cell, (signal, state), {}, part=str(index), field=field)
        new_states.append(new_state)
    return signal, new_states


def _recurrent(call: Call) -> list[Signal]:
    """An RNN layer around its cell."""
    layer = call.layer
    states = _initial_states(call)
    # An LSTM and its like hold their cell's config as their own.
    field = ("cell", "config") if "cell" in layer.get_config() else ()
    output, new_states = call.inner(layer.cell, (call.inputs[0], states), {}, part="", field=field)
    if layer.stateful:
        for variable, state in zip(
            keras.tree.flatten(layer.states), keras.tree.flatten(new_states), strict=True
        ):
            call.reads(state, variable, -1, role=Role.INCOMING, penalised=False)
    return [output, *keras.tree.flatten(new_states)] if layer.return_state else [output]


def _initial_states(call: Call) -> list[Any] | None:
    states = call.argument(1, "initial_state")
    return states if states is None else list(states) if isinstance(states, (list, tuple)) else [states]


def _bidirectional(call: Call) -> list[Signal]:
    layer = call.layer
    states = _initial_states(call)
    half = len(states or ()) // 2
    ends = {"forward": states[:half], "backward": states[half:]} if states else {}
    outputs = []
    for part, inner, key in (
        ("forward", layer.forward_layer, "layer"),
        ("backward", layer.backward_layer, "backward_layer"),
    ):
        kwargs = {"initial_state": ends[part]} if half else {}
        outputs.append(call.inner(inner, (call.inputs[0],), kwargs, part=part, field=(key, "config")))
    (forward, *forward_states), (backward, *backward_states) = outputs
    if layer.merge_mode == "concat":
        width = forward.shape[-1]
        merged = [Signal((None, None), forward.placements + backward.shifted(width))]
        # Bidirectional.compute_output_shape doubles the forward width, so both must stay equally wide.
        call.twins(forward, backward)
    elif layer.merge_mode is None:
        merged = [forward, backward]
        call.twins(forward, backward)
    else:
        call.joins([forward, backward], f"{call.name} merges its directions unit by unit")
        for placement in forward.placements:  # the joint structure is neither direction's
            draft = placement.draft.root
            draft.name = draft.name.replace(f"{call.name}/forward", call.name, 1)
        merged = [forward.passed(zero=backward.zero)]
    return merged + forward_states + backward_states


def _time_distributed(call: Call) -> Any:
    """The wrapped layer sees one time step; axes counted from the end stay what they are."""
    inputs = call.inputs[0]
    step = Signal((inputs.shape[0], *inputs.shape[2:]), inputs.placements, inputs.source)
    if any(p.axis == 1 - len(inputs.shape) for p in inputs.placements):
        call.pins([inputs], f"its units lie on the time axis of {call.name}")
    carried = call.inner(call.layer.layer, (step,), {}, part="", field=("layer", "config"))
    return carried or None  # a layer whose outputs carry nothing knows their shapes only outside of a wrapper


for _class in _GATES:
    register(_class, _cell)
register(layers.StackedRNNCells, _stacked_cells)
for _class in (layers.LSTM, layers.GRU, layers.SimpleRNN, layers.RNN, HLSTM, RHN):
    register(_class, _recurrent)
register(layers.Bidirectional, _bidirectional)
register(layers.TimeDistributed, _time_distributed)
