"""Training: seeded, with a curve on disk, and resumable after any epoch."""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import keras
from runs import Epoch, write_json

import keras_iss
from squad_bidaf.batches import Batches


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How a model is trained.

    Attributes:
        epochs: Of `steps` batches each.
        steps: Batches per epoch.
        learning_rate: Adam's highest; it rises over the first `warmup_steps` and falls to 0 along a cosine.
        clipnorm: Largest norm of the gradient of all weights together.
        watch_every: Epochs between two answerings of the held-out questions.
    """

    epochs: int
    steps: int
    learning_rate: float
    warmup_steps: int = 200
    clipnorm: float = 5.0
    watch_every: int = 1


def compile_model(model: keras.Model, recipe: Recipe) -> None:
    """The sum of both pointers' cross-entropies, and Adam with its rate planned over the whole training."""
    total = recipe.epochs * recipe.steps
    warmup = min(recipe.warmup_steps, total // 2)
    rate = keras.optimizers.schedules.CosineDecay(
        recipe.learning_rate / 100,
        total - warmup,
        alpha=0.0,
        warmup_target=recipe.learning_rate,
        warmup_steps=warmup,
    )
    model.compile(
        keras.optimizers.Adam(rate, global_clipnorm=recipe.clipnorm),
        {name: keras.losses.SparseCategoricalCrossentropy(from_logits=True) for name in ("start", "end")},
        jit_compile=keras.backend.backend() == "jax",
    )


class Curve(keras.callbacks.Callback):
    """What was seen after each epoch, in a JSON file that a resumed training goes on with.

    Args:
        path: The file.
        watch: Answers the held-out questions and gives their scores; None: nothing is watched.
        every: Epochs between two such rows; the last epoch always has one.
    """

    def __init__(self, path: Path, watch: Callable[[], Mapping[str, float]] | None, every: int):
        super().__init__()
        self.path, self.watch, self.every = path, watch, every
        self.rows = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []

    def on_epoch_begin(self, epoch, logs=None):
        self.started = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        row = {"epoch": epoch + 1, "seconds": round(time.perf_counter() - self.started, 1)}
        row |= {name: float(value) for name, value in (logs or {}).items()}
        last = epoch + 1 == self.params["epochs"]
        if self.watch is not None and (last or (epoch + 1) % self.every == 0):
            found = self.watch()
            row |= {f"held_out_{name}": value for name, value in found.items()}
            print(f"  held-out questions: EM {found['em']:.1f}, F1 {found['f1']:.1f}", flush=True)
        self.rows = [*(r for r in self.rows if r["epoch"] <= epoch), row]
        write_json(self.path, self.rows)


def train(
    model: keras.Model,
    batches: Batches,
    recipe: Recipe,
    folder: Path,
    *,
    watch: Callable[[], Mapping[str, float]] | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> list[dict]:
    """Trains a compiled model, or goes on where a training in the same folder ended.

    Args:
        model: From `model.build`, after `compile_model`.
        batches: To train on.
        recipe: The same as before when a training is resumed.
        folder: For the curve and, while training lasts, the state after the last whole epoch.
        watch: See `Curve`.
        callbacks: What prunes.

    Returns:
        The curve: a dictionary per epoch.
    """
    folder.mkdir(parents=True, exist_ok=True)
    curve = Curve(folder / "curve.json", watch, recipe.watch_every)
    model.fit(
        batches,
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
