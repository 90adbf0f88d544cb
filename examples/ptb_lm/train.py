"""Training: seeded, with the published schedules, a curve on disk, and resumable after any epoch."""

from __future__ import annotations

import dataclasses
import json
import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np
from runs import write_json

import keras_iss
from ptb_lm import data
from ptb_lm.model import reset
from ptb_lm.perplexity import Scorer


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How a model is trained: by stochastic gradient descent, the rate constant at first, then falling by epoch.

    The published rates and clips are against the loss summed over the steps of a sequence. Keras's loss is the mean, so
    that `rate` is the published one times `steps`, `clip` the published one over `steps`.

    Attributes:
        epochs: Passes through the training set.
        constant: Epochs at the full rate.
        rate: Learning rate.
        decay: What the rate is multiplied with in each epoch after those.
        clip: Largest norm of the gradient of all weights together.
        batch, steps: Sequences per step, and words per sequence.
        weight_decay: Share of every weight that is taken away per step, times the rate.
    """

    epochs: int = 13
    constant: int = 4
    rate: float = 20.0
    decay: float = 0.5
    clip: float = 0.25
    batch: int = 20
    steps: int = 20
    weight_decay: float = 0.0

    def rate_in(self, epoch: int) -> float:
        """The rate in an epoch, counted from 0."""
        return self.rate * self.decay ** max(epoch + 1 - self.constant, 0)


def compile_model(model: keras.Model, recipe: Recipe) -> None:
    """Cross entropy in nats per word, and SGD with the gradient clipped by its global norm."""
    model.compile(
        keras.optimizers.SGD(
            recipe.rate, global_clipnorm=recipe.clip, weight_decay=recipe.weight_decay or None
        ),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=keras.backend.backend() == "jax",
    )


class Epoch(keras.callbacks.Callback):
    """Sets what an epoch starts with, by its number alone, so that a resumed training is the uninterrupted one."""

    def __init__(self, recipe: Recipe, seed: int):
        super().__init__()
        self.recipe, self.seed = recipe, seed

    def on_epoch_begin(self, epoch, logs=None):
        reset(self.model)
        self.model.optimizer.learning_rate = self.recipe.rate_in(epoch)
        dropouts = [v for v in self.model.variables if v.path.endswith("seed_generator_state")]
        for number, variable in enumerate(dropouts):  # a seed and a count of draws, neither of which is saved
            variable.assign([1000 * self.seed + number, epoch << 16])


class Curve(keras.callbacks.Callback):
    """Perplexities after each epoch, in a JSON file that a resumed training goes on with.

    Args:
        path: The file.
        scorer: Of the validation set.
    """

    def __init__(self, path: Path, scorer: Scorer):
        super().__init__()
        self.path, self.scorer = path, scorer
        self.rows = json.loads(path.read_text()) if path.is_file() else []

    def on_epoch_begin(self, epoch, logs=None):
        self.started = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        seconds = time.perf_counter() - self.started
        found = {key: float(value) for key, value in (logs or {}).items()}
        row = {
            "epoch": epoch + 1,
            "seconds": round(seconds, 1),
            "rate": float(self.model.optimizer.learning_rate),
            "train": math.exp(found.pop("loss")),
            "valid": self.scorer(self.model),
            **found,
        }
        self.rows = [*(r for r in self.rows if r["epoch"] <= epoch), row]
        write_json(self.path, self.rows)
        print(f"  perplexity: {row['train']:.2f} training, {row['valid']:.2f} validation", flush=True)


def fit(
    model: keras.Model,
    ids: np.ndarray,
    scorer: Scorer,
    recipe: Recipe,
    seed: int,
    folder: Path,
    epochs: range,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> list[dict]:
    """Trains a compiled stateful model, or goes on where a training in the same folder ended.

    Args:
        model: From `model.build`, after `compile_model`.
        ids: The training text.
        scorer: Of the validation text.
        recipe, seed: The same as before when a training is resumed.
        folder: For the curve and the state after the last whole epoch.
        epochs: Which of the recipe's.
        callbacks: What prunes.

    Returns:
        The curve: a dictionary per epoch.
    """
    folder.mkdir(parents=True, exist_ok=True)
    curve = Curve(folder / "curve.json", scorer)
    x, y = data.streams(ids, recipe.batch, recipe.steps)
    backup = keras_iss.callbacks.Backup(folder / f"backup-{epochs.start}", keep=True)
    model.fit(
        x,
        y,
        recipe.batch,
        epochs=epochs.stop,
        initial_epoch=epochs.start,
        shuffle=False,
        verbose=1 if sys.stdout.isatty() else 2,
        callbacks=[Epoch(recipe, seed), *callbacks, curve, backup],
    )
    return curve.rows
