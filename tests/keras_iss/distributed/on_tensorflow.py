"""Trainings under `tf.distribute`; run as a script, it writes what it found.

python on_tensorflow.py devices OUT.json REFERENCE.npz    two virtual devices in one process, against one device
TF_CONFIG=... python on_tensorflow.py worker OUT.json REFERENCE.npz    one of two, against what `devices` wrote
"""

import functools
import json
import os
import sys

os.environ["KERAS_BACKEND"] = "tensorflow"

import keras
import numpy as np
import tensorflow as tf
from scenarios import (
    BATCH,
    BY_WORKERS,
    EPOCHS,
    ON_TENSORFLOW,
    SAMPLES,
    SCENARIOS,
    Record,
    data,
    differences,
    digest,
    facts,
    load,
    network,
    resumed,
    save,
    state,
    train,
)

from keras_iss import optimizers
from keras_iss.callbacks import ISSPruning


class Everywhere(keras.callbacks.Callback):
    """Counts the steps after which every replica has the same of everything."""

    def __init__(self, strategy):
        super().__init__()
        self.strategy, self.steps, self.copies = strategy, 0, 0

    def on_train_batch_end(self, batch, logs=None):
        for variable in (*self.model.variables, *self.model.optimizer.variables):
            first, *others = self.strategy.experimental_local_results(variable.value)
            assert all(np.array_equal(first, other) for other in others), variable.path
            self.copies = 1 + len(others)
        self.steps += 1


@functools.cache
def mirrored():
    """The only one: TensorFlow tells the collective operations of two strategies in one process not apart."""
    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])


def equal_to_one_device(reference):
    """Each training on one device and on two, and one of them killed and resumed."""
    found, trainings = {}, {}
    for name in ON_TENSORFLOW:
        optimizers.FUSED_FROM = 1_000_000
        expected = trainings[name] = train(name)[1]
        # On two devices a part of the step is compiled by XLA, as for more than a million weights.
        optimizers.FUSED_FROM = 0 if name == "subgradient" else 1_000_000
        everywhere = Everywhere(mirrored())
        with mirrored().scope():
            model, states = train(name, everywhere)
            if name == "subgradient":
                found["resumed"] = differences([resumed(name)], states[-1:])
        found[name] = facts(model) | {
            "differences": differences(states, expected),
            "same on every replica": everywhere.steps,
            "copies": everywhere.copies,
        }
    save(reference, trainings)
    return found


def refusal(strategy=None, distribution=None, scaled=False, **optimizer):
    try:
        with (strategy or mirrored()).scope():
            model = network()
            inner = keras.optimizers.SGD(**optimizer)
            model.compile(keras.optimizers.LossScaleOptimizer(inner) if scaled else inner, "mse")
            keras.distribution.set_distribution(distribution)
            model.fit(*data(), batch_size=BATCH, verbose=0, callbacks=[ISSPruning(0.1)])
    except ValueError as error:
        return str(error)
    finally:
        keras.distribution.set_distribution(None)
    return "not refused"


def refusals():
    return {
        "accumulation": refusal(gradient_accumulation_steps=2),
        "average": refusal(use_ema=True, ema_overwrite_frequency=2),
        "loss scaling": refusal(scaled=True),
        "strategy": refusal(strategy=tf.distribute.experimental.CentralStorageStrategy()),
        "distribution": refusal(distribution=keras.distribution.DataParallel(devices=["cpu:0"])),
    }


def devices(reference):
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    return equal_to_one_device(reference) | {"refused": refusals()}


class LogsOfOneAxis(keras.Model):
    """Keras 3 averages logs over processes along an axis that they don't have."""

    def train_step(self, data):
        return {name: tf.reshape(value, (1,)) for name, value in super().train_step(data).items()}


def train_without_fit(name, strategy):
    """As `train`: Keras's `fit` fails under this strategy, its train function doesn't."""
    with strategy.scope():
        model, record = network(LogsOfOneAxis), Record()
        optimizer, pruning = SCENARIOS[name]()
        model.compile(optimizer, "mse")
        steps = SAMPLES // BATCH
        callbacks = keras.callbacks.CallbackList([pruning, record], model=model, epochs=EPOCHS, steps=steps)
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    batches = tf.data.Dataset.from_tensor_slices(data()).batch(BATCH).with_options(options)
    batches = strategy.experimental_distribute_dataset(batches)
    callbacks.on_train_begin()
    for epoch in range(EPOCHS):
        model.reset_metrics()
        callbacks.on_epoch_begin(epoch)
        iterator = iter(batches)
        for _ in range(steps):
            logs = model.train_function(iterator)
        callbacks.on_epoch_end(epoch, {name: float(value) for name, value in logs.items()})
    callbacks.on_train_end()
    return [*record.states, state(model)]


def worker(reference):
    strategy, found = tf.distribute.MultiWorkerMirroredStrategy(), {}
    for name in BY_WORKERS:
        states = train_without_fit(name, strategy)
        found[name] = {"differences": differences(states, load(reference, name)), "digest": digest(states)}
    return found


if __name__ == "__main__":
    role, out, reference = sys.argv[1:]
    found = {"devices": devices, "worker": worker}[role](reference)
    with open(out, "w", encoding="utf-8") as file:
        json.dump(found, file, indent=1)
