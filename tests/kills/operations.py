"""What is killed: six kinds of work, each with the files it writes and what makes two of its results the same."""

from __future__ import annotations

import contextlib
import io
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

EPOCHS = 6


@dataclass(frozen=True, kw_only=True)
class Operation:
    """One kind of work.

    Attributes:
        run: Does it in a folder, with the inputs in another; called again after a kill, it goes on.
        outputs: The names of the files it writes.
        result: Of a whole output file, what has to be equal in every run; raises where the file isn't whole.
        replaces: Whether it takes the place of files of those names that were there before.
    """

    run: Callable[[Path, Path], None]
    outputs: tuple[str, ...]
    result: Callable[[Path], Any]
    replaces: bool = True


def make_inputs(folder: Path, names: Sequence[str]) -> None:
    """What these operations read."""
    import keras

    import keras_iss
    import tflite_export

    keras.utils.set_random_seed(0)
    model = _model(units=24)
    pruned = keras_iss.prune(model, {"lstm": 9})
    pruned.save(folder / "pruned.keras")
    if "benchmark" in names:
        tflite_export.export(pruned, folder / "model.tflite", time_steps=6)


def _model(units: int):
    import keras

    layers = [keras.Input((6, 3)), keras.layers.LSTM(units, name="lstm"), keras.layers.Dense(2, name="head")]
    return keras.Sequential(layers, name="model")


def _trained(folder: Path, callback: Any) -> None:
    """A training that backs itself up, then saves its model."""
    import keras

    from keras_iss.callbacks import Backup
    from keras_iss.files import written_whole

    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(32, 6, 3)).astype("float32"), rng.normal(size=(32, 2)).astype("float32")
    model = _model(units=6)
    model.compile(
        keras.optimizers.Adam(0.01), "mse", run_eagerly=True
    )  # nothing to trace: more kills in the time
    backup = Backup(folder / "backup")
    model.fit(x, y, batch_size=8, epochs=EPOCHS, shuffle=False, verbose=0, callbacks=[callback, backup])
    with written_whole(folder / "model.keras") as beside:
        model.save(beside)


def _train(folder: Path, inputs: Path) -> None:
    from keras_iss.callbacks import ISSPruning

    _trained(folder, ISSPruning(target=0.4))


def _grow(folder: Path, inputs: Path) -> None:
    from keras_iss.callbacks import GrowAndPrune

    rounds = {"growth_epochs": 2, "prune_epochs": 3, "monitor": "loss", "tolerance": 1.0, "verbose": 0}
    _trained(folder, GrowAndPrune(0.5, growth_ratio=0.4, pruning=0.4, **rounds))


def _sweep(folder: Path, inputs: Path) -> None:
    import keras

    import keras_iss

    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(16, 3, 3)).astype("float32"), rng.normal(size=(16, 2)).astype("float32")

    def build():
        layers = [keras.Input((3, 3)), keras.layers.LSTM(6), keras.layers.Dropout(0.3), keras.layers.Dense(2)]
        model = keras.Sequential(layers)
        model.compile(keras.optimizers.Adam(0.01), "mse", run_eagerly=True)
        return model

    def fit(model, callbacks):
        return model.fit(x, y, epochs=3, shuffle=False, verbose=0, callbacks=callbacks)

    found = keras_iss.sweep(build, fit, [0.6], folder=folder, engine="here", verbose=0)
    if found.failed:
        raise RuntimeError(str(found))


def _command(*words: object) -> None:
    from keras_iss.__main__ import main

    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        code = main([str(word) for word in words])
    if code:
        raise RuntimeError(f"exit code {code}: {said.getvalue()}")


def _strip(folder: Path, inputs: Path) -> None:
    _command("strip", inputs / "pruned.keras", "-o", folder / "model.keras")


def _export(folder: Path, inputs: Path) -> None:
    _command("export", inputs / "pruned.keras", "-o", folder / "model.tflite", "--time-steps", "6")


def _benchmark(folder: Path, inputs: Path) -> None:
    files = ("--json", folder / "figures.json", "--csv", folder / "figures.csv")
    _command("bench", inputs / "model.tflite", "--runs", "5", *files)


def _weights(file: Path) -> list[np.ndarray]:
    """The weights of a saved model, read without Keras: all arrays of its HDF5 file but the optimizer's."""
    import zipfile

    import h5py

    found = []
    with zipfile.ZipFile(file) as archive:
        json.loads(archive.read("config.json"))
        with h5py.File(io.BytesIO(archive.read("model.weights.h5"))) as weights:
            weights["layers"].visititems(
                lambda _, item: found.append(item[()]) if isinstance(item, h5py.Dataset) else None
            )
    return found


def _bytes(file: Path) -> int:
    data = file.read_bytes()
    if data[4:8] != b"TFL3":
        raise ValueError("no TFLite file")
    return len(data)  # names of tensors in it may differ from run to run


def _figures(file: Path) -> Any:
    """Times differ; the shape of the table doesn't."""
    text = file.read_text()
    if file.suffix == ".json":
        return sorted(json.loads(text)["rows"][0])
    head, row = text.splitlines()
    return head, len(row) > len(head) // 2 and text.endswith("\n")


def _of_sweep(file: Path) -> Any:
    """Weights, metrics and sizes, or the settings."""
    if file.suffix == ".keras":
        return _weights(file)
    if file.suffix == ".npz":
        with np.load(file) as arrays:
            return [arrays[name] for name in arrays.files]
    read = json.loads(file.read_text())
    if "metrics" not in read:
        return read
    return [np.array([*read["metrics"].values(), read["macs"], read["parameters"]])]


SWEPT = tuple(
    f"{name}.{ending}" for name in ("dense", "iss-0.6", "one_shot-0.6") for ending in ("keras", "json")
)

OPERATIONS = {
    "train": Operation(run=_train, outputs=("model.keras",), result=_weights),
    "grow": Operation(run=_grow, outputs=("model.keras",), result=_weights),
    "sweep": Operation(
        run=_sweep, outputs=("sweep.json", "start.npz", *SWEPT), result=_of_sweep, replaces=False
    ),
    "strip": Operation(run=_strip, outputs=("model.keras",), result=_weights),
    "export": Operation(run=_export, outputs=("model.tflite",), result=_bytes),
    "benchmark": Operation(run=_benchmark, outputs=("figures.json", "figures.csv"), result=_figures),
}


def same(a: Any, b: Any) -> bool:
    """Whether two results are equal, weights to 1e-6."""
    if isinstance(a, list) and a and isinstance(a[0], np.ndarray):
        return len(a) == len(b) and all(
            x.shape == y.shape and np.allclose(x, y, atol=1e-6) and np.array_equal(x == 0, y == 0)
            for x, y in zip(a, b, strict=True)
        )
    return a == b


def prepare() -> None:
    """What every process that is forked finds loaded; nothing is computed, so that no thread is lost by forking."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import h5py  # noqa: F401
    import keras  # noqa: F401

    import keras_iss.__main__
    import keras_iss.backup
    import tflite_export  # noqa: F401

    _ = keras_iss.trace
