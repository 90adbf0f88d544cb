"""Magnitude pruning by tensorflow-model-optimization, at the stored weights of the ISS models, in a process of its own.

tfmot knows only the legacy tf_keras, which has to be chosen before TensorFlow is imported.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np
from runs import write_json

import keras_iss
from frontier.features import Digits
from frontier.model import Recipe, build, scores, tested

PACKAGES = ("tensorflow", "tensorflow-model-optimization", "tf_keras")
METHOD = "tfmot magnitude"
_WORKER = Path(__file__).with_name("magnitude_worker.py")


class MagnitudeError(RuntimeError):
    """The process that prunes by magnitude failed."""


def versions() -> dict[str, str]:
    """The packages behind the points of this method; {} where one is missing."""
    try:
        return {name: importlib.metadata.version(name) for name in PACKAGES}
    except importlib.metadata.PackageNotFoundError:
        return {}


def add(
    found: keras_iss.Sweep,
    recipe: Recipe,
    training: Digits,
    test: Digits,
    weights: Sequence[np.ndarray],
    folder: Path,
    seed: int,
) -> keras_iss.Sweep:
    """The sweep with a magnitude-pruned point for each ISS point, with as many weights that aren't zero.

    Args:
        found: The sweep.
        recipe: Of all methods.
        training, test: The sets.
        weights: What all methods start from.
        folder: For the models and files; what is there isn't made again.
        seed: Of the order of the batches, as for the others.

    Raises:
        MagnitudeError: If tfmot or LiteRT's converter fails.
    """
    if not versions():
        print(
            "tensorflow-model-optimization or tf_keras isn't installed: magnitude pruning is left out.",
            flush=True,
        )
        return found
    folder.mkdir(exist_ok=True)
    for row in (row for row in found.rows if row.method == "iss"):
        name = f"tfmot-{row.target!r}"
        result = folder / f"{name}.json"
        if not result.is_file():
            _prune(name, row.parameters, recipe, training, test, weights, folder, seed)
        kept = json.loads(result.read_text(encoding="utf-8"))
        dense = found["dense"]
        found = found.add(
            name,
            method=METHOD,
            target=row.target,
            metric=kept["misheard"],
            macs=dense.macs,  # zeros are multiplied like any other number
            parameters=kept["nonzero"],
            units=dense.units,
            path=folder / f"{name}.keras",
        )
    return found


def _prune(
    name: str,
    nonzero: int,
    recipe: Recipe,
    training: Digits,
    test: Digits,
    weights: Sequence[np.ndarray],
    folder: Path,
    seed: int,
) -> None:
    kernels = sum(value.size for value in weights if value.ndim > 1)
    biases = sum(value.size for value in weights if value.ndim == 1)
    model = build(recipe)
    model.set_weights(weights)
    given = folder / "given.npz"
    beside = folder / f"unfinished-{given.name}"
    arrays = {f"weights_{number}": value for number, value in enumerate(weights)}
    np.savez(
        beside,
        x=training.x,
        y=training.y,
        test_x=test.all()[0],
        expected=model.predict(test.x[0][:8], verbose=0),
        **arrays,
    )
    os.replace(beside, given)
    job = dataclasses.asdict(recipe) | {
        "name": name,
        "folder": str(folder),
        "seed": seed,
        "sparsity": 1 - (nonzero - biases) / kernels,
    }
    print(f"{name}: {job['sparsity']:.2%} of the kernels' weights are to be zero", flush=True)
    environment = os.environ | {"TF_USE_LEGACY_KERAS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(
        [sys.executable, str(_WORKER), json.dumps(job)], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise MagnitudeError(f"tfmot failed on {name}: {done.stdout[-2000:]}")
    _finish(name, model, test, folder)
    given.unlink()


def _finish(name: str, model: keras.Model, test: Digits, folder: Path) -> None:
    """Puts the pruned weights into the Keras 3 model, which our exporter takes, and writes down what came out."""
    with np.load(folder / f"{name}.npz") as pruned:
        model.set_weights([pruned[f"weights_{number}"] for number in range(len(model.get_weights()))])
        theirs = scores(pruned["logits"], test.all()[1])
    model.save(folder / f"{name}.keras")
    ours = tested(model, test)
    if abs(ours["nats"] - theirs["nats"]) > 1e-3:
        raise MagnitudeError(f"{name}: tf_keras gives {theirs}, Keras 3 gives {ours} with the same weights")
    nonzero = sum(int(np.count_nonzero(value)) for value in model.get_weights())
    write_json(folder / f"{name}.json", {**ours, "nonzero": nonzero})
