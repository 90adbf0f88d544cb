"""Training with CTC: seeded, with a curve on disk, and resumable after any epoch."""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import keras
from runs import Epoch, write_json

import keras_iss
from an4_speech import decode
from an4_speech.batches import Augmentation, Batches


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How a model is trained.

    Attributes:
        epochs: Passes through the training set.
        batch_size: Utterances per step.
        learning_rate: Adam's highest; it rises over `warmup_epochs` and falls to 0 along a cosine.
        clipnorm: Largest norm of the gradient of all weights together.
        weight_decay: What a step takes from the kernels, as a share of them and of its rate.
        listen_every: Epochs between two error rates in the curve.
        multiple: Steps are padded to a multiple of this.
        augmentation: How utterances are changed.
    """

    epochs: int = 100
    batch_size: int = 16
    learning_rate: float = 2e-3
    warmup_epochs: int = 2
    clipnorm: float = 20.0
    weight_decay: float = 0.0
    listen_every: int = 5
    multiple: int = 32
    augmentation: Augmentation = dataclasses.field(default_factory=Augmentation)


def compile_model(model: keras.Model, recipe: Recipe, steps_per_epoch: int) -> None:
    """CTC loss and Adam; the rate is planned over the whole training."""
    warmup = min(recipe.warmup_epochs * steps_per_epoch, recipe.epochs * steps_per_epoch // 2)
    rate = keras.optimizers.schedules.CosineDecay(
        recipe.learning_rate / 100,
        recipe.epochs * steps_per_epoch - warmup,
        alpha=0.0,
        warmup_target=recipe.learning_rate,
        warmup_steps=warmup,
    )
    decay = recipe.weight_decay or None
    optimizer = keras.optimizers.Adam(rate, global_clipnorm=recipe.clipnorm, weight_decay=decay)
    if decay:
        optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    model.compile(optimizer, keras.losses.CTC(), jit_compile=keras.backend.backend() == "jax")


class Curve(keras.callbacks.Callback):
    """What was seen after each epoch, in a JSON file that a resumed training goes on with.

    Args:
        path: The file.
        heard: Batches to measure error rates on, every `every` epochs and after the last; None: none.
        every: Epochs between two measurements.
    """

    def __init__(self, path: Path, heard: Batches | None, every: int):
        super().__init__()
        self.path, self.heard, self.every = path, heard, every
        self.rows = json.loads(path.read_text()) if path.is_file() else []

    def on_epoch_begin(self, epoch, logs=None):
        self.started = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        row = {"epoch": epoch + 1, "seconds": round(time.perf_counter() - self.started, 1)}
        row |= {name: float(value) for name, value in (logs or {}).items()}
        last = epoch + 1 == self.params["epochs"]
        if self.heard is not None and (last or (epoch + 1) % self.every == 0):
            found = decode.rates(self.heard.features.texts, decode.hear(self.model, self.heard))
            row |= found
            print(f"  words wrong {found['wer']:.1%}, characters {found['cer']:.1%}", flush=True)
        self.rows = [*(r for r in self.rows if r["epoch"] <= epoch), row]
        write_json(self.path, self.rows)


def train(
    model: keras.Model,
    batches: Batches,
    recipe: Recipe,
    folder: Path,
    *,
    heard: Batches | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> list[dict]:
    """Trains a compiled model, or goes on where a training in the same folder ended.

    Args:
        model: From `model.build`, after `compile_model`.
        batches: Of the training set.
        recipe: The same as before when a training is resumed.
        folder: For the curve and, while training lasts, the state after the last whole epoch.
        heard: What error rates in the curve are measured on.
        callbacks: What prunes.

    Returns:
        The curve: a dictionary per epoch.
    """
    folder.mkdir(parents=True, exist_ok=True)
    curve = Curve(folder / "curve.json", heard, recipe.listen_every)
    model.fit(
        batches.for_fit(),
        epochs=recipe.epochs,
        shuffle=False,
        verbose=1 if sys.stdout.isatty() else 2,
        callbacks=[
            Epoch(batches),
            *callbacks,
            curve,
            keras_iss.callbacks.Backup(folder / "backup"),
        ],
    )
    return curve.rows
