"""A small task, learned with `ISSPruning` to a target, on every backend."""

import keras
import numpy as np

import keras_iss
from keras_iss.callbacks import ISSPruning

SAMPLES = 128


def task(units=(16, 12)):
    """Which of three channels is raised: learnable in a few epochs."""
    generator = np.random.default_rng(0)
    y = generator.integers(0, 3, SAMPLES)
    x = (generator.normal(size=(SAMPLES, 8, 3)) + np.eye(3)[y][:, None]).astype("float32")
    model = keras.Sequential(
        [
            keras.Input((8, 3)),
            keras.layers.SimpleRNN(units[0], return_sequences=True, name="first"),  # the quickest to compile
            keras.layers.SimpleRNN(units[1], name="second"),
            keras.layers.Dense(3, name="dense"),
        ]
    )
    return model, x, y


def compiled(model, optimizer=None, **kwargs):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer or keras.optimizers.Adam(1e-2), loss, metrics=["accuracy"], **kwargs)
    return model


def eager(model, optimizer=None):
    """The same without compiling the step, which takes longer than ten steps: where the step isn't what matters."""
    return compiled(model, optimizer, run_eagerly=True)


def fit(model, x, y, *callbacks, epochs=4, **kwargs):
    arguments = {"batch_size": 16, "verbose": 0, "shuffle": False} | kwargs
    return model.fit(x, y, epochs=epochs, callbacks=list(callbacks), **arguments).history


def removed_and_stripped(metric):
    """What the epoch logs say was removed, and what stripping removes."""
    model, x, y = task((32, 24))
    history = fit(compiled(model), x, y, ISSPruning(target=0.6, metric=metric), epochs=8)
    cost, small = keras_iss.trace(model).cost, keras_iss.trace(keras_iss.strip(model)).cost
    return history["iss_removed"][-1], 1 - small.measure(metric) / cost.measure(metric)


def everything():
    return {metric: removed_and_stripped(metric) for metric in ("macs", "parameters", "units")}
