"""Callbacks: learn which units can go while a model trains, and log it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_iss.backup import Backup
from keras_iss.checks import choice, fraction, not_negative
from keras_iss.cost import METRICS
from keras_iss.grow_and_prune import GrowAndPrune
from keras_iss.introspection import learner
from keras_iss.optimizers import METHODS
from keras_iss.pressing import FREE
from keras_iss.regularizers import check_strength, select, strengths_of
from keras_iss.schedules import (
    choose_units,
    cubic_goal,
    plan_strength,
    plan_target,
    ramped_strength,
    reach,
    relative_importance,
    removed_fraction,
)
from keras_iss.snapshots import healthy, snapshot, stop
from keras_iss.sparsity_logger import SparsityLogger
from keras_iss.tracing import trace
from keras_iss.wrapping import check_in_use, wrap

__all__ = ["Backup", "GrowAndPrune", "ISSPruning", "SparsityLogger"]

UNKNOWN_EPOCH_STEPS = 100  # how long units are pressed in a first epoch whose length nobody knows


class ISSPruning(keras.callbacks.Callback):
    r"""Learns, while a model trains, which hidden units can go; `keras_iss.strip` then removes them.

    Give one of `target` and `strength`. With `target` the callback chooses units, weakest first, in the ramp's epochs,
    and presses only on those: each is brought to 0 in a straight line; the others train freely. The fraction of
    `metric` removed reaches `target`, with as few units as do, when the ramp ends, and is held. With `strength` every unit is
    under group Lasso, λ Σ_k sqrt(Σ w² + 1e-8) against the loss as Keras computes it (a mean), and what λ makes of
    the model is what you get: method "proximal" shrinks each unit by learning rate times λ at every step, λ rising
    over the ramp; "subgradient" is the paper's recipe, constant λ, threshold at every step. In fine-tuning nothing
    presses and removed units stay exactly 0, biases included.

    The model's optimizer is wrapped in a `SparseOptimizer` when the callback meets the model, and stays wrapped: after
    `fit` the masks go on holding in later training, and `model.save` keeps them. Phases count from the epoch in
    which the callback starts; a training resumed by `BackupAndRestore`, or from a model saved in mid-training with
    `initial_epoch`, goes on where it was. If the loss or a weight becomes NaN, training stops with the weights of
    the last good epoch and a warning.

    In the `fit` of a subclassed model it prunes the Sequential or Functional model in it that holds all trained weights,
    such as the student of a `keras.distillation.Distiller`.

    Epoch logs gain `iss_units` (units alive in the structures pruned), `iss_removed` (fraction of `metric`) and
    `iss_strength` (the λ at work), for `History` and for callbacks that come later in the list. Callbacks that keep
    the best epoch (`EarlyStopping(restore_best_weights=True)`, `ModelCheckpoint(save_best_only=True)`) should start
    from the fine-tuning: earlier epochs hold more units.

    Args:
        strength: λ > 0: a number, or {structure name: number}.
        target: Fraction of `metric` to remove, between 0 and 1.
        metric: "macs" (the model's multiply-adds per time step), "recurrent_macs" (those of its recurrent layers alone),
            "parameters" or "units" (hidden units).
        method: "proximal" or "subgradient": how λ presses. With `target` there is no λ, and both do the same.
        structures: Names of structures to prune, as `keras_iss.trace` prints them; None: all hidden and gate ones
            (with a strength by name: those named).
        warmup_epochs, ramp_epochs, finetune_epochs: Length of the phases; those left None are chosen from the
            number of epochs: for a target a quarter, a quarter and half of them. `warmup_epochs=0` is for a model that is
            trained already: the ramp is then an eighth.
        threshold: Magnitude under which "subgradient" sets a weight to 0.
        log_dir: Folder for TensorBoard logs, see `SparsityLogger`.

    Raises:
        ValueError: If an argument is out of its range; when training begins, if a structure is unknown, pinned or
            frozen, if the target can't be reached, or if the phases don't fit into the epochs.

    Example:

    >>> import keras, numpy as np
    >>> model = keras.Sequential([keras.Input((5, 3)), keras.layers.LSTM(8), keras.layers.Dense(1)])
    >>> model.compile("adam", "mse")
    >>> x, y = np.random.rand(32, 5, 3), np.random.rand(32, 1)
    >>> history = model.fit(x, y, epochs=3, verbose=0, callbacks=[ISSPruning(target=0.5, metric="units")])
    >>> [int(units) for units in history.history["iss_units"]]
    [8, 4, 4]

    Source: Wen et al., ICLR 2018 (arXiv 1709.05027), section 3.2; pressing only on chosen units follows
    OTOv2 (Chen et al., arXiv 2303.06862).
    """

    def __init__(
        self,
        strength: float | Mapping[str, float] | None = None,
        *,
        target: float | None = None,
        metric: str = "macs",
        method: str = "proximal",
        structures: Iterable[str] | None = None,
        warmup_epochs: int | None = None,
        ramp_epochs: int | None = None,
        finetune_epochs: int | None = None,
        threshold: float = 1e-4,
        log_dir: str | None = None,
    ):
        super().__init__()
        if (strength is None) == (target is None):
            raise ValueError(
                "Expected exactly one of `strength` and `target`: with `target=0.6` the callback finds out how hard to "
                f"press. Received: strength={strength}, target={target}"
            )
        self.strength = None if strength is None else check_strength(strength)
        self.target = None if target is None else fraction("target", target)
        self.metric = choice("metric", metric, METRICS)
        self.method = choice("method", method, METHODS)
        self.structures = _names(structures)
        self.phase_epochs = {
            "warmup": _epochs("warmup_epochs", warmup_epochs, 0),
            "ramp": _epochs("ramp_epochs", ramp_epochs, 1),
            "finetune": _epochs("finetune_epochs", finetune_epochs, 0),
        }
        self.threshold = not_negative("threshold", threshold)
        self.logger = None if log_dir is None else SparsityLogger(log_dir)

    # Before training

    def set_model(self, model: keras.Model) -> None:
        """Wraps the model's optimizer. Here and not in `on_train_begin`, so that `BackupAndRestore` finds the state it
        saved, wherever it stands in the list of callbacks."""
        super().set_model(model)
        self._trace = trace(learner(model))
        if self.strength is None:
            names = [s.name for s in select(self._trace, self.structures)]
            self._strengths = None
        else:
            self._strengths = strengths_of(self.strength, self._trace, self.structures)
            names = list(self._strengths)
        self._names = tuple(names)
        self._check_reach()
        self.optimizer = wrap(model, self._trace, self._names, self._strengths, self.method, self.threshold)
        model.make_train_function(force=True)
        if self.logger is not None:
            self.logger.set_model(model)

    def _check_reach(self) -> None:
        if self.target is None:
            return
        limit = reach(self._trace.cost, self.metric, self._names)
        if self.target > limit:
            pinned = "; ".join(f"{name}: {reason}" for name, reason in self._trace.pinned.items())
            raise ValueError(
                f"target={self.target} of {self.metric!r} can't be reached: with one unit left in each of "
                f"{', '.join(self._names)} at most {limit:.3f} is removed. Expected target <= {limit:.3f}. "
                f"Not pruned: {pinned or 'nothing'}. Lower the target or name more in `structures`."
            )

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        check_in_use(self.model, self.optimizer)
        self._phases: Any = None  # Phases, once training begins
        self._updates_per_epoch = self._known_updates()
        if self.logger is not None:
            self.logger.on_train_begin()

    def _known_updates(self) -> int | None:
        steps = (self.params or {}).get("steps")
        every = self.optimizer.inner_optimizer.gradient_accumulation_steps or 1
        return None if steps is None else max(1, int(steps) // every)

    # Epoch by epoch

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        if self._phases is None:
            self._begin(epoch)
            self._good = snapshot(self.model)
        self._updates_at_begin = _integer(self.optimizer.iterations)
        index = epoch - self._start
        if self._strengths is not None:
            self._press_all(index)
        else:
            self._press_chosen(index)

    def _begin(self, epoch: int) -> None:
        """Plans the phases, from here or, when an interrupted training goes on, from where it began."""
        epochs = int(self.params["epochs"])
        stored = _integer(self.optimizer.start_epoch)
        self._start = stored if 0 <= stored < epoch else epoch
        self.optimizer.start_epoch.assign(self._start)
        length = epochs - self._start
        if self._strengths is not None:
            self._phases = plan_strength(length, self.method, **self.phase_epochs)
        else:
            self._phases = plan_target(length, **self.phase_epochs)

    def _press_all(self, index: int) -> None:
        """Sets λ; when fine-tuning begins, what is 0 stays 0."""
        for name, value in self._strengths.items():
            self.optimizer.set_strength(name, self._share(index) * value)
        if index == self._phases.ramp_end:
            self._hold()

    def _share(self, index: int) -> float:
        return 0.0 if self._strengths is None else ramped_strength(index, self._phases, self.method)

    def _hold(self) -> None:
        """Gives every unit that is 0 a deadline in the past."""
        for name in self._names:
            deadlines = self.optimizer.deadlines(name)
            dead = ~self.optimizer.alive(name)
            self.optimizer.set_deadlines(name, np.where(dead, self._updates(), deadlines))
        self.optimizer.enforce()

    def _press_chosen(self, index: int) -> None:
        """Chooses the units that have to go by the end of this epoch's part of the ramp."""
        if not self._phases.warmup <= index < self._phases.ramp_end:
            return
        goal = cubic_goal(index, self._phases, self.target or 0.0)
        now = self._updates()
        gone = {name: _due(self.optimizer.deadlines(name), now) for name in self._names}
        importance = relative_importance({name: self.optimizer.norms(name) for name in self._names})
        chosen = choose_units(importance, gone, self._trace.cost, self.metric, goal)
        part = min(1.0, self._phases.ramp_end - index)
        last = now + max(1, round(part * (self._updates_per_epoch or UNKNOWN_EPOCH_STEPS)))
        for name in self._names:
            self.optimizer.set_deadlines(
                name, np.where(gone[name], self.optimizer.deadlines(name), np.where(chosen[name], last, FREE))
            )

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        logs = {} if logs is None else logs
        index = epoch - self._start
        if not healthy(logs, map(self.optimizer.norms, self._names)):
            stop(self.model, epoch, self._good, "the learning rate or `strength`")
        else:
            self._updates_per_epoch = max(1, self._updates() - self._updates_at_begin)
            if self._strengths is None:
                self._meet_deadlines()
            elif index + 1 == self._phases.ramp_end:
                self._hold()
            self._good = snapshot(self.model)
        alive = {name: int(self.optimizer.alive(name).sum()) for name in self._names}
        logs["iss_units"] = sum(alive.values())
        left = {name: max(1, count) for name, count in alive.items()}  # `strip` keeps one unit, too
        logs["iss_removed"] = removed_fraction(self._trace.cost, self.metric, left)
        logs["iss_strength"] = self._share(index) * max((self._strengths or {"": 0.0}).values())
        if self.logger is not None:
            self.logger.on_epoch_end(epoch, logs)

    def _meet_deadlines(self) -> None:
        """Cuts what should be gone by now, when an epoch was shorter than announced."""
        now = self._updates()
        for name in self._names:
            deadlines = self.optimizer.deadlines(name)
            if (deadlines > now).any():
                self.optimizer.set_deadlines(name, np.where(deadlines > now, now, deadlines))
        self.optimizer.enforce()

    def on_train_end(self, logs: Mapping[str, Any] | None = None) -> None:
        """Nothing presses any more; what is 0 stays 0 in later training."""
        if self._strengths is not None:
            self._hold()
            for name in self._names:
                self.optimizer.set_strength(name, 0.0)
        self.optimizer.enforce()  # another callback may have put back weights of an earlier epoch
        self.optimizer.start_epoch.assign(-1)
        self._good = []
        if self.logger is not None:
            self.logger.on_train_end()

    def _updates(self) -> int:
        return _integer(self.optimizer.iterations)


def _due(deadlines: np.ndarray, now: int) -> np.ndarray:
    return (deadlines >= 0) & (deadlines <= now)


def _integer(value: Any) -> int:
    return int(ops.convert_to_numpy(value))


def _names(structures: Iterable[str] | None) -> tuple[str, ...] | None:
    if structures is None:
        return None
    names = (structures,) if isinstance(structures, str) else tuple(structures)
    if not names:
        raise ValueError(
            "Invalid value for argument `structures`. Expected at least one name, or None for all. "
            "Received: structures=[]"
        )
    return names


def _epochs(argument: str, value: Any, least: int) -> int | None:
    if value is not None and (not isinstance(value, (int, np.integer)) or value < least):
        raise ValueError(
            f"Invalid value for argument `{argument}`. Expected an integer of at least {least}, or None. "
            f"Received: {argument}={value!r}"
        )
    return None if value is None else int(value)
