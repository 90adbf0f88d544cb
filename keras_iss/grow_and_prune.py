"""`GrowAndPrune`: trains a sparse network that grows connections where the gradient asks for them, then prunes it."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_iss import growth
from keras_iss.checks import choice, count, fraction, not_negative
from keras_iss.introspection import learner
from keras_iss.masking import names_in_file, read_masks, write_masks
from keras_iss.network import Network
from keras_iss.rounds import Rounds, Schedule, plan_ratio, plan_schedule
from keras_iss.selection import select_parts
from keras_iss.snapshots import healthy, put_back, snapshot, stop
from keras_iss.structures import to_numpy
from keras_iss.tracing import trace
from keras_iss.wrapping import check_in_use, wrap_masked

MODES = ("auto", "min", "max")
_HIGHER_IS_BETTER = ("acc", "auc", "f1", "fbeta", "precision", "recall", "iou", "bleu", "r2", "cosine")


@dataclasses.dataclass
class _Progress:
    """Where a training is; kept in the optimizer, so that an interrupted one goes on from there."""

    start: int  # the training's epoch in which the callback began; the others count from it
    judged: int = -1  # the last epoch that was judged
    begun: int = 0  # rounds
    undone: int = 0  # rounds
    reference: float = math.nan  # the best `monitor` of all models kept
    connections: float = math.inf  # of the best model
    monitor: float = math.nan  # of the best model

    def array(self) -> np.ndarray:
        return np.array(dataclasses.astuple(self), "float64")

    @classmethod
    def of(cls, array: np.ndarray) -> _Progress:
        return cls(*(int(number) for number in array[:4]), *(float(number) for number in array[4:]))


class GrowAndPrune(keras.callbacks.Callback):
    r"""Trains a sparse network: a random seed that grows where the gradient is largest, then is pruned in rounds.

    When training begins, a fraction `seed_sparsity` of the connections of each weight is made dormant at random: 0, and
    0 after every step. In each of the first `growth_epochs` epochs a window averages the gradient that the dormant
    connections would have, ∂L/∂w, over `growth_batches` batches, inside the compiled step. When the epoch ends, the
    `growth_ratio` of them with the largest |mean gradient| are activated, starting at -learning rate · mean gradient.
    Then come rounds: the smallest |w| of those alive become dormant, and what is left is trained again. A round in which
    no epoch's `monitor` comes within `tolerance` of the best so far is undone: weights, masks and the optimizer's state
    go back to the best epoch before it, and the ratio is halved. When training ends, the model has the fewest
    connections of those within `tolerance`, at the epoch where it was best.

    Dormant connections get no gradient, so they take no part in clipping, momentum or moving averages. The model's
    optimizer is wrapped in a `SparseOptimizer` and stays wrapped: after `fit` the masks go on holding, and `model.save`
    keeps them. It may follow `ISSPruning` (units removed stay removed) or come before it. A training resumed by
    `BackupAndRestore` (put it after this callback in the list) or from a model saved in mid-training with
    `initial_epoch` goes on where it was, also in the middle of a round; for that, saved states hold the best model,
    too, while rounds last. If the loss or a weight becomes NaN, training stops with the state of the last good epoch.

    In the `fit` of a subclassed model it works on the model in it that is trained, as `ISSPruning` does.

    Epoch logs gain `gp_connections` (fraction alive), `gp_macs` (multiply-adds per time step, those of dormant
    connections left out) and `gp_round` (rounds begun).

    Args:
        seed_sparsity: Fraction of the connections that are dormant at first, between 0 and 1; no row or column of a
            weight is dormant whole. A model that has dormant connections already keeps just those.
        growth_ratio: Fraction of the dormant connections that a window activates, between 0 and 1.
        pruning: Fraction of the living connections that a round prunes, between 0 and 1; or a `PruningSchedule` of
            tfmot: sparsities by batch, counted from the first round, looked up before each epoch of the pruning phase.
            After a round that is undone a schedule isn't followed any further.
        growth_epochs: Epochs with a growth window, at least 1.
        prune_epochs: Epochs of the pruning phase, after those of growth. What is left of the training then trains on.
        monitor: Name in the epoch logs by which models are compared, such as "val_loss".
        tolerance: How much worse than the best `monitor` a kept model may be, in its own units, at least 0.
        granularity: What grows and is pruned as a whole: "weight" (a connection); "block" (16 inputs of one output,
            the 1 x 16 blocks of LiteRT's sparse format); "row" (everything that reads a hidden unit) or "column"
            (everything that writes it, its bias included), which `keras_iss.strip` then removes.
        layers: Names of layers to mask; None: all recurrent and Dense ones. Biases and embeddings are never masked,
            but for a unit's bias by "column".
        rounds: Number of rounds, over which prune_epochs is divided; None: one per epoch, after an epoch of training
            what grew last.
        growth_batches: The last so many batches of an epoch are averaged; None: the whole epoch.
        scope: "layer": ratios hold for each weight (structure, by "row" and "column"); "global": for all together.
        mode: "min", "max" or "auto": whether less of `monitor` is better; "auto" goes by its name.
        seed: Of the random seed network.
        masks: A file that `save_masks` wrote, to start from instead of a random seed.
        log_dir: Folder for a picture of the masks after each round (needs matplotlib).
        verbose: 0 for no line of log after each window and round.

    Raises:
        ValueError: If an argument is out of its range; when training begins, if a layer is unknown, the phases don't
            fit into the epochs, a schedule doesn't end within them, or the mask file is of another model; after the
            first epoch, if `monitor` is not in the logs.
        ImportError: If `log_dir` is given and matplotlib is missing.

    Example:

    >>> import keras, numpy as np
    >>> model = keras.Sequential([keras.Input((5, 4)), keras.layers.LSTM(8), keras.layers.Dense(1)])
    >>> model.compile("adam", "mse")
    >>> callback = GrowAndPrune(0.5, growth_ratio=0.5, pruning=0.4, growth_epochs=1, prune_epochs=2, monitor="loss",
    ...                         tolerance=1.0, layers=["lstm"], verbose=0)
    >>> data = np.random.rand(32, 5, 4), np.random.rand(32, 1)
    >>> history = model.fit(*data, epochs=3, verbose=0, callbacks=[callback]).history
    >>> [round(float(alive), 2) for alive in history["gp_connections"]]
    [0.75, 0.75, 0.45]

    Source: Dai, Yin, Jha, arXiv 1805.11797, after NeST (Dai et al., arXiv 1711.02017). Undoing rounds by a tolerance,
    halving the ratio and blocks are this project's own.
    """

    def __init__(
        self,
        seed_sparsity: float = 0.5,
        *,
        growth_ratio: float,
        pruning: float | Schedule,
        growth_epochs: int,
        prune_epochs: int,
        monitor: str,
        tolerance: float,
        granularity: str = "weight",
        layers: Iterable[str] | None = None,
        rounds: int | None = None,
        growth_batches: int | None = None,
        scope: str = "layer",
        mode: str = "auto",
        seed: int = 0,
        masks: str | os.PathLike[str] | None = None,
        log_dir: str | os.PathLike[str] | None = None,
        verbose: int = 1,
    ):
        super().__init__()
        self.seed_sparsity = fraction("seed_sparsity", seed_sparsity)
        self.growth_ratio = fraction("growth_ratio", growth_ratio)
        self.schedule = pruning if callable(pruning) else None
        self.ratio = 0.0 if callable(pruning) else fraction("pruning", pruning)
        self.growth_epochs = count("growth_epochs", growth_epochs)
        self.prune_epochs = count("prune_epochs", prune_epochs)
        self.rounds = None if rounds is None else count("rounds", rounds)
        self.growth_batches = None if growth_batches is None else count("growth_batches", growth_batches)
        self.tolerance = not_negative("tolerance", tolerance)
        if not isinstance(monitor, str) or not monitor:
            raise ValueError(
                "Invalid value for argument `monitor`. Expected a name in the epoch logs, such as 'val_loss'. "
                f"Received: monitor={monitor!r}"
            )
        self.monitor = monitor
        self.granularity = choice("granularity", granularity, growth.GRANULARITIES)
        self.scope = choice("scope", scope, growth.SCOPES)
        self.mode = choice("mode", mode, MODES)
        self.layers = (layers,) if isinstance(layers, str) else None if layers is None else tuple(layers)
        self.seed, self.masks, self.verbose = seed, masks, verbose
        self.log_dir = None if log_dir is None else Path(log_dir)
        if log_dir is not None:
            from keras_iss import plots

            plots.check_installed()
        more = mode == "max" or (mode == "auto" and any(word in monitor for word in _HIGHER_IS_BETTER))
        self._sign = 1.0 if more else -1.0

    # Before training

    def set_model(self, model: keras.Model) -> None:
        """Wraps the model's optimizer. Here and not in `on_train_begin`, so that `BackupAndRestore` finds the state it
        saved."""
        super().set_model(model)
        traced = trace(learner(model))
        variables = model.trainable_variables
        parts = select_parts(traced, variables, self.granularity, self.layers)
        self.optimizer = wrap_masked(model, parts.shapes)
        self._network = Network(self.optimizer, parts, traced, variables)
        model.make_train_function(force=True)

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        check_in_use(self.model, self.optimizer)
        self._progress: Any = None  # a _Progress, once training begins
        self._plan: Any = None  # Rounds
        self._failed = False
        self._batches = (self.params or {}).get("steps")
        if self.log_dir is not None:
            self.log_dir.mkdir(parents=True, exist_ok=True)

    # Epoch by epoch

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        if self._progress is None:
            self._begin(epoch)
        index = epoch - self._progress.start
        if (
            self._progress.judged < index - 1
        ):  # resumed from a backup that was written before this callback's turn
            self._judge(index - 1, None)
        current = self._plan.round_at(index)
        if current is not None and self._progress.begun <= current:
            self._prune(current)
        grows = index < self._plan.growth
        if grows:
            self.optimizer.masks.open((self._batches or 0) - (self.growth_batches or self._batches or 0))
        self._collect(grows)
        self._note()

    def _begin(self, epoch: int) -> None:
        """Makes the seed network and plans, or goes on with an interrupted training."""
        noted = self.optimizer.notes.arrays.get("progress")
        before = None if noted is None else _Progress.of(noted)
        resumed = before is not None and before.start < epoch
        progress = before if resumed else _Progress(start=epoch)
        self._plan = self._rounds(int(self.params["epochs"]) - progress.start)
        if not resumed:
            self._seed()
            self.optimizer.notes.arrays = {}
        self._progress = progress
        self._good = snapshot(self.model)

    def _rounds(self, epochs: int) -> Rounds:
        if self._batches is not None and (self.growth_batches or 0) > self._batches:
            raise ValueError(
                f"There is no growth window before the end of an epoch: growth_batches={self.growth_batches}, and an "
                f"epoch has {self._batches} batches. Expected at most as many. Lower growth_batches."
            )
        if self.schedule is not None:
            return plan_schedule(self.schedule, epochs, self.growth_epochs, self.prune_epochs, self._batches)
        return plan_ratio(epochs, self.growth_epochs, self.prune_epochs, self.rounds)

    def _seed(self) -> None:
        network, available = self._network, self._network.available()
        if self.masks is not None:
            names = names_in_file(network.parts.shapes, learner(self.model).name)
            read = read_masks(
                self.masks, {names[path]: shape for path, shape in network.parts.shapes.items()}
            )
            masks = {path: read[name] for path, name in names.items()}
            living = {name: alive & available[name] for name, alive in network.parts.living(masks).items()}
        elif network.is_seeded():
            living = network.living()
        else:
            living = growth.seed(available, self.seed_sparsity, np.random.default_rng(self.seed))
        network.wake(living)

    def _collect(self, grows: bool) -> None:
        """Compiles the step with or without the sum of gradients, whichever it isn't now."""
        if self.optimizer.masks.collecting != grows:
            self.optimizer.masks.collecting = grows
            self.model.make_train_function(force=True)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        logs = {} if logs is None else logs
        if not healthy(logs, map(to_numpy, self.model.trainable_variables)):
            stop(self.model, epoch, self._good, "the learning rate")
            self._failed = True
        else:
            if self.monitor not in logs:
                raise ValueError(
                    f"The epoch logs have no {self.monitor!r}, by which GrowAndPrune compares models. Expected one of "
                    f"{sorted(logs)}. Choose `monitor` among them; for 'val_...' give fit `validation_data`, and "
                    "validate after every epoch."
                )
            if self._batches is None:
                self._batches = self.optimizer.masks.batches_seen() or None
            self._judge(epoch - self._progress.start, float(logs[self.monitor]))
            self._good = snapshot(self.model)
            self._note()
        logs["gp_connections"] = self._network.alive() / self._network.size()
        logs["gp_macs"] = self._network.macs()
        logs["gp_round"] = self._progress.begun

    def on_train_end(self, logs: Mapping[str, Any] | None = None) -> None:
        """Puts the best model within tolerance back."""
        if self._progress is None:
            return
        best = self._best()
        if best is not None and not self._failed:
            self._put_back(best)
        self.optimizer.notes.arrays = {}
        self._good = []
        self._collect(False)

    # Decisions

    def _judge(self, index: int, value: float | None) -> None:
        """What follows when an epoch is over: growth, the best model so far, the end of a round."""
        if index < self._plan.growth:
            self._grow(index, value)
        if index + 1 >= self._plan.starts[0]:
            if value is not None:
                self._consider(value)
            if self._plan.ends_with(index):
                self._end_round(index, value)
        self._progress.judged = index

    def _grow(self, index: int, value: float | None) -> None:
        network, means = self._network, self.optimizer.masks.mean_gradients()
        if means is not None:
            scores = network.parts.scores(means)
            living = growth.grow(network.living(), network.available(), scores, self.growth_ratio, self.scope)
            rate = float(to_numpy(self.optimizer.learning_rate))
            network.wake(living, {path: -rate * mean for path, mean in means.items()})
        self._say(f"growth {index + 1} of {self._plan.growth}", value)

    def _prune(self, number: int) -> None:
        self._progress.begun = number + 1
        living, sizes = self._network.living(), self._network.sizes()
        if self._plan.sparsities is None:
            ratio = self.ratio * 0.5**self._progress.undone
            self._network.wake(growth.prune(living, sizes, ratio, self.scope))
        elif not self._progress.undone:
            self._network.wake(growth.prune_to(living, sizes, self._plan.sparsities[number], self.scope))

    def _consider(self, value: float) -> None:
        """Keeps the model if it is the best: within tolerance, the fewest connections, then the best `monitor`."""
        progress = self._progress
        if math.isnan(progress.reference):
            progress.reference = value
        if not self._sign * (progress.reference - value) <= self.tolerance:
            return
        progress.reference = max(progress.reference, value, key=lambda v: self._sign * v)
        connections = self._network.alive()
        better = connections == progress.connections and self._sign * (value - progress.monitor) > 0
        if connections < progress.connections or better:
            progress.connections, progress.monitor = connections, value
            self.optimizer.notes.arrays = {
                f"best_{i:04d}": array for i, array in enumerate(snapshot(self.model))
            }

    def _end_round(self, index: int, value: float | None) -> None:
        number = self._plan.round_at(index) + 1
        verdict = "kept"
        best = self._best()
        if (
            best is not None and self._network.alive() < self._progress.connections
        ):  # no epoch of the round was within tolerance
            verdict = f"undone, more than {self.tolerance:g} worse than {self._progress.reference:.4g}"
            self._put_back(best)
            self._progress.undone += 1
        self._say(f"round {number} of {len(self._plan.starts)} {verdict}", value)
        if self.log_dir is not None:
            from keras_iss import plots

            pictures = {path: mask for path, mask in self._network.masks().items() if mask.ndim >= 2}
            plots.save(plots.sparsity_figure(pictures), self.log_dir / f"round_{number:02d}.png")

    # The masks

    def save_masks(self, path: str | os.PathLike[str]) -> None:
        """Writes the masks of the model's weights to an .npz file, for the argument `masks` of another training.

        Args:
            path: Where to.

        Raises:
            FileNotFoundError: If its folder doesn't exist.
        """
        names = names_in_file(self._network.parts.shapes, learner(self.model).name)
        write_masks(path, {names[place]: mask for place, mask in self._network.masks().items()})

    # State and log

    def _best(self) -> list[np.ndarray] | None:
        notes = self.optimizer.notes.arrays
        return [notes[name] for name in sorted(notes) if name.startswith("best_")] or None

    def _put_back(self, values: list[np.ndarray]) -> None:
        """All but the learning rate, which other callbacks may have lowered since."""
        put_back(self.model, values, leave=self.optimizer.learning_rate)

    def _note(self) -> None:
        self.optimizer.notes.arrays["progress"] = self._progress.array()

    def _say(self, what: str, value: float | None) -> None:
        if self.verbose:
            alive, size = self._network.alive(), self._network.size()
            measured = "not measured" if value is None else f"{value:.4g}"
            print(
                f"GrowAndPrune: {what}: {100 * alive / size:.1f} % of the connections alive ({alive:,} of {size:,}), "
                f"{self._network.macs():,} multiply-adds per time step, {self.monitor} {measured}",
                flush=True,
            )
