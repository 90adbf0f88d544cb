"""Prunes by magnitude with tfmot on tf_keras, and exports: run by magnitude.py with TF_USE_LEGACY_KERAS=1.

The same start, batches, epochs, rate and dropout as the other methods; sparsity rises along tfmot's polynomial over the
epochs that ISSPruning's ramp takes.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import numpy as np
import tensorflow as tf
import tensorflow_model_optimization as tfmot
import tf_keras

UPDATES = 20  # of the masks, while sparsity rises


def network(job, batch_size=None):
    layers = [tf_keras.Input((32, 40), batch_size=batch_size, name="log_mel")]
    for number in (1, 2):
        layers.append(tf_keras.layers.LSTM(job["units"], return_sequences=number == 1, name=f"lstm_{number}"))
        layers.append(tf_keras.layers.Dropout(job["dropout"], name=f"dropout_{number}"))
    return tf_keras.Sequential([*layers, tf_keras.layers.Dense(10, name="digit")])


def pruned(job, given):
    """The trained model without tfmot's wrappers."""
    model = network(job)
    model.set_weights([given[f"weights_{number}"] for number in range(len(model.get_weights()))])
    got = model.predict(given["test_x"][: len(given["expected"])], verbose=0)
    np.testing.assert_allclose(got, given["expected"], atol=1e-3, err_msg="tf_keras computes something else")
    x, y, size = given["x"], given["y"], job["batch_size"]
    per_epoch = len(y) // size
    rises = max(1, round(job["epochs"] / 3)) * per_epoch  # steps
    every = max(1, rises // UPDATES)
    schedule = tfmot.sparsity.keras.PolynomialDecay(
        0.0, job["sparsity"], begin_step=0, end_step=rises // every * every, frequency=every
    )
    model = tfmot.sparsity.keras.prune_low_magnitude(model, pruning_schedule=schedule)
    rate = tf_keras.optimizers.schedules.CosineDecay(job["fine_rate"], job["epochs"] * per_epoch)
    model.compile(
        tf_keras.optimizers.Adam(rate, global_clipnorm=1.0),
        tf_keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    for epoch in range(job["epochs"]):
        order = np.random.default_rng([job["seed"], epoch]).permutation(len(y))[: per_epoch * size]
        model.fit(
            x[epoch % len(x)][order],
            y[order],
            batch_size=size,
            initial_epoch=epoch,
            epochs=epoch + 1,
            shuffle=False,
            verbose=0,
            callbacks=[tfmot.sparsity.keras.UpdatePruningStep()],
        )
    return tfmot.sparsity.keras.strip_pruning(model)


def exported(job, model, **options):
    """The bytes of its TFLite file, for one digit at a time."""
    single = network(job, batch_size=1)
    single.set_weights(model.get_weights())
    converter = tf.lite.TFLiteConverter.from_keras_model(single)
    for option, value in options.items():
        setattr(converter, option, value)
    return converter.convert()


def write(path, content):
    beside = path.with_name(f"unfinished-{path.name}")
    beside.write_bytes(content)
    os.replace(beside, path)


def main(job):
    tf_keras.utils.set_random_seed(job["seed"])
    folder = Path(job["folder"])
    with np.load(folder / "given.npz") as given:
        model = pruned(job, given)
        logits = model.predict(given["test_x"], batch_size=300, verbose=0)
    write(folder / f"{job['name']}.tf_keras.tflite", exported(job, model))
    sparse = exported(job, model, optimizations=[tf.lite.Optimize.EXPERIMENTAL_SPARSITY])
    write(folder / f"{job['name']}.tf_keras_sparse.tflite", sparse)
    weights = {f"weights_{number}": value for number, value in enumerate(model.get_weights())}
    np.savez(folder / f"{job['name']}.npz", logits=logits, **weights)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
