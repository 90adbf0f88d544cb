"""Small models that stream, and a stream of a file's signatures written the way an app would."""

import keras
import numpy as np
from ai_edge_litert.interpreter import Interpreter
from keras import layers

import keras_iss

FEATURES = 3


class Stream:
    """A file with the signatures `initial_state`, `step` and `sequence`."""

    def __init__(self, path):
        self.interpreter = Interpreter(str(path))
        self.start = self.interpreter.get_signature_runner("initial_state")
        self.step = self.interpreter.get_signature_runner("step")
        self.sequence = self.interpreter.get_signature_runner("sequence")

    def run(self, inputs, chunks, fixed=(), **start):
        """The outputs of every call, for chunks of these lengths (1: `step`), and the last states."""
        states, at, parts = self.start() | start, 0, []
        for count in chunks:
            given = {name: x if name in fixed else x[:, at : at + count] for name, x in inputs.items()}
            parts.append((self.step if count == 1 else self.sequence)(**given, **states))
            states = {name: parts[-1].pop(name) for name in states}
            at += count
        return parts, states


def joined(parts, name):
    """A streamed output: one after the other along time, or the last where it has no time axis."""
    return np.concatenate([p[name] for p in parts], 1) if parts[0][name].ndim > 2 else parts[-1][name]


def stack(*stacked, time=None):
    return keras.Sequential([layers.Input((time, FEATURES), name="x"), *stacked])


def tokens(*stacked, mask_zero=False):
    inputs = [layers.Input((None,), dtype="int32", name="x"), layers.Embedding(11, 4, mask_zero=mask_zero)]
    return keras.Sequential([*inputs, *stacked])


def causal(filters, width, **options):
    return layers.Conv1D(filters, width, padding="causal", **options)


def residual():
    x = keras.Input((None, FEATURES), name="x")
    h = layers.Dense(4)(x)
    for k in range(2):
        h = layers.Add()([h, layers.GRU(4, return_sequences=True, name=f"gru{k}")(h)])
    return keras.Model(x, layers.Concatenate(name="y")([layers.LayerNormalization()(h), x]))


def stripped_norms():
    """What strip makes of a model with normalizations."""
    norms = [keras_iss.layers.StrippedLayerNormalization(7), keras_iss.layers.StrippedRMSNormalization(6)]
    lstm, gru = (
        layers.LSTM(5, return_sequences=True, name="lstm"),
        layers.GRU(4, return_sequences=True, name="gru"),
    )
    return stack(lstm, norms[0], gru, norms[1])


def operators_on_tensors():
    x = keras.Input((None, FEATURES), name="x")
    h = layers.LSTM(4, return_sequences=True, name="lstm")(x)
    gated = keras.ops.tanh(h) * 2.0 + keras.ops.sigmoid(h[..., ::-1]) * np.arange(4, dtype="float32")
    y = layers.Identity(name="y")(keras.ops.concatenate([gated, x], axis=-1))
    return keras.Model(x, [y, layers.Identity(name="last")(h[:, -1])])


def nested():
    inner = keras.Sequential(
        [layers.Input((7, 4)), layers.GRU(4, return_sequences=True, name="gru")], name="inner"
    )
    x = keras.Input((7, FEATURES), name="x")
    h = inner(inner(layers.Dense(4)(x)))
    return keras.Model(x, layers.LSTM(3, name="lstm")(h))


def shared():
    a, b = keras.Input((None, FEATURES), name="a"), keras.Input((None, FEATURES), name="b")
    lstm = layers.LSTM(4, return_sequences=True, name="lstm")
    return keras.Model([a, b], layers.Subtract(name="y")([lstm(a), lstm(b)]))


def states_returned():
    x = keras.Input((None, FEATURES), name="x")
    y, h, c = layers.LSTM(4, return_sequences=True, return_state=True, name="lstm")(x)
    return keras.Model(x, {"y": y, "lstm_h": h, "c_now": layers.Dense(2)(c)})


def states_wired():
    x, h, c = (
        keras.Input((None, FEATURES), name="x"),
        keras.Input((4,), name="h"),
        keras.Input((4,), name="c"),
    )
    return keras.Model([x, h, c], layers.LSTM(4, return_sequences=True, name="y")(x, initial_state=[h, c]))


def speaker():
    """A voice that stays the same, beside sounds that stream."""
    x, voice = keras.Input((None, FEATURES), name="x"), keras.Input((5,), name="voice")
    h = layers.Add()([layers.Dense(4)(x), layers.Reshape((1, 4))(layers.Dense(4)(voice))])
    return keras.Model([x, voice], layers.LSTM(4, name="y")(h))


def summary_written_out():
    """What was heard so far, written out by a decoder that runs whole at every step."""
    x = keras.Input((None, FEATURES), name="x")
    h = layers.RepeatVector(3)(layers.GRU(4, name="gru")(x))
    return keras.Model(
        x, layers.Flatten(name="y")(layers.Bidirectional(layers.LSTM(4, return_sequences=True))(h))
    )


@keras.saving.register_keras_serializable("streams")
class Leaky(layers.Layer):
    """A cell of a user's own: two states, which don't start from zero."""

    def __init__(self, units, **options):
        super().__init__(**options)
        self.units, self.state_size, self.output_size = units, [units, units], units

    def build(self, shape):
        self.kernel = self.add_weight(shape=(shape[-1], self.units))

    def call(self, inputs, states):
        fast = 0.5 * states[0] + keras.ops.matmul(inputs, self.kernel)
        slow = 0.9 * states[1] + 0.1 * fast
        return fast - slow, [fast, slow]

    def get_initial_state(self, batch_size=None):
        return [keras.ops.ones((batch_size, self.units)), keras.ops.zeros((batch_size, self.units))]

    def get_config(self):
        return super().get_config() | {"units": self.units}


# Name -> the model, and the names of its states.
STREAMS = {
    "lstm": (lambda: stack(layers.LSTM(4, return_sequences=True, name="lstm")), ["lstm_h", "lstm_c"]),
    "lstm_without_bias": (
        lambda: stack(layers.LSTM(4, return_sequences=True, use_bias=False, activation="relu", name="lstm")),
        ["lstm_h", "lstm_c"],
    ),
    "gru_reset_after": (lambda: stack(layers.GRU(4, return_sequences=True, name="gru")), ["gru_h"]),
    "gru_reset_before": (
        lambda: stack(layers.GRU(4, return_sequences=True, reset_after=False, name="gru")),
        ["gru_h"],
    ),
    "simple_rnn": (lambda: stack(layers.SimpleRNN(4, return_sequences=True, name="rnn")), ["rnn_h"]),
    "classifier": (
        lambda: stack(layers.LSTM(4, name="lstm"), layers.Dense(2, activation="softmax")),
        ["lstm_h", "lstm_c"],
    ),
    "stack_of_layers": (
        lambda: stack(
            layers.LSTM(4, return_sequences=True, name="low"),
            layers.Dropout(0.3),
            layers.GRU(3, return_sequences=True, dropout=0.2, name="high"),
            layers.TimeDistributed(layers.Dense(2)),
        ),
        ["low_h", "low_c", "high_h"],
    ),
    "stack_of_cells": (
        lambda: stack(
            layers.RNN(
                [layers.LSTMCell(4), layers.GRUCell(3), layers.SimpleRNNCell(4)],
                return_sequences=True,
                name="rnn",
            )
        ),
        ["rnn_cell0_h", "rnn_cell0_c", "rnn_cell1_h", "rnn_cell2_h"],
    ),
    "cell_of_the_users": (
        lambda: stack(layers.RNN(Leaky(4), return_sequences=True, name="rnn")),
        ["rnn_state0", "rnn_state1"],
    ),
    "speech_front": (
        lambda: stack(
            causal(4, 3, activation="relu", name="near"),
            layers.BatchNormalization(),
            causal(4, 2, dilation_rate=3, use_bias=False, name="far"),
            layers.Conv1D(4, 1),
            layers.LSTM(4, return_sequences=True, name="lstm"),
            layers.Dense(2),
        ),
        ["near_window", "far_window", "lstm_h", "lstm_c"],
    ),
    "convolutions_only": (
        lambda: stack(
            causal(4, 3, name="a"), layers.PReLU(shared_axes=[1]), causal(2, 5, groups=2, name="b")
        ),
        ["a_window", "b_window"],
    ),
    "fixed_length": (lambda: stack(layers.GRU(4, return_sequences=True, name="gru"), time=7), ["gru_h"]),
    "stateful": (
        lambda: keras.Sequential(
            [layers.Input((None, FEATURES), batch_size=2, name="x"), layers.GRU(4, stateful=True, name="gru")]
        ),
        ["gru_h"],
    ),
    "tokens": (lambda: tokens(layers.GRU(4, return_sequences=True, name="gru")), ["gru_h"]),
    "tokens_masked": (
        lambda: tokens(
            layers.RNN([layers.LSTMCell(3), layers.GRUCell(3)], return_sequences=True, name="mid"),
            layers.RNN(layers.GRUCell(3), return_sequences=True, zero_output_for_mask=True, name="high"),
            layers.SimpleRNN(3, name="top"),
            mask_zero=True,
        ),
        ["mid_cell0_h", "mid_cell0_c", "mid_cell1_h", "high_h", "top_h"],
    ),
    "masking": (
        lambda: stack(layers.Masking(), layers.GRU(4, return_sequences=True, name="gru")),
        ["gru_h"],
    ),
    "stripped_norms": (stripped_norms, ["lstm_h", "lstm_c", "gru_h"]),
    "residual": (residual, ["gru0_h", "gru1_h"]),
    "operators_on_tensors": (operators_on_tensors, ["lstm_h", "lstm_c"]),
    "nested_twice": (nested, ["inner_gru_h", "inner_gru_call2_h", "lstm_h", "lstm_c"]),
    "shared_layer": (shared, ["lstm_h", "lstm_c", "lstm_call2_h", "lstm_call2_c"]),
    "states_returned": (states_returned, ["lstm_h_1", "lstm_c"]),
    "states_wired": (states_wired, ["h", "c"]),
    "speaker": (speaker, ["y_h", "y_c"]),
    "summary_written_out": (summary_written_out, ["gru_h"]),
}
