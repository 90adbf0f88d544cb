"""What a training step costs when virtual devices share it: time, and memory of the training's state per device.

The model is a language model of two LSTM layers of 128 units (vocabulary 1,000, global batch of 32, 20 steps), trained
with Adam, plain and with `ISSPruning`. The devices are virtual: parts of one CPU, so that more of them make nothing
faster; what they show is what sharing costs. Every setting runs in a process of its own, the two sides take turns, an
epoch of a few steps each; the median of the epochs counts.

    python benchmarks/distributed.py [--quick] [--epochs 5] [--json FILE]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

ENGINES = {"tensorflow": ("mirrored",), "jax": ("data parallel", "model parallel")}
DEVICES = (1, 2, 4)
BATCH, LENGTH = 32, 20
WHOLE, QUICK = {"units": 128, "vocabulary": 1000, "steps": 5}, {"units": 32, "vocabulary": 100, "steps": 2}


def scope(kind: str, devices: int) -> Any:
    """A context in which what is built and trained is spread over so many virtual devices; for one, none."""
    if kind == "mirrored":
        import tensorflow as tf

        cpu = tf.config.list_physical_devices("CPU")[0]
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * devices)
        names = [f"CPU:{i}" for i in range(devices)]
        return tf.distribute.MirroredStrategy(names).scope() if devices > 1 else contextlib.nullcontext()
    import keras

    if devices == 1:
        return contextlib.nullcontext()
    if kind == "data parallel":
        return keras.distribution.DataParallel().scope()
    layout = keras.distribution.LayoutMap(keras.distribution.DeviceMesh((1, devices), ("batch", "model")))
    layout[".*(embeddings|kernel)"] = (None, "model")
    layout[".*bias"] = ("model",)
    return keras.distribution.ModelParallel(layout_map=layout).scope()


def language_model(vocabulary: int, units: int) -> Any:
    import keras

    layers = [
        keras.Input((LENGTH,), dtype="int32"),
        keras.layers.Embedding(vocabulary, units),
        keras.layers.LSTM(units, return_sequences=True),
        keras.layers.LSTM(units, return_sequences=True),
        keras.layers.Dense(vocabulary),
    ]
    model = keras.Sequential(layers)
    model.compile(keras.optimizers.Adam(1e-3), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


def bytes_on_first_device(model: Any) -> int:
    """Weights, the optimizer's moments, masks and deadlines, as far as they lie on one device."""
    total = 0
    for variable in (*model.variables, *model.optimizer.variables):
        shards = getattr(
            variable.value, "addressable_shards", None
        )  # of JAX; TensorFlow's replicas are whole
        shape = variable.shape if shards is None else shards[0].data.shape
        total += math.prod(shape) * np.dtype(variable.dtype).itemsize
    return total


def measure(kind: str, devices: int, size: dict[str, int], epochs: int) -> list[dict[str, Any]]:
    """One row per side; runs in a process of its own."""
    with scope(kind, devices):
        from keras_iss.callbacks import ISSPruning

        generator = np.random.default_rng(0)
        x, y = generator.integers(0, size["vocabulary"], (2, BATCH * size["steps"], LENGTH), dtype="int32")
        fit = {"batch_size": BATCH, "shuffle": False, "verbose": 0}
        models = {side: language_model(size["vocabulary"], size["units"]) for side in ("plain", "pruning")}
        models["plain"].fit(x, y, **fit)
        models["pruning"].fit(
            x, y, callbacks=[ISSPruning(target=0.5)], **fit
        )  # its optimizer goes on pruning
        seconds: dict[str, list[float]] = {side: [] for side in models}
        for epoch in range(epochs + 1):
            for side in sorted(models, reverse=bool(epoch % 2)):
                begin = time.perf_counter()
                models[side].fit(x, y, **fit)
                if epoch:
                    seconds[side].append((time.perf_counter() - begin) / size["steps"])
        return [
            {
                "distribution": kind,
                "devices": devices,
                "side": side,
                "ms_per_step": 1e3 * statistics.median(seconds[side]),
                "state_mb_per_device": bytes_on_first_device(model) / 1e6,
                "process_peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3,
            }
            for side, model in models.items()
        ]


def in_a_process_of_its_own(engine: str, kind: str, devices: int, size: dict, epochs: int) -> list[dict]:
    environment = os.environ | {
        "KERAS_BACKEND": engine,
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "PYTHONPATH": str(Path(__file__).parents[1]),
    }
    if engine == "jax":
        environment["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={devices}"
    setting = json.dumps({"kind": kind, "devices": devices, "size": size, "epochs": epochs})
    done = subprocess.run(
        [sys.executable, __file__, "--worker", setting],
        env=environment, check=True, text=True, stdout=subprocess.PIPE,
    )  # fmt: skip
    return [{"engine": engine} | row for row in json.loads(done.stdout.splitlines()[-1])]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a small model and few steps: does it run?")
    parser.add_argument("--epochs", type=int, default=5, help="epochs measured per side")
    parser.add_argument("--json", help="write the figures here")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        print(json.dumps(measure(**json.loads(arguments.worker))))
        return
    size, epochs = (QUICK, 2) if arguments.quick else (WHOLE, arguments.epochs)
    rows = []
    for engine, kinds in ENGINES.items():
        for kind in kinds:
            for devices in (n for n in DEVICES if n > 1 or kind != "model parallel"):
                for row in in_a_process_of_its_own(engine, kind, devices, size, epochs):
                    rows.append(row)
                    print(
                        f"{engine:10} {kind:14} {devices} device(s) {row['side']:8} {row['ms_per_step']:8.1f} ms/step "
                        f"{row['state_mb_per_device']:7.1f} MB of state per device {row['process_peak_mb']:7.0f} MB peak",
                        flush=True,
                    )
    if arguments.json:
        found = {
            "command": f"python benchmarks/distributed.py --epochs {epochs} --json FILE",
            "machine": f"virtual CPU devices on {os.cpu_count()} cores",
            "model": {"batch": BATCH, "length": LENGTH} | size,
            "rows": rows,
        }
        target = Path(arguments.json)
        beside = target.with_name(f".{target.name}.{os.getpid()}")
        beside.write_text(json.dumps(found, indent=1), encoding="utf-8")
        os.replace(beside, target)


if __name__ == "__main__":
    main()
