"""Trainings that have to give the same weights on every backend."""

import keras
import numpy as np

from keras_iss.callbacks import ISSPruning
from keras_iss.optimizers import SparseOptimizer
from keras_iss.tracing import trace

FIRST, SECOND = 6, 4


def two_layers(seed=0):
    model = keras.Sequential(
        [
            keras.Input((7, 5)),
            keras.layers.LSTM(FIRST, return_sequences=True, name="first"),
            keras.layers.LSTM(SECOND, name="second"),
            keras.layers.Dense(2, name="dense"),
        ]
    )
    generator = np.random.default_rng(seed)
    model.set_weights([generator.normal(scale=0.4, size=w.shape).astype("float32") for w in model.weights])
    return model


def data(samples=32):
    generator = np.random.default_rng(1)
    x = generator.normal(size=(samples, 7, 5)).astype("float32")
    return x, np.stack([x[:, :, 0].mean(1), x[:, -1, 1]], axis=1)


def train(optimizer, epochs=2, callbacks=(), model=None, **compile_arguments):
    """Trains without shuffling, so that only the arithmetic differs between backends."""
    model = two_layers() if model is None else model
    model.compile(optimizer, "mse", **compile_arguments)
    model.fit(*data(), batch_size=8, epochs=epochs, shuffle=False, verbose=0, callbacks=list(callbacks))
    return model


def sparse(inner, **kwargs):
    """A `SparseOptimizer` for the two layers, unit 1 of the first to be gone after 3 updates."""
    model = two_layers()
    found = trace(model)
    optimizer = SparseOptimizer(inner, [found["first"], found["second"]], **kwargs)
    optimizer.build(model.trainable_variables)
    optimizer.set_deadlines("first", [-1, 3, -1, -1, -1, -1])
    return model, optimizer


def proximal(**kwargs):
    model, optimizer = sparse(
        keras.optimizers.Adam(1e-2, global_clipnorm=1.0), strength={"first": 3.0, "second": 9.0}
    )
    return train(optimizer, epochs=4, model=model, **kwargs)


def subgradient(**kwargs):
    inner = keras.optimizers.SGD(0.1, clipnorm=0.5)
    model, optimizer = sparse(inner, strength=0.05, method="subgradient", threshold=1e-3)
    return train(optimizer, epochs=4, model=model, **kwargs)


def accumulated(**kwargs):
    model, optimizer = sparse(keras.optimizers.Adam(1e-2, gradient_accumulation_steps=2), strength=3.0)
    return train(optimizer, epochs=4, model=model, **kwargs)


def target(**kwargs):
    return train(
        keras.optimizers.Adam(1e-2), epochs=4, callbacks=[ISSPruning(target=0.5, metric="units")], **kwargs
    )


SCENARIOS = {
    "proximal": lambda **kwargs: proximal(steps_per_execution=2, **kwargs),
    "subgradient": subgradient,
    "gradient accumulation": accumulated,
    "target": target,
}


def everything():
    return {f"{name}|{i}": w for name, run in SCENARIOS.items() for i, w in enumerate(run().get_weights())}
