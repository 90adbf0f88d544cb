"""The demo's two trainings: one beginning, then dense to the end, and the same with units removed on the way."""

from __future__ import annotations

import copy
import dataclasses
import math
import sys
import tempfile
import time
from pathlib import Path

import keras
import numpy as np

import keras_iss
from keras_iss.demo.data import Corpus

BITS = 1 / math.log(2)  # a loss in nats times this is in bits


@dataclasses.dataclass(frozen=True)
class Plan:
    """How large, how long.

    Attributes:
        units: Hidden units of each of the two LSTM layers.
        embedding: Numbers per character.
        warmup, ramp, finetune: Epochs of each phase; the dense model trains for as many in all. Nothing is pruned in
            the warm-up, so both trainings share it.
        batch_size: Windows per step.
        learning_rate: The first one; it falls to 0 along a cosine in both trainings.
        windows, validation_windows: At most so many of each; None for all.
        runs: Timed calls per file.
    """

    units: int = 256
    embedding: int = 64
    warmup: int = 3
    ramp: int = 1
    finetune: int = 4
    batch_size: int = 32
    learning_rate: float = 0.01
    windows: int | None = None
    validation_windows: int | None = None
    runs: int = 200

    @property
    def epochs(self) -> int:
        """Epochs of each training."""
        return self.warmup + self.ramp + self.finetune


QUICK = Plan(
    units=64,
    embedding=32,
    warmup=1,
    ramp=1,
    finetune=1,
    batch_size=16,
    windows=800,
    validation_windows=160,
    runs=40,
)


def build(plan: Plan, characters: int) -> keras.Model:
    """Embedding, two LSTM layers, softmax: the next character's probabilities at every step."""
    # Keras starts embeddings within ±0.05, so small that the first epoch would do little else than enlarge them.
    normal = keras.initializers.RandomNormal(stddev=1.0)
    return keras.Sequential(
        [
            keras.Input((None,), dtype="int32", name="characters"),
            keras.layers.Embedding(characters, plan.embedding, embeddings_initializer=normal),
            keras.layers.LSTM(plan.units, return_sequences=True, name="lstm_1"),
            keras.layers.LSTM(plan.units, return_sequences=True, name="lstm_2"),
            keras.layers.Dense(characters, activation="softmax", name="probabilities"),
        ],
        name="characters",
    )


def compile_model(model: keras.Model, plan: Plan, corpus: Corpus) -> None:
    """The same optimizer, with the same falling rate, for both trainings."""
    steps = plan.epochs * math.ceil(len(corpus.x) / plan.batch_size)
    rate = keras.optimizers.schedules.CosineDecay(plan.learning_rate, steps)
    model.compile(keras.optimizers.Adam(rate, clipnorm=1.0), "sparse_categorical_crossentropy")


@dataclasses.dataclass
class Curve:
    """What was seen after each epoch: bits per character, seconds, and units alive by layer."""

    training_bits: list[float] = dataclasses.field(default_factory=list)
    validation_bits: list[float] = dataclasses.field(default_factory=list)
    seconds: list[float] = dataclasses.field(default_factory=list)
    units: list[dict[str, int]] = dataclasses.field(default_factory=list)
    removed: list[float] = dataclasses.field(default_factory=list)


def warm_up(model: keras.Model, plan: Plan, corpus: Corpus, seed: int) -> Curve:
    """Trains what both trainings begin with."""
    compile_model(model, plan, corpus)
    curve = Curve()
    _fit(model, plan, corpus, curve, "Both", seed, range(plan.warmup))
    return curve


def branch(model: keras.Model) -> keras.Model:
    """Another model in the same state, the optimizer's too, to be trained in another way from here."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.keras"
        model.save(path)
        return keras.models.load_model(path)


def train_dense(model: keras.Model, plan: Plan, corpus: Corpus, seed: int, warm: Curve) -> Curve:
    """Trains the whole model, after `warm_up`, to the end."""
    curve = copy.deepcopy(warm)
    _fit(model, plan, corpus, curve, "Dense", seed, range(plan.warmup, plan.epochs))
    return curve


@dataclasses.dataclass(frozen=True)
class Small:
    """What the pruned training gave.

    Attributes:
        model: The stripped model, fine-tuned.
        curve: Of both parts of the training.
        report: The model as it stood just before `strip`.
        kept: Layer -> for each of its units whether it stayed.
    """

    model: keras.Model
    curve: Curve
    report: keras_iss.Report
    kept: dict[str, list[bool]]


def train_small(
    model: keras.Model, plan: Plan, corpus: Corpus, seed: int, target: float, warm: Curve
) -> Small:
    """Trains with `ISSPruning`, after `warm_up`; strips after the ramp, and fine-tunes the small model."""
    curve = copy.deepcopy(warm)
    pruning = keras_iss.callbacks.ISSPruning(
        target=target, warmup_epochs=0, ramp_epochs=plan.ramp, finetune_epochs=0
    )
    pruned = plan.warmup + plan.ramp
    _fit(model, plan, corpus, curve, "Pruned", seed, range(plan.warmup, pruned), [pruning])
    traced = keras_iss.trace(model)
    kept = {
        s.name: [bool(norm > 0) for norm in traced.norms(s.name)]
        for s in traced.structures
        if s.kind == "hidden"
    }
    report = keras_iss.report(model)
    small = keras_iss.strip(model)
    _fit(small, plan, corpus, curve, "Small", seed, range(pruned, plan.epochs))
    return Small(small, curve, report, kept)


def _fit(
    model: keras.Model,
    plan: Plan,
    corpus: Corpus,
    curve: Curve,
    label: str,
    seed: int,
    epochs: range,
    callbacks: list[keras.callbacks.Callback] | None = None,
) -> None:
    keras.utils.set_random_seed(seed + epochs.start)
    model.fit(
        corpus.x,
        corpus.y,
        batch_size=plan.batch_size,
        initial_epoch=epochs.start,
        epochs=epochs.stop,
        validation_data=(corpus.validation_x, corpus.validation_y),
        validation_batch_size=4 * plan.batch_size,
        verbose=0,
        callbacks=[*(callbacks or ()), Progress(label, plan.epochs, curve)],
    )


class Progress(keras.callbacks.Callback):
    """A bar per epoch on a terminal, a line per epoch everywhere; fills in the curve."""

    def __init__(self, label: str, epochs: int, curve: Curve, width: int = 24):
        super().__init__()
        self.label, self.epochs, self.curve, self.width = label, epochs, curve, width

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        self.head = f"  {self.label:<7}epoch {epoch + 1} of {self.epochs}"
        self.started = self.shown = time.perf_counter()

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        now = time.perf_counter()
        if not sys.stdout.isatty() or now - self.shown < 0.5:
            return
        self.shown = now
        done = (batch + 1) / self.params["steps"]
        bar = "█" * round(done * self.width)
        left = (now - self.started) * (1 - done) / done
        print(f"\r{self.head}  {bar:░<{self.width}} {done:4.0%}  {left:3.0f} s left ", end="", flush=True)

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        logs = logs or {}
        curve = self.curve
        curve.seconds.append(time.perf_counter() - self.started)
        curve.training_bits.append(float(logs["loss"]) * BITS)
        curve.validation_bits.append(float(logs["val_loss"]) * BITS)
        found = keras_iss.report(self.model)
        curve.units.append({s.name: s.units - s.removable for s in found.structures if s.kind == "hidden"})
        curve.removed.append(1 - found.stripped["macs"] / found.macs)
        alive = " + ".join(str(n) for n in curve.units[-1].values())
        bits = f"{curve.validation_bits[-1]:.3f} bits per character on unseen text"
        clear = "\r\033[K" if sys.stdout.isatty() else ""
        print(f"{clear}{self.head}  {bits}, {alive} units, {curve.seconds[-1]:.0f} s", flush=True)


def bits_and_hits(probabilities: np.ndarray, following: np.ndarray) -> tuple[float, float]:
    r"""Bits per character, -mean log2 p(next), and the share of characters whose guess was right.

    Args:
        probabilities: Shape (windows, steps, characters).
        following: The characters that really came, shape (windows, steps).

    Returns:
        Both numbers.
    """
    right = np.take_along_axis(probabilities, following[..., None], -1)[..., 0]
    bits = -np.log2(np.maximum(right, 1e-9)).mean(dtype="float64")
    return float(bits), float((probabilities.argmax(-1) == following).mean())
