"""Lambdas: followed where their functions are made of `keras.ops` and don't depend on how many units there are."""

from __future__ import annotations

import keras
from keras import layers, ops

from tests.topologies.zoo import OUT, STEPS, Units, dense, out, sequence, topology

# Keras loads a Lambda only unsafely, and copies none whose function isn't registered.


def _scaled_sum(y, factor):
    return factor * ops.sum(y, axis=1)


def _summed(y, mask=None):
    return ops.sum(y, axis=1)


@topology(
    {
        "last": Units(4),
        "value": Units(3),
        "summed": dense(2),
        "more": Units(5, silent=False),
    },
    loadable=False,
)
def lambdas():
    x = sequence(steps=STEPS)
    last = layers.LSTM(4, return_sequences=True, name="last")(x)
    value = layers.GRU(3, name="value")(x)
    gate = layers.Dense(3, name="gate")(value)
    more = layers.SimpleRNN(5, return_sequences=True, name="more")(x)
    parts = [
        layers.Lambda(lambda y: y[:, -1])(last),
        layers.Lambda(lambda both: both["a"] * ops.sigmoid(both["b"]))({"a": value, "b": gate}),
        layers.Lambda(_scaled_sum, output_shape=lambda s: (s[0], s[2]), arguments={"factor": 0.5})(
            layers.Dense(2, name="summed")(last)
        ),
        *layers.Lambda(lambda y: (ops.max(y, axis=1) + 1, ops.exp(ops.mean(y, axis=1))))(more),
        layers.Lambda(lambda y: ops.sum(y, axis=[1, 2])[:, None] / y.shape[-1])(x),
    ]
    return keras.Model(x, out()(layers.Concatenate()(parts)))


@topology(
    {},
    {
        "a": "fixed output_shape",
        "b": "counts units",
        "c": "counts units",
        "d": "mask",
        "e": "/std",
        "f": "Greater",
        "g": "calls a layer",
        **OUT,
    },
    loadable=False,
)
def lambdas_that_pin():
    x = sequence(steps=STEPS)
    a, b, c, d, e, f, g = (layers.LSTM(4, return_sequences=True, name=name)(x) for name in "abcdefg")
    relu = layers.ReLU()
    parts = [
        layers.Lambda(lambda y: ops.max(y, axis=1), output_shape=(4,))(a),
        layers.Lambda(lambda y: ops.sum(y, axis=1) / y.shape[-1] ** 0.5)(b),
        layers.Lambda(lambda y: ops.reshape(y, (-1, y.shape[1] * y.shape[2])))(c),
        layers.Lambda(_summed)(d),
        layers.Lambda(lambda y: ops.std(y, axis=1), name="deviation")(e),
        layers.GlobalAveragePooling1D()(
            layers.Lambda(lambda y: y, mask=lambda y, mask: ops.any(ops.greater(y, 0), axis=-1))(f)
        ),
        layers.Lambda(lambda y: relu(y)[:, -1])(g),
    ]
    return keras.Model(x, out()(layers.Concatenate()(parts)))
