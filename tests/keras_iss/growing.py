"""Short trainings with `GrowAndPrune`, and callbacks that watch and steer them; what several test files use."""

import keras
import numpy as np
import pytest

from keras_iss.callbacks import GrowAndPrune
from keras_iss.optimizers import SparseOptimizer
from tests.keras_iss.growth_scenarios import ARGUMENTS, data

on_tensorflow = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="looks into TensorFlow's steps"
)


def sgd():
    return keras.optimizers.SGD(0.1, momentum=0.9)


def grow_and_prune(**arguments):
    return GrowAndPrune(0.5, **ARGUMENTS | arguments)


def small():
    """Compiles quickest."""
    return keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(8, "relu", name="hidden"), keras.layers.Dense(2, name="out")],
        name="model",
    )


def fit(model, *callbacks, epochs=6, x=None, batch_size=8, **kwargs):
    inputs, y = data()
    x = inputs[:, 0] if x is None and len(model.input_shape) == 2 else inputs if x is None else x
    arguments = {"epochs": epochs, "batch_size": batch_size, "shuffle": False, "verbose": 0} | kwargs
    return model.fit(x, y, callbacks=list(callbacks), **arguments).history


def masks_of(model):
    sparse = model.optimizer
    return (sparse if isinstance(sparse, SparseOptimizer) else sparse.inner_optimizer).masks.values()


def kernels(model):
    return {
        v.path: np.array(keras.ops.convert_to_numpy(v))
        for v in model.trainable_variables
        if "kernel" in v.name
    }


def state(model):
    return [np.array(keras.ops.convert_to_numpy(v)) for v in (*model.variables, *model.optimizer.variables)]


class Watch(keras.callbacks.Callback):
    """Masks, kernels and the whole state at each epoch's begin and end, as the callbacks before it in the list leave them."""

    def __init__(self):
        super().__init__()
        self.begin, self.end, self.states = [], [], []

    def on_epoch_begin(self, epoch, logs=None):
        self.begin.append((masks_of(self.model), kernels(self.model)))

    def on_epoch_end(self, epoch, logs=None):
        self.end.append((masks_of(self.model), kernels(self.model)))
        self.states.append(state(self.model))


class Quality(keras.callbacks.Callback):
    """Puts a number of our choice into the epoch logs."""

    def __init__(self, values):
        super().__init__()
        self.values = values

    def on_epoch_end(self, epoch, logs=None):
        logs["quality"] = self.values[epoch]
