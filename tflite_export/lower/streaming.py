"""Streaming: twins that read their states from the caller and hand the new ones back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import keras
import tensorflow as tf

from ..errors import ExportError
from ..stream_plan import StreamPlan
from .cells import cells_of
from .form import Form
from .layers import RNNTwin

__all__ = ["States", "streaming_twins"]


class States:
    """The states of one graph while it is traced: the values that came in, and those that the layers leave."""

    def __init__(self, plan: StreamPlan):
        self._names: dict[tuple[int, int], list[str]] = {}
        for state in plan.states:
            self._names.setdefault((id(state.layer), state.call), []).append(state.name)
        self._wired = {state.name for state in plan.wired.values()}
        self._calls: Counter[int] = Counter()
        self.old: Mapping[str, tf.Tensor] = {}
        self.new: dict[str, tf.Tensor] = {}

    def begin(self, values: Mapping[str, tf.Tensor]) -> None:
        """Start a trace; a shared layer's calls come in the order in which the plan met them."""
        self._calls.clear()
        self.old, self.new = values, {}

    def next_names(self, layer: keras.Layer) -> list[str]:
        """The names of the states of the layer's next call."""
        call = self._calls[id(layer)]
        self._calls[id(layer)] += 1
        return self._names[id(layer), call]

    def wired(self, names: list[str]) -> bool:
        """Whether the model has inputs of its own for them."""
        return bool(self._wired & set(names))


def streaming_twins(plan: StreamPlan, states: States, form: Form) -> dict[int, keras.Layer]:
    """The twin of every layer that carries a state, by the layer's id."""
    twins: dict[int, keras.Layer] = {}
    for state in plan.states:
        layer = state.layer
        if id(layer) not in twins:
            convolution = isinstance(layer, keras.layers.Conv1D)
            twin = CausalConvolution(layer, states) if convolution else RecurrentStream(layer, states, form)
            twins[id(layer)] = twin
    return twins


class _Stream(keras.layers.Layer):
    """What both kinds share: they look like the original to the layers around them."""

    def __init__(self, layer: keras.Layer, states: States):
        super().__init__(name=layer.name, dtype="float32")
        self.supports_masking = layer.supports_masking
        self.original = layer
        self.states = states
        self.built = True

    def compute_mask(self, inputs, mask=None):
        return self.original.compute_mask(inputs, mask)

    def compute_output_spec(self, *args, **kwargs):
        return self.original.compute_output_spec(*args, **kwargs)


class RecurrentStream(_Stream):
    """A recurrent layer that goes on where the states stand."""

    def __init__(self, layer: keras.layers.RNN, states: States, form: Form):
        super().__init__(layer, states)
        options = {
            "return_sequences": layer.return_sequences,
            "zero_output_for_mask": layer.zero_output_for_mask,
            "name": layer.name,
        }
        # The same cell, in a layer that returns its states.
        stateful = keras.layers.RNN(layer.cell, return_state=True, **options)
        one_step = keras.layers.RNN(layer.cell, return_state=True, unroll=True, **options)
        cells = cells_of(stateful)
        self.known = cells is not None
        self.chunk = RNNTwin(stateful, cells, form) if cells is not None else stateful
        self.one_step = self.chunk if self.known else one_step

    def call(self, sequences, initial_state=None, mask=None, training=False):
        layer = self.original
        names = self.states.next_names(layer)
        old = [self.states.old[name] for name in names]
        if mask is not None:
            self._check_mask(names)
        run = self.one_step if sequences.shape[1] == 1 else self.chunk
        given = keras.tree.pack_sequence_as(layer.get_initial_state(batch_size=1), old)
        outputs, *new = run(sequences, initial_state=given, mask=mask)
        new = keras.tree.flatten(new)
        self.states.new.update(zip(names, new, strict=True))
        if mask is not None and not layer.zero_output_for_mask:
            outputs = self._repeated(outputs, mask, old, new)
        return (outputs, *_packed(layer, new)) if layer.return_state else outputs

    def _repeated(self, outputs, mask, old, new):
        """A masked step repeats the output before it, which may lie in an earlier chunk: it is the state h there."""
        top = len(keras.tree.flatten(self._cells()[-1].state_size))
        if not self.original.return_sequences:
            return new[-top]
        if mask.shape[1] == 1:
            return tf.expand_dims(new[-top], 1)
        begun = tf.cumsum(tf.cast(mask, "float32"), axis=1)[:, :, None] > 0.0
        return tf.where(begun, outputs, tf.expand_dims(old[-top], 1))

    def _cells(self) -> list[keras.Layer]:
        cell = self.original.cell
        return cell.cells if isinstance(cell, keras.layers.StackedRNNCells) else [cell]

    def _check_mask(self, names: list[str]) -> None:
        if self.states.wired(names):
            raise ExportError(
                f"Layer {self.name!r} can't be streamed: it has a mask and an initial_state, so that its output before "
                "the first step isn't its state; leave out the mask, or the initial_state."
            )
        if not self.known:
            raise ExportError(
                f"Layer {self.name!r} can't be streamed: under a mask, the output that its own cell repeats isn't known; "
                "leave out the mask."
            )


def _packed(layer, states: list[tf.Tensor]) -> list:
    """The states as the layer returns them: a list for every cell of a stack."""
    return list(keras.tree.pack_sequence_as(layer.get_initial_state(batch_size=1), states))


class CausalConvolution(_Stream):
    """Conv1D with causal padding: in place of zeros, the window of the last inputs stands before the chunk."""

    def call(self, inputs):
        layer = self.original
        (name,) = self.states.next_names(layer)
        dilation = layer.dilation_rate
        joined = tf.concat([self.states.old[name], inputs], axis=1)
        self.states.new[name] = joined[:, -dilation[0] * (layer.kernel_size[0] - 1) :]
        if inputs.shape[1] == 1 and dilation[0] > 1:
            # Only the inputs under the kernel are read; put side by side, they need no dilation.
            joined, dilation = joined[:, :: dilation[0]], (1,)
        outputs = keras.ops.conv(
            joined, layer.kernel, padding="valid", dilation_rate=dilation, data_format="channels_last"
        )
        if layer.use_bias:
            outputs = outputs + layer.bias
        return outputs if layer.activation is None else layer.activation(outputs)
