"""Small sweeps, as the tests make them on TensorFlow and, in a process of their own, on JAX."""

import contextlib
import tempfile

import keras
import numpy as np

import keras_iss

EPOCHS = 3
TARGETS = (0.6,)


def data():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(16, 3, 3)).astype("float32")
    return x, (x[:, :, 0].sum(1, keepdims=True) > 0).astype("float32")


def build():
    """An LSTM with dropout; nothing to trace where it runs eagerly, as JAX can't."""
    layers = [keras.Input((3, 3)), keras.layers.LSTM(8), keras.layers.Dropout(0.3), keras.layers.Dense(1)]
    model = keras.Sequential(layers)
    eager = keras.backend.backend() == "tensorflow"
    model.compile(keras.optimizers.Adam(0.02), "mse", run_eagerly=eager, jit_compile=not eager)
    return model


def fit(model, callbacks):
    return model.fit(*data(), epochs=EPOCHS, shuffle=False, verbose=0, callbacks=callbacks)


class Killed(BaseException):
    """Ends a training as a kill does: nothing is caught or written."""


class Dies(keras.callbacks.Callback):
    """Ends the process's work after so many epochs of all trainings together."""

    def __init__(self, after):
        super().__init__()
        self.left = after

    def on_epoch_end(self, epoch, logs=None):
        self.left -= 1
        if self.left < 0:
            raise Killed


def swept(folder, *, targets=TARGETS, fit=fit, **changed):
    """A sweep in this process."""
    return keras_iss.sweep(build, fit, targets, folder=folder, engine="here", verbose=0, **changed)


def interrupted(folder, after, **changed):
    """The same, ended after so many epochs and begun again until it is through; how often it was ended."""
    for times in range(100):
        with contextlib.suppress(Killed):
            return swept(folder, fit=_dying(Dies(after)), **changed), times
    raise AssertionError("it makes no progress")


def _dying(dies):
    return lambda model, callbacks: fit(model, [*callbacks, dies])


def weights(row):
    return keras.models.load_model(row.path, compile=False).get_weights()


def everything():
    """Weights of an uninterrupted sweep and of an interrupted one, by name."""
    found = {}
    methods = (
        ("iss", "one_shot") if keras.backend.backend() == "tensorflow" else ("iss",)
    )  # JAX compiles each
    with tempfile.TemporaryDirectory() as folder:
        whole = swept(f"{folder}/whole", methods=methods)
        pieced, times = interrupted(f"{folder}/pieces", after=2, methods=methods)
        found["times"] = times
        found["names"] = [row.name for row in whole.rows]
        for sweep, label in ((whole, "whole"), (pieced, "pieces")):
            found[f"{label}/macs"] = [row.macs for row in sweep.rows]
            found[f"{label}/metric"] = [row.metric for row in sweep.rows]
            for row in sweep.rows:
                for number, value in enumerate(weights(row)):
                    found[f"{label}/{row.name}/{number}"] = value
    return found
