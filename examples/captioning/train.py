"""Training: seeded, judged on the dev set after every epoch, with a curve on disk, and resumable after any epoch."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import keras
from runs import Epoch, write_json

import keras_iss
from captioning import tell
from captioning.batches import Batches
from captioning.data import LOOK, Images, Vocabulary
from captioning.model import writer
from captioning.scoring import Scorer

MONITOR = "dev_cider"
CURVE = "curve.json"


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How a model is trained.

    Attributes:
        epochs: Passes through the training captions.
        batch_size: Captions per step.
        learning_rate: Adam's at first; it falls to 0 along a cosine.
        clipnorm: Largest norm of the gradient of all weights together.
        threshold: Words that are rarer in the training captions aren't learned.
    """

    epochs: int = 15
    batch_size: int = 128
    learning_rate: float = 2e-3
    clipnorm: float = 5.0
    threshold: int = 5


def compile_model(model: keras.Model, recipe: Recipe, steps_per_epoch: int) -> None:
    """Cross-entropy per word and Adam; the rate is planned over the whole training."""
    rate = keras.optimizers.schedules.CosineDecay(recipe.learning_rate, recipe.epochs * steps_per_epoch)
    optimizer = keras.optimizers.Adam(rate, global_clipnorm=recipe.clipnorm)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=LOOK)
    model.compile(optimizer, loss, jit_compile=keras.backend.backend() == "jax")


class Judge(keras.callbacks.Callback):
    """Adds the CIDEr of greedy captions of the dev set to the epoch's logs, for the callbacks after it."""

    def __init__(self, dev: Images, vocabulary: Vocabulary):
        super().__init__()
        self.dev, self.vocabulary = dev, vocabulary
        self.scorer = Scorer(dev.captions)

    def on_train_begin(self, logs=None):
        self.teller = tell.KerasTeller(writer(self.model))

    def on_epoch_end(self, epoch, logs=None):
        told = tell.captions(self.teller, self.dev.features, self.vocabulary)
        logs[MONITOR] = self.scorer.cider(told)


class Curve(keras.callbacks.Callback):
    """What was seen after each epoch, in a JSON file that a resumed training goes on with."""

    def __init__(self, path: Path):
        super().__init__()
        self.path = path
        self.rows = json.loads(path.read_text()) if path.is_file() else []

    def on_epoch_begin(self, epoch, logs=None):
        self.started = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        row = {"epoch": epoch + 1, "seconds": round(time.perf_counter() - self.started, 1)}
        row |= {name: float(value) for name, value in (logs or {}).items()}
        self.rows = [*self.before(epoch), row]
        write_json(self.path, self.rows)

    def before(self, epoch: int) -> list[dict]:
        """The rows of the epochs before one."""
        return [row for row in self.rows if row["epoch"] <= epoch]


class KeepBest(keras.callbacks.Callback):
    """Gives the model the weights of its best epoch when training ends, also of one before an interruption."""

    def __init__(self, path: Path, curve: Curve):
        super().__init__()
        self.path, self.curve = path, curve

    def on_epoch_end(self, epoch, logs=None):
        if logs[MONITOR] > max((row[MONITOR] for row in self.curve.before(epoch)), default=-1.0):
            beside = self.path.with_name(f"{os.getpid()}-{self.path.name}")
            self.model.save_weights(beside)
            os.replace(beside, self.path)

    def on_train_end(self, logs=None):
        self.model.load_weights(self.path)


def train(
    model: keras.Model,
    batches: Batches,
    dev: Images,
    vocabulary: Vocabulary,
    recipe: Recipe,
    folder: Path,
    *,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    keep_best: bool = True,
) -> list[dict]:
    """Trains a compiled model, or goes on where a training in the same folder ended.

    Args:
        model: From `model.build`, or a `model.Taught`, after `compile_model`.
        batches: Of the training captions.
        dev: What epochs are judged by.
        vocabulary: Numbers the words.
        recipe: The same as before when a training is resumed.
        folder: For the curve and, while training lasts, the state after the last whole epoch.
        callbacks: What prunes.
        keep_best: Whether to end with the best epoch's weights; `GrowAndPrune` does so by itself.

    Returns:
        The curve: a dictionary per epoch.
    """
    folder.mkdir(parents=True, exist_ok=True)
    curve = Curve(folder / CURVE)
    model.fit(
        batches.for_fit(),
        validation_data=Batches(dev, vocabulary, recipe.batch_size).for_fit(),
        epochs=recipe.epochs,
        shuffle=False,
        verbose=1 if sys.stdout.isatty() else 2,
        callbacks=[
            Epoch(batches),
            Judge(dev, vocabulary),
            *callbacks,
            *([KeepBest(folder / "best.weights.h5", curve)] if keep_best else []),
            curve,
            keras_iss.callbacks.Backup(folder / "backup"),
        ],
    )
    return curve.rows
