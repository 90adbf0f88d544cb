"""The network, its batches and its training: the same for every method."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import keras
import numpy as np
from runs import Epoch

import keras_iss
from frontier.features import MELS, STEPS, Digits


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What is trained and how long.

    Attributes:
        units: Of each of the two LSTM layers.
        start_epochs: Of the dense model that all methods start from.
        epochs: Of every point after it.
        batch_size: Digits per step.
        learning_rate: Adam's at first in the start's training; it falls to 0 along a cosine.
        fine_rate: The same in the training of every point.
        dropout: Share of the values dropped after each layer, in training.
        copies: Noisy copies of each recording; an epoch takes one of them.
        snr: Lowest and highest ratio of speech to noise, in dB.
        targets: Shares of the multiply-adds to remove.
        runs: Timed calls of each file.
    """

    units: int = 256
    start_epochs: int = 24
    epochs: int = 8
    batch_size: int = 64
    learning_rate: float = 2e-3
    fine_rate: float = 1e-3
    dropout: float = 0.3
    copies: int = 4
    snr: tuple[float, float] = (0.0, 10.0)
    targets: tuple[float, ...] = (0.5, 0.75, 0.9, 0.96)
    runs: int = 200


class Batches(keras.utils.PyDataset):
    """Batches of one epoch, in an order that its number and the seed decide on.

    Args:
        digits: The set.
        batch_size: Digits per batch; what is left over is another epoch's.
        seed: Of the order.
    """

    def __init__(self, digits: Digits, batch_size: int, seed: int):
        super().__init__()
        self.digits, self.batch_size, self.seed = digits, batch_size, seed
        self.begin(0)

    def begin(self, epoch: int) -> None:
        """Draws the order of an epoch."""
        self.copy = self.digits.x[epoch % len(self.digits.x)]
        self.order = np.random.default_rng([self.seed, epoch]).permutation(len(self.digits.y))

    def __len__(self) -> int:
        return len(self.order) // self.batch_size

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        chosen = self.order[index * self.batch_size : (index + 1) * self.batch_size]
        return self.copy[chosen], self.digits.y[chosen]


def build(recipe: Recipe) -> keras.Model:
    """From log_mel (batch, 32, 40) to logits (batch, 10)."""
    layers = [keras.Input((STEPS, MELS), name="log_mel")]
    for number in (1, 2):
        layers.append(keras.layers.LSTM(recipe.units, return_sequences=number == 1, name=f"lstm_{number}"))
        layers.append(keras.layers.Dropout(recipe.dropout, name=f"dropout_{number}"))
    return keras.Sequential([*layers, keras.layers.Dense(10, name="digit")], name="digits")


def compile_model(model: keras.Model, rate: float, steps: int) -> None:
    """Cross-entropy, and Adam with a rate that falls to 0 in so many steps."""
    model.compile(
        keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(rate, steps), global_clipnorm=1.0),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=keras.backend.backend() == "jax",
    )


def train(model: keras.Model, batches: Batches, epochs: int, callbacks: list) -> None:
    """Trains a compiled model; `callbacks` may resume it."""
    model.fit(
        batches,
        epochs=epochs,
        shuffle=False,
        verbose=1 if sys.stdout.isatty() else 2,
        callbacks=[Epoch(batches), *callbacks],
    )


def tested(model: keras.Model, test: Digits) -> dict[str, float]:
    """Share of the test set's digits that are misheard, and the cross-entropy in nats."""
    x, y = test.all()
    return scores(model.predict(x, batch_size=len(test.y), verbose=0), y)


def scores(logits: np.ndarray, y: np.ndarray) -> dict[str, float]:
    """The same of logits (digits, 10)."""
    logits = logits.astype("float64")
    highest = logits.max(1, keepdims=True)
    log_sum = np.log(np.exp(logits - highest).sum(1)) + highest[:, 0]
    nats = log_sum - logits[np.arange(len(y)), y]
    return {"misheard": float((logits.argmax(1) != y).mean()), "nats": float(nats.mean())}


def start(recipe: Recipe, training: Digits, seed: int, path: Path) -> None:
    """Trains the dense model that all methods start from, or goes on with it; its weights end up in a .keras file."""
    if path.is_file():
        return
    keras.utils.set_random_seed(seed)
    batches = Batches(training, recipe.batch_size, seed)
    model = build(recipe)
    compile_model(model, recipe.learning_rate, recipe.start_epochs * len(batches))
    train(model, batches, recipe.start_epochs, [keras_iss.callbacks.Backup(path.with_suffix(""), keep=True)])
    beside = path.with_name(f"unfinished-{path.name}")
    model.save(beside)
    beside.replace(path)
