"""What pruning costs during training: step time with `ISSPruning` over step time without.

The model is a language model of two LSTM layers of 650 units (vocabulary 10,000, batch of 20, 35 steps), trained with
SGD and clipping as on the Penn Treebank. Each side gets its own copy; the sides take turns, one step each, and the
median of the step times counts. Limit: 5 %. Processor time (all threads) stands beside it: it says more where other
programs run on the machine at the same time.

    python benchmarks/training_overhead.py [--quick] [--rounds 40] [--json FILE]
    KERAS_BACKEND=jax python benchmarks/training_overhead.py
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

from keras_iss.callbacks import ISSPruning

VOCABULARY, UNITS, BATCH, STEPS = 10_000, 650, 20, 35
LIMIT = 0.05


def language_model(vocabulary: int, units: int) -> keras.Model:
    model = keras.Sequential(
        [
            keras.Input((STEPS,), dtype="int32"),
            keras.layers.Embedding(vocabulary, units),
            keras.layers.LSTM(units, return_sequences=True),
            keras.layers.LSTM(units, return_sequences=True),
            keras.layers.Dense(vocabulary),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(1.0, clipnorm=5.0), loss)
    return model


def measure(
    models: dict[str, keras.Model], vocabulary: int, rounds: int
) -> dict[str, list[tuple[float, float]]]:
    """Wall and processor seconds of each step; the models take turns, one step each, in an order that rotates."""
    generator = np.random.default_rng(0)
    x, y = generator.integers(0, vocabulary, (2, BATCH, STEPS), dtype="int32")
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in models}
    names = list(models)
    for round_ in range(rounds + 2):
        for name in names[round_ % len(names) :] + names[: round_ % len(names)]:
            begin, cpu = time.perf_counter(), time.process_time()
            models[name].train_on_batch(x, y)  # returns when the step's loss is there
            if round_ >= 2:
                seconds[name].append((time.perf_counter() - begin, time.process_time() - cpu))
    return seconds


def pruning(model: keras.Model, callback: ISSPruning) -> keras.Model:
    """Trains one step with the callback; the optimizer that it leaves goes on doing the same work per step."""
    batch = np.zeros((BATCH, STEPS), "int32")
    model.fit(batch, batch, batch_size=BATCH, verbose=0, callbacks=[callback])
    return model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a small model and few rounds: does it run?")
    parser.add_argument("--rounds", type=int, default=40, help="steps per side")
    parser.add_argument("--json", help="write the figures here")
    arguments = parser.parse_args()
    vocabulary, units = (200, 32) if arguments.quick else (VOCABULARY, UNITS)
    rounds = 10 if arguments.quick else arguments.rounds

    callbacks = {
        "target": ISSPruning(target=0.5),
        "proximal": ISSPruning(1e-4),
        "subgradient": ISSPruning(7e-5, method="subgradient"),
    }
    models = {"plain": language_model(vocabulary, units)}
    models |= {n: pruning(language_model(vocabulary, units), c) for n, c in callbacks.items()}
    seconds = measure(models, vocabulary, rounds)

    medians = {
        name: [1e3 * statistics.median(v) for v in zip(*steps, strict=True)]
        for name, steps in seconds.items()
    }
    rows = []
    for name, (wall, cpu) in medians.items():
        added, added_cpu = wall / medians["plain"][0] - 1, cpu / medians["plain"][1] - 1
        rows.append({"side": name, "steps": len(seconds[name]), "wall_ms": wall, "added": added,
                     "cpu_ms": cpu, "added_cpu": added_cpu})  # fmt: skip
        print(
            f"{name:12} {wall:9.2f} ms/step {100 * added:+7.2f} %   {cpu:9.2f} ms CPU {100 * added_cpu:+7.2f} %"
        )
    backend = keras.backend.backend()
    print(f"{units} units, vocabulary {vocabulary}, {backend}, limit {100 * LIMIT:.0f} %")
    if arguments.json:
        with open(arguments.json, "w", encoding="utf-8") as file:
            json.dump(
                {"backend": backend, "units": units, "vocabulary": vocabulary, "rows": rows}, file, indent=1
            )


if __name__ == "__main__":
    main()
