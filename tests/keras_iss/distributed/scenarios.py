"""Trainings of 100 steps whose results must not depend on how many devices share them."""

import contextlib
import hashlib
import os
import tempfile

import keras
import numpy as np

from keras_iss.callbacks import GrowAndPrune, ISSPruning
from keras_iss.structures import to_numpy
from keras_iss.wrapping import sparse_optimizer

EPOCHS, BATCH, SAMPLES, TOKENS, UNITS = 5, 8, 160, 12, 8  # 20 batches an epoch


def network(model_class=keras.Model):
    inputs = keras.Input((5,), dtype="int32")
    x = keras.layers.Embedding(TOKENS, 6, name="embedding")(inputs)
    # TensorFlow takes long to trace an LSTM, once per replica.
    layer = keras.layers.LSTM if keras.backend.backend() == "jax" else keras.layers.SimpleRNN
    x = layer(UNITS, name="rnn")(x)
    model = model_class(inputs, keras.layers.Dense(2, name="dense")(x), name="model")
    generator = np.random.default_rng(0)
    model.set_weights([generator.normal(scale=0.4, size=w.shape).astype("float32") for w in model.weights])
    return model


def data():
    generator = np.random.default_rng(1)
    x = generator.integers(0, TOKENS, (SAMPLES, 5)).astype("int32")
    return x, np.stack([x.mean(1) / TOKENS, x[:, -1] % 3 - 1.0], axis=1).astype("float32")


def growing(**arguments):
    return GrowAndPrune(
        0.5, growth_ratio=0.3, pruning=0.3, growth_epochs=2, prune_epochs=3, monitor="loss", tolerance=9.0,
        verbose=0, **arguments,
    )  # fmt: skip


# Adam, clipping and λ together: what is not linear in the gradient must see the whole batch's.
SCENARIOS = {
    "target": lambda: (keras.optimizers.Adam(0.01), ISSPruning(target=0.5)),
    "proximal": lambda: (keras.optimizers.Adam(0.01, clipnorm=0.1), ISSPruning(9.0)),
    "subgradient": lambda: (
        keras.optimizers.SGD(0.1, momentum=0.5, global_clipnorm=0.3),
        ISSPruning(0.03, method="subgradient", threshold=2e-2),
    ),
    "grow and prune": lambda: (keras.optimizers.AdamW(0.01, weight_decay=0.01, clipvalue=0.05), growing()),
}


# What the test suite has time for; with KERAS_ISS_NIGHTLY=1 it runs all of them everywhere.
NIGHTLY = os.environ.get("KERAS_ISS_NIGHTLY", "0") != "0"
ON_TENSORFLOW = tuple(SCENARIOS) if NIGHTLY else ("subgradient", "grow and prune")
ON_JAX = tuple(SCENARIOS) if NIGHTLY else ("proximal", "grow and prune")
BY_WORKERS = tuple(SCENARIOS) if NIGHTLY else ("subgradient",)
BY_WORKERS_ON_JAX = tuple(SCENARIOS) if NIGHTLY else ("grow and prune",)


class Record(keras.callbacks.Callback):
    """The whole state at the end of each epoch."""

    def __init__(self):
        super().__init__()
        self.states = []

    def on_epoch_end(self, epoch, logs=None):
        self.states.append(state(self.model))


class Kill(keras.callbacks.Callback):
    """Ends a training in the middle of an epoch, as a killed process would."""

    def __init__(self, epoch):
        super().__init__()
        self.epoch = epoch

    def on_epoch_begin(self, epoch, logs=None):
        self.kills = epoch == self.epoch

    def on_train_batch_end(self, batch, logs=None):
        if self.kills and batch == 4:
            raise KeyboardInterrupt


def state(model):
    """Every variable of the model and its optimizer: weights, masks, strengths, sums of a growth window, moments."""
    variables = [*model.weights, *model.optimizer.variables]
    return {f"{i} {v.path}": to_numpy(v) for i, v in enumerate(variables)}


def train(name, *callbacks, parts=1, part=0, model_class=keras.Model):
    """Trains a model by a scenario, and gives it back with its state at the end of each epoch and at last.

    Of `parts` equal parts of each batch it takes only one, as where processes bring their own data.
    """
    model, record = network(model_class), Record()
    optimizer, pruning = SCENARIOS[name]()
    model.compile(optimizer, "mse")
    x, y = (np.concatenate(np.split(whole, SAMPLES * parts // BATCH)[part::parts]) for whole in data())
    model.fit(
        x, y, batch_size=BATCH // parts, epochs=EPOCHS, shuffle=False, verbose=0,
        callbacks=[pruning, record, *callbacks],
    )  # fmt: skip
    return model, [*record.states, state(model)]


def resumed(name):
    """The last state of a training that is killed in its fourth epoch, and then goes on from its backup."""
    with tempfile.TemporaryDirectory() as folder:
        backup = keras.callbacks.BackupAndRestore
        with contextlib.suppress(KeyboardInterrupt):
            train(name, backup(folder, delete_checkpoint=False), Kill(3))
        return train(name, backup(folder))[1][-1]


def kind(name):
    """Of a variable: "mask", "deadline", "strength", "gradients" (of a growth window) ...; else "weight"."""
    last = name.rpartition("_")[2]
    return last if last in ("mask", "deadline", "strength", "gradients") else "weight"


def differences(found, expected):
    """The largest difference of each kind of variable over all states."""
    largest = {}
    for mine, theirs in zip(found, expected, strict=True):
        for (name, value), wanted in zip(mine.items(), theirs.values(), strict=True):
            difference = np.abs(value.astype("float64") - wanted.astype("float64")).max(initial=0.0)
            largest[kind(name)] = max(largest.get(kind(name), 0.0), float(difference))
    return largest


def facts(model):
    """What a training did, so that tests see it did something."""
    sparse = sparse_optimizer(model)
    masks = sparse.masks.values().values()
    return {
        "steps": int(to_numpy(sparse.iterations)),
        "zeros": sum(int((weight == 0).sum()) for weight in model.get_weights()),
        "dormant": sum(int((~mask).sum()) for mask in masks),
        "units": int(sparse.alive("rnn").sum()) if sparse.structures else UNITS,
    }


def digest(states):
    """Tells states apart that differ in a single bit."""
    whole = hashlib.sha256()
    for value in (value for one in states for value in one.values()):
        whole.update(np.ascontiguousarray(value).tobytes())
    return whole.hexdigest()


def save(path, trainings):
    """Writes the states of trainings, by name."""
    np.savez(
        path,
        **{
            f"{training}|{i}|{name}": value
            for training, states in trainings.items()
            for i, one in enumerate(states)
            for name, value in one.items()
        },
    )


def load(path, training):
    """The states of one training that `save` wrote."""
    states = [{} for _ in range(EPOCHS + 1)]
    with np.load(path) as file:
        for key in file.files:
            of, i, name = key.split("|")
            if of == training:
                states[int(i)][name] = file[key]
    return states
