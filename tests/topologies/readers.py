"""Feed-forward layers and attention."""

from __future__ import annotations

import keras
import numpy as np
from keras import layers, ops

from tests.topologies.zoo import FEATURES, OUT, STEPS, Units, chain, dense, out, sequence, topology


@topology({"lstm": Units(4), "a": dense(5), "b": dense(3, silent=False), "c": dense(4)})
def dense_stack():
    return chain(
        layers.LSTM(4, name="lstm"),
        layers.Dense(5, activation="relu", name="a"),
        layers.Dense(3, activation="sigmoid", name="b"),
        layers.Dense(4, use_bias=False, name="c"),
    )


def _centered(x):
    """Not registered with Keras."""
    return x - ops.mean(x, axis=-1, keepdims=True)


@topology({"lstm": Units(4)}, {"a": "activation", "b": "activation", **OUT}, loadable=False)
def dense_activations_over_units():
    return chain(
        layers.LSTM(4, name="lstm"),
        layers.Dense(5, activation="softmax", name="a"),
        layers.Dense(3, activation=_centered, name="b"),
    )


@topology({"lstm": Units(4), "each": dense(3)})
def time_distributed_dense():
    return chain(
        layers.LSTM(4, return_sequences=True, name="lstm"),
        layers.TimeDistributed(layers.Dense(3, activation="tanh"), name="each"),
    )


@topology({"each/lstm": Units(4), "each/dense": dense(3), "lstm": Units(5)})
def time_distributed_nested_model():
    inner = keras.Sequential(
        [sequence(), layers.LSTM(4, name="lstm"), layers.Dense(3, name="dense")], name="inner"
    )
    x = keras.Input((STEPS, 3, FEATURES), name="x")
    return keras.Model(x, out()(layers.LSTM(5, name="lstm")(layers.TimeDistributed(inner, name="each")(x))))


@topology({"each/lstm": Units(4), "each/dense": dense(6), "each/other": dense(2)})
def time_distributed_nested_model_that_reshapes():
    y = sequence(steps=3)
    z = layers.Reshape((12,))(layers.LSTM(4, return_sequences=True, name="lstm")(y))
    z = layers.Reshape((1, 6))(layers.Dense(6, name="dense")(z))
    inner = keras.Model(y, layers.Flatten()(layers.Dense(2, name="other")(z)), name="inner")
    x = keras.Input((STEPS, 3, FEATURES), name="x")
    return keras.Model(x, out()(layers.TimeDistributed(inner, name="each")(x)))


@topology({"each/deep/lstm": Units(4), "each/both/forward": Units(3), "each/both/backward": Units(3)})
def time_distributed_model_of_models_and_wrappers():
    deep = keras.Sequential([sequence(), layers.LSTM(4, return_sequences=True, name="lstm")], name="deep")
    y = sequence()
    inner = keras.Model(y, layers.Bidirectional(layers.GRU(3), name="both")(deep(y)), name="inner")
    x = keras.Input((STEPS, 3, FEATURES), name="x")
    return keras.Model(x, out()(layers.TimeDistributed(inner, name="each")(x)))


@topology({"each": Units(4), "lstm": Units(5)})
def time_distributed_lstm():
    x = keras.Input((STEPS, 3, FEATURES), name="x")
    y = layers.TimeDistributed(layers.LSTM(4), name="each")(x)
    return keras.Model(x, out()(layers.LSTM(5, name="lstm")(y)))


@topology({"before": Units(4), "filters": dense(5), "lstm": Units(3)})
def conv1d():
    return chain(
        layers.LSTM(4, return_sequences=True, name="before"),
        layers.Conv1D(5, 3, padding="causal", activation="relu", name="filters"),
        layers.LSTM(3, name="lstm"),
    )


@topology({"before": Units(4), "filters": dense(5), "strided": dense(3), "lstm": Units(3)})
def conv1d_dilated_and_strided():
    return chain(
        layers.LSTM(4, return_sequences=True, name="before"),
        layers.Conv1D(5, 2, dilation_rate=2, padding="same", use_bias=False, name="filters"),
        layers.Conv1D(3, 2, strides=2, padding="same", name="strided"),
        layers.LSTM(3, name="lstm"),
    )


@topology({"lstm": Units(3)}, {"before": "groups", **OUT})
def conv1d_in_groups():
    return chain(
        layers.LSTM(4, return_sequences=True, name="before"),
        layers.Conv1D(6, 2, groups=2, name="filters"),
        layers.LSTM(3, name="lstm"),
    )


def two_sequences():
    """Two inputs, a query of the one, and a value and a key of the other."""
    x, y = sequence(name="x"), sequence(2, name="y")
    query = layers.LSTM(4, return_sequences=True, name="query")(x)
    key = layers.LSTM(4, return_sequences=True, name="key")(y)
    value = layers.GRU(5, return_sequences=True, name="value")(y)
    return [x, y], (query, value, key)


@topology({"query": Units(4, deaf=False), "value": Units(5)})
def attention():
    """Query and key have no weight between them: their unit k must output 0 to go."""
    inputs, (query, value, key) = two_sequences()
    return keras.Model(inputs, out()(layers.Attention(use_scale=True)([query, value, key])))


@topology({"lstm": Units(4, deaf=False)})
def attention_of_a_sequence_to_itself():
    x = sequence()
    y = layers.LSTM(4, return_sequences=True, name="lstm")(x)
    y, _ = layers.Attention(score_mode="concat")([y, y], return_attention_scores=True)
    return keras.Model(x, out()(y))


@topology({"value": Units(5)}, {"query": "reads it without a weight", **OUT})
def attention_to_units_that_are_not_0():
    x = sequence()
    query = layers.LSTM(4, activation="sigmoid", return_sequences=True, name="query")(x)
    value = layers.LSTM(5, return_sequences=True, name="value")(x)
    return keras.Model(x, out()(layers.Attention()([query, value, query])))


@topology({"value": Units(5)}, {"query": "compares", **OUT})
def attention_to_an_input():
    x = sequence()
    query = layers.LSTM(FEATURES, return_sequences=True, name="query")(x)
    value = layers.LSTM(5, return_sequences=True, name="value")(x)
    return keras.Model(x, out()(layers.Attention()([query, value, x])))


@topology({"query": Units(4), "value": Units(5)})
def additive_attention():
    inputs, (query, value, key) = two_sequences()
    return keras.Model(inputs, out()(layers.AdditiveAttention()([query, value, key])))


@topology({"lstm": Units(4, deaf=False)})
def additive_attention_without_scale():
    x = sequence()
    y = layers.LSTM(4, return_sequences=True, name="lstm")(x)
    return keras.Model(x, out()(layers.AdditiveAttention(use_scale=False)([y, y])))


@topology({"lstm": Units(4), "heads": dense(4)})
def self_attention():
    x = sequence()
    y = layers.LSTM(4, return_sequences=True, name="lstm")(x)
    y = layers.MultiHeadAttention(2, 3, name="heads")(y, y, use_causal_mask=True)
    return keras.Model(x, out()(y))


@topology({"lstm": Units(4), "kept": Units(4)})
def self_attention_with_a_residual():
    """The output projection's units are the LSTM's, whose width the layer would follow by itself."""
    x = sequence()
    y = layers.LSTM(4, return_sequences=True, name="lstm")(x)
    z = layers.MultiHeadAttention(2, 3, name="heads")(query=y, value=y)
    y = layers.Add()([y, z])
    return keras.Model(x, out()(layers.GRU(4, name="kept")(y)))


@topology({"query": Units(4), "key": Units(5), "value": Units(3), "heads": dense(6)})
def cross_attention():
    x, y = sequence(name="x"), sequence(2, name="y")
    query = layers.LSTM(4, return_sequences=True, name="query")(x)
    key = layers.LSTM(5, return_sequences=True, name="key")(y)
    value = layers.GRU(3, return_sequences=True, name="value")(y)
    heads = layers.MultiHeadAttention(2, 3, value_dim=2, output_shape=6, use_bias=False, name="heads")
    z, _ = heads(query, value, key=key, return_attention_scores=True)
    return keras.Model([x, y], out()(z))


@topology({"key": Units(5), "heads": dense(2)})
def cross_attention_from_an_input():
    x, y = sequence(name="x"), sequence(2, name="y")
    value = layers.LSTM(5, return_sequences=True, name="key")(x)
    return keras.Model([x, y], out()(layers.MultiHeadAttention(2, 3, name="heads")(y, value)))


@topology({"key": Units(4)}, {"lstm": "several axes", "heads": "several axes", **OUT})
def attention_output_of_several_axes():
    x = sequence(steps=STEPS)
    y = layers.LSTM(5, return_sequences=True, name="lstm")(x)
    value = layers.LSTM(4, return_sequences=True, name="key")(x)
    z = layers.MultiHeadAttention(2, 3, output_shape=(2, 3), name="heads")(y, value)
    return keras.Model(x, out()(layers.Reshape((STEPS, 6))(z)))


@topology({"decoder[0:3]": Units(3, deaf=False), "decoder[3:6]": Units(3, deaf=False)})
def attention_by_hand():
    """Luong's: a decoder's states are multiplied with an encoder's, forward and backward, and read their weighted sum."""
    x, y = sequence(name="x"), sequence(2, name="y")
    encoder = layers.Bidirectional(layers.LSTM(3, return_sequences=True), name="encoder")
    encoded = encoder(x)
    decoded = layers.LSTM(6, return_sequences=True, name="decoder")(y)
    weights = layers.Softmax()(layers.Dot(axes=[2, 2])([decoded, encoded]))
    context = layers.Dot(axes=(2, 1))([weights, encoded])
    return keras.Model([x, y], out()(layers.Concatenate()([context, decoded])))


@topology({"key": Units(4, deaf=False), "value": Units(5)})
def attention_by_operators():
    inputs, (query, value, key) = two_sequences()
    scores = query @ ops.transpose(key, (0, 2, 1)) / 2
    return keras.Model(inputs, out()(ops.matmul(ops.softmax(scores, axis=-1), value)))


@topology({"a": Units(4, deaf=False), "c": Units(3)}, {"weights": "softmax", **OUT})
def similarity_of_two():
    """Cosines of vectors, and a weighted sum of steps."""
    x, y = sequence(name="x"), sequence(steps=STEPS, name="y")
    a, b = (layers.LSTM(4, name=name)(z) for name, z in (("a", x), ("b", y)))
    steps = layers.LSTM(3, return_sequences=True, name="c")(y)
    weights = layers.Softmax()(layers.Dense(STEPS, name="weights")(x)[:, -1])
    parts = [layers.Dot(axes=1, normalize=True)([a, b]), layers.Dot(axes=[1, 1])([weights, steps])]
    return keras.Model([x, y], out()(layers.Concatenate()(parts)))


@topology({}, {"a": "compares", "b": "not as 0", "c": "isn't followed", "d": "moves the batch", **OUT})
def products_that_are_not_followed():
    x = sequence(steps=STEPS, batch=2)
    a, b, c, d = (layers.LSTM(FEATURES, return_sequences=True, name=name)(x) for name in "abcd")
    noisy = ops.sigmoid(b)
    parts = [
        layers.Dot(axes=[2, 2])([a, x]),
        layers.Dot(axes=[2, 2])([noisy, noisy]),
        ops.matmul(c, np.ones((FEATURES, STEPS), "float32")),
        ops.transpose(ops.transpose(d)) @ np.ones((FEATURES, STEPS), "float32"),
    ]
    return keras.Model(x, out()(layers.Concatenate()(parts)))
