"""What a model carries from time step to time step, and why some models can't be streamed."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from enum import Enum
from typing import Any

import keras
import numpy as np
from keras import layers

from .errors import ExportError
from .inputs import input_kinds
from .per_step import Call, takes_the_last_step, why_not_per_step
from .signature import as_functional, inner_layers, input_names, is_subclassed, output_names

__all__ = ["Flow", "State", "StreamPlan", "plan_stream"]


class Flow(Enum):
    """How a tensor changes along a stream."""

    STEPS = "a value for every step, time on axis 1"
    NOW = "what the steps so far say: no time axis, new with every step"
    FIXED = "the same at every step"


@dataclass(frozen=True, kw_only=True)
class State:
    """One state: its name, its value before the first step (batch, ...), the layer, and which of its calls."""

    name: str
    start: np.ndarray
    layer: keras.Layer
    call: int


@dataclass(frozen=True, kw_only=True)
class StreamPlan:
    """How a model is streamed.

    Attributes:
        model: The model with every streamed time axis open; its layers are the original ones.
        inputs: Input name -> flow, in the model's order.
        outputs: Output name -> flow, in the model's order.
        states: The states, in the order in which the model computes them.
        wired: Input name -> the state that the model's own input of that name is.
    """

    model: keras.Model
    inputs: dict[str, Flow]
    outputs: dict[str, Flow]
    states: tuple[State, ...]
    wired: dict[str, State]

    def fed(self) -> list[str]:
        """The inputs that aren't states."""
        return [name for name in self.inputs if name not in self.wired]


def plan_stream(functional: keras.Model, batch_size: int) -> StreamPlan:
    """Follow a model's time steps from its inputs to its outputs; TensorFlow isn't needed.

    Args:
        functional: What `as_functional` gives.
        batch_size: The batch size of the states.

    Raises:
        ExportError: A layer reads the future, mixes time steps, or isn't known.
    """
    names = input_names(functional)
    flows = _input_flows(functional)
    walk = _Walk(batch_size, taken={*names, *output_names(functional)})
    tags = [_Tag(flow, source=name) for name, flow in zip(names, flows, strict=True)]
    model, outputs = walk.model(functional, tags, "")
    if not walk.states:
        raise ExportError(
            f"Model {functional.name!r} has nothing to stream: no recurrent layer and no causal convolution over time; "
            "export it with streaming=False."
        )
    read_twice = [name for name in walk.wired if walk.reads[name] != 1 or name in {t.source for t in outputs}]
    if read_twice:
        raise ExportError(
            f"Input {read_twice[0]!r} can't be streamed as a state, since more than one layer reads it; "
            "leave it out, so that the layer keeps its states itself."
        )
    return StreamPlan(
        model=model,
        inputs=dict(zip(names, flows, strict=True)),
        outputs={n: t.flow for n, t in zip(output_names(functional), outputs, strict=True)},
        states=tuple(walk.states),
        wired=walk.wired,
    )


def _input_flows(functional: keras.Model) -> list[Flow]:
    """Which inputs come step by step: those with an open axis 1, frames of features, and indices."""
    kinds = input_kinds(functional)
    streamed = [
        len(k.shape) > 2 or (len(k.shape) == 2 and (k.shape[1] is None or k.vocabulary or k.dtype == "bool"))
        for k in kinds
    ]
    lengths = {k.shape[1] for k, is_streamed in zip(kinds, streamed, strict=True) if is_streamed}
    if len(lengths) > 1:
        # One index or frame beside a longer sequence holds for all of it, as a speaker's number does.
        streamed = [s and k.shape[1] != 1 for s, k in zip(streamed, kinds, strict=True)]
        lengths = lengths - {None, 1}
    if not any(streamed):
        raise ExportError(
            f"Model {functional.name!r} can't be streamed: none of its inputs has a time axis; "
            "export it with streaming=False."
        )
    if len(lengths) > 1:
        raise ExportError(
            f"Model {functional.name!r} can't be streamed: its inputs have different numbers of time steps "
            f"({', '.join(sorted(map(str, lengths)))}), so that they don't advance together; "
            "export it with streaming=False."
        )
    return [Flow.STEPS if s else Flow.FIXED for s in streamed]


@dataclass(frozen=True)
class _Tag:
    flow: Flow
    source: str | None = None  # the model's input that this tensor is, unchanged


class _Walk:
    """One walk through the model and the models in it; on its way it builds them anew with an open time axis."""

    def __init__(self, batch_size: int, taken: set[str]):
        self.batch_size = batch_size
        self.taken = taken
        self.states: list[State] = []
        self.wired: dict[str, State] = {}
        self.reads: Counter[str] = Counter()
        self.calls: Counter[int] = Counter()
        self.models: Counter[str] = Counter()
        self.whole: set[int] = set()  # the ids of layers that run as they are
        self.tags: dict[int, tuple[Any, _Tag]] = {}  # the tensor is kept, so that no id is used twice

    def model(self, functional: keras.Model, tags: list[_Tag], prefix: str) -> tuple[keras.Model, list[_Tag]]:
        given = iter(tags)
        inputs = keras.tree.map_structure(lambda x: self._opened(x, next(given)), functional.input)

        def visit(operation, *args, **kwargs):
            return self._visit(operation, args, kwargs, prefix)

        model = keras.models.clone_model(
            functional, input_tensors=inputs, clone_function=lambda layer: layer, call_function=visit
        )
        return model, [self.tags[id(x)][1] for x in keras.tree.flatten(model.output)]

    def _opened(self, x, tag: _Tag) -> keras.KerasTensor:
        shape = list(x.shape)
        if tag.flow is Flow.STEPS:
            shape[1] = None
        return self._tagged(keras.Input(batch_shape=tuple(shape), dtype=x.dtype, name=x.name), tag)

    def _tagged(self, x, tag: _Tag):
        self.tags[id(x)] = (x, tag)
        return x

    def _visit(self, operation, args, kwargs, prefix):
        tensors = [x for x in keras.tree.flatten((args, kwargs)) if isinstance(x, keras.KerasTensor)]
        tags = [self.tags[id(x)][1] for x in tensors]
        streamed = any(tag.flow is Flow.STEPS for tag in tags)
        if streamed and isinstance(operation, keras.Model) and not is_subclassed(operation):
            inner, flows = self.model(as_functional(operation), tags, f"{prefix}{operation.name}_")
            self.models[operation.name] += 1
            if (count := self.models[operation.name]) > 1:
                # A model can't hold two of the same name.
                inner = keras.Model(inner.input, inner.output, name=f"{operation.name}_call{count}")
            return self._mark(inner(*args, **kwargs), flows)
        self.reads.update(tag.source for tag in tags if tag.source is not None)
        outputs = operation(*args, **kwargs)
        if streamed:
            call = Call(
                operation=operation,
                args=args,
                kwargs=kwargs,
                steps=[x for x, tag in zip(tensors, tags, strict=True) if tag.flow is Flow.STEPS],
                fixed=[x for x, tag in zip(tensors, tags, strict=True) if tag.flow is Flow.FIXED],
            )
            flows = self._stream(call, tags, f"{prefix}{operation.name}", outputs)
        else:
            flow = Flow.NOW if any(tag.flow is Flow.NOW for tag in tags) else Flow.FIXED
            flows = [flow] * len(keras.tree.flatten(outputs))
        if not streamed or isinstance(operation, layers.TimeDistributed):
            self.whole.update(id(layer) for layer in inner_layers(operation))
        if any(id(layer) in self.whole for layer in inner_layers(operation) if self.calls[id(layer)]):
            raise _refusal(operation, "it is used on the stream and on something else too; use two layers")
        return self._mark(outputs, [_Tag(flow) for flow in flows])

    def _mark(self, outputs, tags: list[_Tag]):
        for x, tag in zip(keras.tree.flatten(outputs), tags, strict=True):
            self._tagged(x, tag)
        return outputs

    def _stream(self, call: Call, tags: list[_Tag], path: str, outputs) -> list[Flow]:
        """The flows of the outputs of an operation that reads the stream."""
        layer = call.operation
        if _is_recurrent(layer):
            self._recurrent(call, path)
            sequence = Flow.STEPS if layer.return_sequences else Flow.NOW
            return [sequence] + [Flow.NOW] * (len(keras.tree.flatten(outputs)) - 1)
        if any(tag.flow is Flow.NOW for tag in tags):
            raise _refusal(layer, "it joins every time step with the last one, which is still to come")
        if takes_the_last_step(call):
            return [Flow.NOW]
        if _is_causal(layer):
            width = (layer.kernel_size[0] - 1) * layer.dilation_rate[0]
            start = np.zeros((self.batch_size, width, call.steps[0].shape[-1]), "float32")
            self._add(layer, path, {"window": start})
        elif reason := why_not_per_step(call):
            raise _refusal(layer, reason)
        return [Flow.STEPS] * len(keras.tree.flatten(outputs))

    def _recurrent(self, call: Call, path: str) -> None:
        layer = call.operation
        if layer.go_backwards:
            raise _refusal(layer, "it reads the sequence from its end; set go_backwards=False")
        start = [
            np.asarray(keras.ops.convert_to_numpy(x))
            for x in keras.tree.flatten(layer.get_initial_state(batch_size=self.batch_size))
        ]
        given = call.args[1] if len(call.args) > 1 else call.kwargs.get("initial_state")
        sources = [self.tags[id(x)][1].source for x in keras.tree.flatten(given) if x is not None]
        if None in sources:
            raise _refusal(
                layer, "its initial_state is computed; only an input of the model's own may be wired to it"
            )
        names = _state_names(layer.cell, len(start))
        self._add(layer, path, dict(zip(names, start, strict=True)), [s for s in sources if s is not None])

    def _add(self, layer, path: str, starts: dict[str, np.ndarray], sources: list[str] | None = None) -> None:
        call = self.calls[id(layer)]
        self.calls[id(layer)] += 1
        again = f"_call{call + 1}" if call else ""
        base = re.sub(r"\W", "_", path) + again
        for k, (suffix, start) in enumerate(starts.items()):
            name = sources[k] if sources else self._unique(f"{base}_{suffix}")
            state = State(name=name, start=start, layer=layer, call=call)
            self.states.append(state)
            if sources:
                self.wired[name] = state

    def _unique(self, name: str) -> str:
        unique, n = name, 0
        while unique in self.taken:
            n += 1
            unique = f"{name}_{n}"
        self.taken.add(unique)
        return unique


def _is_recurrent(layer) -> bool:
    """A layer that runs its cell from step to step; a subclass with a call of its own may do something else."""
    if type(layer) in (layers.LSTM, layers.GRU, layers.SimpleRNN):
        return True
    return isinstance(layer, layers.RNN) and type(layer).call is layers.RNN.call


def _is_causal(layer) -> bool:
    return (
        type(layer) is layers.Conv1D
        and layer.padding == "causal"
        and layer.kernel_size[0] > 1
        and layer.strides[0] == 1
        and layer.data_format == "channels_last"
    )


def _state_names(cell, count: int) -> list[str]:
    """h and c of an LSTM, h of a GRU and a SimpleRNN, state0, state1, ... of other cells; cell by cell in a stack."""
    if isinstance(cell, layers.StackedRNNCells):
        sizes = [len(keras.tree.flatten(c.state_size)) for c in cell.cells]
        parts = zip(cell.cells, sizes, strict=True)
        return [f"cell{i}_{name}" for i, (c, n) in enumerate(parts) for name in _state_names(c, n)]
    if isinstance(cell, layers.LSTMCell):
        return ["h", "c"]
    if isinstance(cell, (layers.GRUCell, layers.SimpleRNNCell)):
        return ["h"]
    return ["state"] if count == 1 else [f"state{i}" for i in range(count)]


def _refusal(operation, reason: str) -> ExportError:
    return ExportError(f"Layer {operation.name!r} ({type(operation).__name__}) can't be streamed: {reason}.")
