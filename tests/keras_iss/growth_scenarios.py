"""Grow-and-prune trainings that have to give the same weights on every backend."""

import keras
import numpy as np

from keras_iss.callbacks import GrowAndPrune

ARGUMENTS = {
    "growth_ratio": 0.3, "pruning": 0.3, "growth_epochs": 2, "prune_epochs": 3, "monitor": "loss", "tolerance": 9.0,
    "verbose": 0,
}  # fmt: skip


def network():
    model = keras.Sequential(
        [
            keras.Input((6, 4)),
            keras.layers.SimpleRNN(8, name="rnn"),
            keras.layers.Dense(6, activation="relu", name="hidden"),
            keras.layers.Dense(2, name="out"),
        ],
        name="model",
    )
    generator = np.random.default_rng(0)
    model.set_weights([generator.normal(scale=0.4, size=w.shape).astype("float32") for w in model.weights])
    return model


def data(samples=40):
    generator = np.random.default_rng(1)
    x = generator.normal(size=(samples, 6, 4)).astype("float32")
    return x, np.stack([x[:, :, 0].mean(1), x[:, -1, 1]], axis=1)


def train(optimizer, *callbacks, epochs=6, samples=40, compiled=None):
    model = network()
    model.compile(optimizer, "mse", **(compiled or {}))
    arguments = {"batch_size": 8, "epochs": epochs, "shuffle": False, "verbose": 0}
    history = model.fit(*data(samples), callbacks=list(callbacks), **arguments)
    return model, history.history


def adam():
    """Momentum, weight decay and a moving average that is written back: all of them would wake dormant weights."""
    return keras.optimizers.AdamW(
        0.01, weight_decay=0.1, use_ema=True, ema_momentum=0.9, ema_overwrite_frequency=3
    )


def whole(**compiled):
    """Growth and rounds, 240 steps."""
    compiled = {"steps_per_execution": 2} | compiled
    return train(adam(), GrowAndPrune(0.5, **ARGUMENTS), samples=320, compiled=compiled)[0]


def columns(**compiled):
    optimizer = keras.optimizers.SGD(0.05, momentum=0.9, clipnorm=0.5)
    return train(optimizer, GrowAndPrune(0.5, granularity="column", **ARGUMENTS), compiled=compiled)[0]


SCENARIOS = {"whole": whole, "columns": columns}


def everything():
    return {f"{name}|{i}": w for name, run in SCENARIOS.items() for i, w in enumerate(run().get_weights())}
