# ruff: noqa: E402
"""Trainings under `keras.distribution` on JAX; run as a script, it writes what it found.

XLA_FLAGS=--xla_force_host_platform_device_count=4 python on_jax.py devices OUT.json REFERENCE.npz
python on_jax.py worker OUT.json REFERENCE.npz ADDRESS NUMBER    one of two processes, against what `devices` wrote
"""

import json
import os
import sys

os.environ["KERAS_BACKEND"] = "jax"
sys.modules["tensorflow"] = None  # nothing here needs it, and Keras would spend seconds on importing it

import keras
import numpy as np
from scenarios import (
    BATCH,
    BY_WORKERS_ON_JAX,
    ON_JAX,
    data,
    differences,
    digest,
    facts,
    load,
    network,
    resumed,
    save,
    train,
)

from keras_iss.callbacks import ISSPruning


class Everywhere(keras.callbacks.Callback):
    """Counts the epochs after which all devices that hold the same part of a variable hold the same values."""

    def __init__(self):
        super().__init__()
        self.epochs, self.copies, self.parts = 0, 0, 0

    def on_epoch_end(self, epoch, logs=None):
        for variable in (*self.model.variables, *self.model.optimizer.variables):
            held = {}
            for shard in variable.value.addressable_shards:
                held.setdefault(str(shard.index), []).append(np.asarray(shard.data))
            for first, *others in held.values():
                assert all(np.array_equal(first, other) for other in others), variable.path
            self.copies, self.parts = (
                max(self.copies, len(held[str(shard.index)])),
                max(self.parts, len(held)),
            )
        self.epochs += 1


def data_parallel():
    return keras.distribution.DataParallel(
        devices=keras.distribution.list_devices()[:2], auto_shard_dataset=False
    )


def model_parallel(shape=(2, 2)):
    """Parts of the batch times parts of the weights: kernels by columns, the reader by rows."""
    devices = keras.distribution.list_devices()[: shape[0] * shape[1]]
    mesh = keras.distribution.DeviceMesh(shape, ("batch", "model"), devices)
    layout = keras.distribution.LayoutMap(mesh)
    layout["embedding/embeddings"] = (None, "model")
    layout["rnn/lstm_cell[^/]*/kernel"] = (None, "model")
    layout["rnn/lstm_cell[^/]*/recurrent_kernel"] = (None, "model")
    layout["rnn/lstm_cell[^/]*/bias"] = ("model",)
    layout["dense/kernel"] = ("model", None)
    return keras.distribution.ModelParallel(layout_map=layout, auto_shard_dataset=False)


PLACES = {"data parallel": data_parallel, "model parallel": model_parallel}


def equal_to_one_device(reference):
    found, trainings = {}, {}
    for name in dict.fromkeys((*ON_JAX, *BY_WORKERS_ON_JAX)):
        expected = trainings[name] = train(name)[1]
        for place, distribution in PLACES.items():
            everywhere = Everywhere()
            with distribution().scope():
                model, states = train(name, everywhere)
                did = facts(model)
                if name == "proximal" and place == "model parallel":
                    found["resumed"] = differences([resumed(name)], states[-1:])
            found[f"{place}: {name}"] = did | {
                "differences": differences(states, expected),
                "same on every device": everywhere.epochs,
                "copies": everywhere.copies,
                "parts": everywhere.parts,
            }
    save(reference, trainings)
    return found


def refusal():
    model = network()
    model.compile("sgd", "mse")
    try:
        with data_parallel().scope():
            model.fit(*data(), batch_size=BATCH, verbose=0, callbacks=[ISSPruning(0.1)])
    except ValueError as error:
        return str(error)
    return "not refused"


def devices(reference):
    return equal_to_one_device(reference) | {"refused": refusal()}


def worker(reference, address, number):
    keras.distribution.initialize(address, 2, int(number))
    found = {}
    for name in BY_WORKERS_ON_JAX:
        with data_parallel().scope():
            states = train(name, parts=2, part=int(number))[1]
        found[f"data parallel: {name}"] = compared(states, reference, name)
        with model_parallel((1, 2)).scope():  # both processes bring the whole batch
            states = train(name)[1]
        found[f"model parallel: {name}"] = compared(states, reference, name)
    return found


def compared(states, reference, name):
    return {"differences": differences(states, load(reference, name)), "digest": digest(states)}


if __name__ == "__main__":
    role, out, *more = sys.argv[1:]
    found = {"devices": devices, "worker": worker}[role](*more)
    with open(out, "w", encoding="utf-8") as file:
        json.dump(found, file, indent=1)
