"""What pruning costs during training: step time with `ISSPruning` over step time without.

The model is a language model of two LSTM layers of 650 units (vocabulary 10,000, batch of 20, 35 steps), trained with
SGD and clipping as on the Penn Treebank. Each side gets its own copy; the sides take turns, one step each, and the
median of the step times counts. Limit: 5 %. Processor time (all threads) stands beside it: it says more where other
programs run on the machine at the same time. What a side adds differs by some per cent from process to process (where its
memory lies); `--processes` measures in several, one after another, and gives lowest, median and highest.

    python benchmarks/training_overhead.py [--quick] [--rounds 40] [--processes 1] [--json FILE]
    KERAS_BACKEND=jax python benchmarks/training_overhead.py
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

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


def one_process(vocabulary: int, units: int, rounds: int) -> list[dict]:
    """Measures in this process: a row per side."""
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
    plain, plain_cpu = medians["plain"]
    rows = []
    for name, (wall, cpu) in medians.items():
        rows.append({"side": name, "steps": len(seconds[name]), "wall_ms": wall, "added": wall / plain - 1,
                     "cpu_ms": cpu, "added_cpu": cpu / plain_cpu - 1})  # fmt: skip
        print(
            f"{name:12} {wall:9.2f} ms/step {100 * rows[-1]['added']:+7.2f} %   "
            f"{cpu:9.2f} ms CPU {100 * rows[-1]['added_cpu']:+7.2f} %",
            flush=True,
        )
    return rows


def other_process(arguments: argparse.Namespace) -> list[dict]:
    """Measures in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.json"
        quick = ["--quick"] if arguments.quick else []
        command = [sys.executable, __file__, *quick, "--rounds", str(arguments.rounds), "--json", str(path)]
        subprocess.run(command, check=True)
        return json.loads(path.read_text(encoding="utf-8"))["processes"][0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a small model and few rounds: does it run?")
    parser.add_argument("--rounds", type=int, default=40, help="steps per side")
    parser.add_argument("--processes", type=int, default=1, help="measure in so many, one after another")
    parser.add_argument("--json", help="write the figures here")
    arguments = parser.parse_args()
    vocabulary, units = (200, 32) if arguments.quick else (VOCABULARY, UNITS)
    rounds = min(10, arguments.rounds) if arguments.quick else arguments.rounds
    if arguments.processes == 1:
        processes = [one_process(vocabulary, units, rounds)]
    else:
        processes = [other_process(arguments) for _ in range(arguments.processes)]
        for i, row in enumerate(processes[0][1:], start=1):
            added = [100 * rows[i]["added"] for rows in processes]
            print(
                f"{row['side']:12} lowest {min(added):+.1f} %, median {statistics.median(added):+.1f} %, "
                f"highest {max(added):+.1f} %"
            )
    backend = keras.backend.backend()
    print(f"{units} units, vocabulary {vocabulary}, {backend}, limit {100 * LIMIT:.0f} %")
    if arguments.json:
        command = f"python benchmarks/training_overhead.py --rounds {rounds} --processes {len(processes)}"
        found = {
            "command": command,
            "backend": backend,
            "units": units,
            "vocabulary": vocabulary,
            "processes": processes,
        }
        Path(arguments.json).write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
