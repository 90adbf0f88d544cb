"""A small model that is trained, pruned, stripped and trained again, on every backend."""

import keras
import numpy as np
from keras import layers

import keras_iss

X = np.random.default_rng(0).standard_normal((8, 4, 3)).astype("float32")
Y = np.random.default_rng(1).standard_normal((8, 2)).astype("float32")


def small_model(units: int = 6, **options) -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((4, 3)),
            layers.LSTM(units, return_sequences=True, name="first", **options),
            layers.GRU(4, name="second"),
            layers.Dense(2, name="out"),
        ]
    )


def everything():
    model = small_model()
    model.compile("adam", "mse")
    model.fit(X, Y, verbose=0)
    pruned = keras_iss.prune(model, 0.5)
    small = keras_iss.strip(pruned)
    outputs = [keras.ops.convert_to_numpy(m(X, training=False)) for m in (pruned, small)]
    loss = small.fit(X, Y, verbose=0).history["loss"]
    return {
        "units": small.get_layer("first").units,
        "pruned": outputs[0],
        "stripped": outputs[1],
        "loss": loss,
    }
