"""Random graphs of layers: whatever tracing says can go, goes without changing an output, in Keras and in LiteRT.

More examples than the suite's 50: `RANDOM_GRAPHS=1000 pytest tests/keras_iss/test_random_graphs.py`.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import keras
import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from keras import layers, ops

import keras_iss
import tflite_export
from tests.topologies import (
    BATCH,
    FEATURES,
    STEPS,
    VOCABULARY,
    inputs_for,
    outputs_of,
    randomise,
    zero_some_units,
)

EXAMPLES = int(os.environ.get("RANDOM_GRAPHS", "50"))
WIDTHS = st.integers(2, 5)
RECURRENT = {"lstm": layers.LSTM, "gru": layers.GRU, "rnn": layers.SimpleRNN}
CELLS = {"lstm": layers.LSTMCell, "gru": layers.GRUCell, "rnn": layers.SimpleRNNCell}
MERGES = [layers.Add, layers.Average, layers.Maximum, layers.Minimum, layers.Multiply, layers.Subtract]
ELEMENTWISE = {
    "sigmoid": lambda x: layers.Activation("sigmoid")(x),
    "tanh": ops.tanh,
    "leaky": lambda x: layers.LeakyReLU()(x),
    "half": lambda x: x / 2,
    "plus 1": lambda x: x + 1.0,
    "dropout": lambda x: layers.Dropout(0.3)(x),
    "batch norm": lambda x: layers.BatchNormalization()(x),
    "layer norm": lambda x: layers.LayerNormalization()(x),
    "rms norm": lambda x: layers.RMSNormalization()(x),
    "unit norm": lambda x: layers.UnitNormalization()(x),
    "prelu": lambda x: layers.PReLU()(x),
    # The product ends the mask that Masking gives, on which Keras's own Softmax fails.
    "softmax": lambda x: layers.Softmax(axis=1 if len(x.shape) == 3 else -1)(x * 1.0),
    "masking": lambda x: layers.Masking()(x) if len(x.shape) == 3 else x,
}


class Graph:
    """Grows a Functional model by drawing one layer after another."""

    def __init__(self, draw):
        self.draw = draw
        self.inputs = [keras.Input((STEPS, FEATURES), name="x")]
        self.tensors = list(self.inputs)
        self.used: list[tuple] = []  # (layer, shape of its input), to call one twice
        if draw(st.booleans()):
            self.inputs.append(keras.Input((STEPS,), dtype="int32", name="ids"))
            masked = draw(st.booleans())
            self.tensors.append(layers.Embedding(VOCABULARY, draw(WIDTHS), mask_zero=masked)(self.inputs[-1]))

    def pick(self, rank: int | None = None, like=None):
        """One of the tensors; the newest are the likeliest."""
        fitting = [
            x
            for x in self.tensors
            if (rank is None or len(x.shape) == rank) and (like is None or x.shape == like.shape)
        ]
        return self.draw(st.sampled_from(fitting[-4:])) if fitting else None

    def keep(self, *tensors):
        self.tensors += [x for x in tensors if int(np.prod(x.shape[1:])) <= 60]

    def recurrent(self):
        x, units = self.pick(3), self.draw(WIDTHS)
        options = {
            "return_sequences": self.draw(st.booleans()),
            "return_state": self.draw(st.booleans()),
            "go_backwards": self.draw(st.booleans()),
            "use_bias": self.draw(st.booleans()),
            "activation": self.draw(st.sampled_from(["tanh", "tanh", "softsign", "sigmoid"])),
        }
        kind = self.draw(st.sampled_from(sorted(RECURRENT)))
        starts = [t for t in self.tensors if len(t.shape) == 2][-4:]
        state = None
        if starts and self.draw(st.booleans()):
            first = self.draw(st.sampled_from(starts))
            units = first.shape[-1]
            fitting = [t for t in starts if t.shape == first.shape]
            state = [first, self.draw(st.sampled_from(fitting))] if kind == "lstm" else [first]
        layer = RECURRENT[kind](units, **options)
        if self.draw(st.booleans()):
            self.used.append((layer, x.shape))
        self.keep(*keras.tree.flatten(layer(x, initial_state=state)))

    def stacked(self):
        cells = [
            CELLS[k](self.draw(WIDTHS))
            for k in self.draw(st.lists(st.sampled_from(sorted(CELLS)), min_size=2, max_size=3))
        ]
        self.keep(*keras.tree.flatten(layers.RNN(cells, return_state=True)(self.pick(3))))

    def bidirectional(self):
        forward, backward = (RECURRENT[self.draw(st.sampled_from(sorted(RECURRENT)))] for _ in range(2))
        units, sequences = self.draw(WIDTHS), self.draw(st.booleans())
        layer = layers.Bidirectional(
            forward(units, return_sequences=sequences),
            backward_layer=backward(units, return_sequences=sequences, go_backwards=True),
            merge_mode=self.draw(st.sampled_from(["concat", "concat", "sum", "mul", "ave", None])),
        )
        self.keep(*keras.tree.flatten(layer(self.pick(3))))

    def dense(self):
        x = self.pick()
        layer = layers.Dense(
            self.draw(WIDTHS), activation=self.draw(st.sampled_from([None, "relu", "sigmoid"]))
        )
        if len(x.shape) == 3 and self.draw(st.booleans()):
            layer = layers.TimeDistributed(layer)
        self.used.append((layer, x.shape))
        self.keep(layer(x))

    def convolution(self):
        width = self.draw(WIDTHS)
        self.keep(
            layers.Conv1D(width, 2, padding="causal", dilation_rate=self.draw(st.sampled_from([1, 2])))(
                self.pick(3)
            )
        )

    def merge(self):
        x = self.pick()
        self.keep(self.draw(st.sampled_from(MERGES))()([x, self.pick(like=x)]))

    def concatenate(self):
        x = self.pick()
        rank = len(x.shape)
        others = [t for t in self.tensors if len(t.shape) == rank and t.shape[1:-1] == x.shape[1:-1]]
        parts = [x, *self.draw(st.lists(st.sampled_from(others), min_size=1, max_size=2))]
        self.keep(layers.Concatenate()(parts))

    def concatenate_in_time(self):
        x = self.pick(3)
        self.keep(layers.Concatenate(axis=1)([x, self.pick(like=x)]))

    def elementwise(self):
        self.keep(ELEMENTWISE[self.draw(st.sampled_from(sorted(ELEMENTWISE)))](self.pick()))

    def move(self):
        x = self.pick(3)
        _, steps, width = x.shape
        ways = [layers.Flatten(), layers.Permute((2, 1)), layers.GlobalAveragePooling1D(), layers.GlobalMaxPooling1D(),
                layers.Reshape((1, steps * width)), layers.AveragePooling1D(2, padding="same")]  # fmt: skip
        ways += [
            lambda x: ops.swapaxes(x, 1, 2),
            lambda x: ops.flip(x, axis=1),
            lambda x: ops.cumsum(x, axis=-2),
            lambda x: ops.squeeze(x[:, None, ..., 1:, :], axis=1),
            lambda x: ops.moveaxis(ops.expand_dims(x, -1), 3, 2)[:, :, 0],
        ]
        if steps % 2 == 0:
            ways.append(layers.Reshape((steps // 2, 2 * width)))
        self.keep(self.draw(st.sampled_from(ways))(x))

    def repeat(self):
        x = self.pick(2)
        if x is not None:
            ways = [layers.RepeatVector(STEPS), lambda x: x[:, None], lambda x: ops.expand_dims(x, -1)]
            self.keep(self.draw(st.sampled_from(ways))(x))

    def stack(self):
        x = self.pick(2)
        if x is not None:
            self.keep(ops.stack([x, self.pick(like=x)], axis=self.draw(st.sampled_from([1, -1]))))

    def index(self):
        self.keep(self.pick(3)[:, -1])

    def attention(self):
        x = self.pick(3)
        others = [t for t in self.tensors if len(t.shape) == 3 and t.shape[-1] == x.shape[-1]]
        kind = self.draw(st.sampled_from([layers.Attention, layers.AdditiveAttention]))
        self.keep(kind()([x, self.draw(st.sampled_from(others))]))

    def dot_products(self):
        x = self.pick(3)
        y = self.draw(
            st.sampled_from([t for t in self.tensors if len(t.shape) == 3 and t.shape[-1] == x.shape[-1]])
        )
        scores = layers.Dot((2, 2), normalize=self.draw(st.booleans()))([x, y])
        self.keep(layers.Dot((2, 1))([layers.Softmax()(scores), y]))

    def einsum(self):
        """Scores of x against y, gated steps, and what two sequences have in common over time."""
        x = self.pick(3)
        y = self.pick(like=x)
        self.keep(
            ops.einsum(self.draw(st.sampled_from(["btd,bsd->bts", "btd,btd->bdt", "btd,bte->bde"])), x, y)
        )

    def heads(self):
        self.keep(layers.MultiHeadAttention(2, 2)(self.pick(3), self.pick(3)))

    def again(self):
        """Calls a layer a second time."""
        fitting = [(layer, t) for layer, shape in self.used for t in self.tensors if t.shape == shape]
        if fitting:
            layer, x = self.draw(st.sampled_from(fitting))
            self.keep(*keras.tree.flatten(layer(x)))

    def inner_model(self):
        x, width = self.pick(3), self.draw(WIDTHS)
        y = keras.Input(x.shape[1:])
        z = layers.GRU(width, return_sequences=True)(layers.Dropout(0.1)(y))
        model = keras.Model(y, layers.Concatenate()([z, y]) if self.draw(st.booleans()) else z)
        self.used.append((model, x.shape))
        self.keep(model(x))

    def finish(self) -> keras.Model:
        """A Dense layer reads each of the newest tensors."""
        ends = [layers.Dense(2)(x) for x in self.tensors[-3:]]
        return keras.Model(self.inputs, ends)


STEPS_OF_GROWTH = [name for name in vars(Graph) if name[0] != "_" and name not in ("pick", "keep", "finish")]


@st.composite
def graphs(draw) -> keras.Model:
    keras.utils.clear_session(free_memory=False)
    graph = Graph(draw)
    graph.recurrent()
    for step in draw(st.lists(st.sampled_from(STEPS_OF_GROWTH), min_size=2, max_size=9)):
        getattr(graph, step)()
    return graph.finish()


@settings(max_examples=EXAMPLES, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(graphs())
def test_units_of_random_graphs_are_stripped_exactly(model):
    randomise(model)
    sizes = {s.name: s.size for s in keras_iss.trace(model).structures}
    zeroed = zero_some_units(model)
    small = keras_iss.strip(model, verify=False)
    left = {s.name: s.size for s in keras_iss.trace(small).structures}
    for name in left.keys() & zeroed.keys():
        assert left[name] <= sizes[name] - zeroed[name].count("both"), name
    inputs = inputs_for(model)
    for want, got in zip(outputs_of(model, inputs), outputs_of(small, inputs), strict=True):
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-5 * max(np.max(np.abs(want)), 1e-3))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "small.tflite"
        # Fails where LiteRT's outputs are not Keras's.
        result = tflite_export.export(small, path, batch_size=BATCH, time_steps=STEPS)
        assert not any(operator.startswith("Flex") for operator in result.ops)
