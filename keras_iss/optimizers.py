"""The optimizer that prunes: it wraps the user's own and works inside the compiled training step."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_iss import layouts
from keras_iss.checks import choice, not_negative
from keras_iss.distribution import check_engine, clip_as_one, clips, replicas, same_everywhere
from keras_iss.fusing import fused
from keras_iss.masking import Masks
from keras_iss.pressing import Group, Pressing, make_group, masked
from keras_iss.regularizers import present
from keras_iss.snapshots import Notes
from keras_iss.structures import Structure, scale, squared_norms, to_numpy, weights_by_path

__all__ = ["SparseOptimizer"]

METHODS = ("proximal", "subgradient")
FUSED_FROM = 1_000_000  # weights; below, compiling takes longer than it saves


@dataclasses.dataclass(frozen=True)
class _State:
    """What `build` finds. In an object of its own, for Keras takes variables in dicts and lists for the optimizer's."""

    groups: Mapping[str, Group]
    masks: Masks
    targets: Mapping[str, Any]  # the weights that structures or masks hold, by path
    positions: Mapping[int, tuple[int, str]]  # id of such a weight -> its place among the variables, its path
    pressing: Pressing
    add_lasso: Callable[..., dict[str, Any]]
    shrink: Callable[..., dict[str, Any]]


@keras.saving.register_keras_serializable(package="keras_iss")
class SparseOptimizer(keras.optimizers.Optimizer):
    r"""Wraps an optimizer so that each step also prunes units, the way `LossScaleOptimizer` wraps for loss scaling.

    Per step: with `method="subgradient"` the group-Lasso subgradient λ w / sqrt(Σ w² + 1e-8) is added to the loss's
    gradient, before the inner optimizer clips it; the inner optimizer applies it; `"subgradient"` then sets every
    penalised weight of the structures (kernels whole, biases never) whose magnitude is below `threshold` to 0, while
    `"proximal"` multiplies every unit's weights by max(0, 1 - η λ / norm), η being the learning rate, all factors from
    one snapshot; last, units with a deadline are taken away: with n steps to go a unit's weights are multiplied by
    1 - 1/n, which brings them to exactly 0 in a straight line, and from the deadline on they and their biases are 0
    after every step, whatever momentum, weight decay or moving averages do.

    Weights named in `masked` have a mask each (`masks`): a dormant connection gets no gradient, so that it takes no
    part in clipping or momentum, and is exactly 0 after every step. `callbacks.GrowAndPrune` decides which are.

    All state lies in optimizer variables, so `jit_compile`, JAX's stateless step, `steps_per_execution`, `model.save`
    and `BackupAndRestore` carry it. `callbacks.ISSPruning` makes, drives and keeps one; use this class itself in a
    custom training loop. Under loss scaling it goes inside: `LossScaleOptimizer(SparseOptimizer(inner, ...))`.
    Clipping, weight decay, moving averages and gradient accumulation are set on the inner optimizer and work as ever.

    Args:
        inner_optimizer: Any `keras.optimizers.Optimizer`. Its `loss_scale_factor` is taken over by the wrapper.
        structures: What may be pruned: some of `trace(model).structures`, slices by the keys of
            `weights_by_path(model.trainable_variables)`; slices of other weights are left alone.
        strength: λ in the loss's units: one number, or {structure name: number}. None compiles the step without
            group Lasso (deadlines only), which is faster; `set_strength` then can't be used.
        method: "proximal" (exact zeros, any optimizer) or "subgradient" (the paper's recipe).
        threshold: Magnitude below which "subgradient" zeroes a weight.
        masked: The weights that get a mask, by the keys of `weights_by_path(model.trainable_variables)`.
        collects: Whether the gradients of masked weights can be averaged in growth windows.
        name: Name of the optimizer.

    Raises:
        ValueError: If an argument is out of its range, a name in `strength` is no structure, or the inner optimizer
            is a `LossScaleOptimizer` or already a `SparseOptimizer`.

    Example:

    >>> import keras, keras_iss
    >>> model = keras.Sequential([keras.Input((5, 3)), keras.layers.LSTM(4), keras.layers.Dense(1)])
    >>> structures = keras_iss.trace(model).structures
    >>> model.compile(SparseOptimizer(keras.optimizers.Adam(), structures, strength=1e-3), "mse")
    >>> model.optimizer.inner_optimizer.name
    'adam'

    Source: Wen et al., ICLR 2018 (arXiv 1709.05027), sections 3.2 and 4.1 (subgradient, threshold). The authors' code
    zeroes small values of every trainable variable, biases and embeddings included; here only what group Lasso sees.
    """

    def __init__(
        self,
        inner_optimizer: keras.optimizers.Optimizer,
        structures: Iterable[Structure | Mapping[str, Any]],
        *,
        strength: float | Mapping[str, float] | None = None,
        method: str = "proximal",
        threshold: float = 1e-4,
        masked: Iterable[str] = (),
        collects: bool = False,
        name: str | None = None,
    ):
        super().__init__(learning_rate=0.0, name=name or "sparse_optimizer")
        _check_inner(inner_optimizer)
        self.inner_optimizer = inner_optimizer
        self.structures = tuple(s if isinstance(s, Structure) else layouts.from_config(s) for s in structures)
        self.initial_strength = (
            strength if strength is None or isinstance(strength, Mapping) else float(strength)
        )
        self.method = choice("method", method, METHODS)
        self.threshold = not_negative("threshold", threshold)
        self.masked = tuple(masked)
        self.collects = bool(collects)
        self.notes = Notes()
        self._check_names()
        # As LossScaleOptimizer does: only the outermost optimizer scales the loss, and the subgradient is not scaled.
        self.loss_scale_factor = inner_optimizer.loss_scale_factor
        inner_optimizer.loss_scale_factor = None

    def _check_names(self) -> None:
        names = [s.name for s in self.structures]
        if len(set(names)) < len(names) or not (names or self.masked):
            raise ValueError(
                "Invalid value for argument `structures`. Expected at least one structure, each once (none where "
                f"weights are `masked`). Received: structures={names}"
            )
        given = self.initial_strength if isinstance(self.initial_strength, Mapping) else ()
        unknown = sorted(set(given) - set(names))
        if unknown:
            raise ValueError(
                f"Invalid value for argument `strength`. Expected names among {names}. Received: {unknown}"
            )

    def build(self, variables: Sequence[Any]) -> None:
        """Creates the state, and the inner optimizer's where it has none."""
        if self.built:
            return
        check_engine(self.inner_optimizer, variables)
        super().build(variables)
        if not self.inner_optimizer.built:
            self.inner_optimizer.build(variables)
        named = weights_by_path(variables)
        self.start_epoch = same_everywhere(self, (), -1, "int", "start_epoch")
        self.structures = tuple(layouts.with_paths(s, list(named)) for s in self.structures)
        self.masked = tuple(layouts.with_path(path, list(named)) for path in self.masked)
        groups = {s.name: make_group(self, s, named, self._strength_of(s.name)) for s in self.structures}
        masks = Masks(self, {path: named[path] for path in self.masked}, self.collects)
        held = dict.fromkeys([*(path for group in groups.values() for path in group.paths), *self.masked])
        large = sum(math.prod(named[path].shape) for path in held) >= FUSED_FROM
        pressing = Pressing(groups, self.method, self.initial_strength is not None, self.threshold)
        self._state = _State(
            groups=groups,
            masks=masks,
            targets={path: named[path] for path in held},
            positions={id(v): (i, path) for i, (path, v) in enumerate(named.items()) if path in held},
            pressing=pressing,
            add_lasso=fused(pressing.add_lasso) if large else pressing.add_lasso,
            shrink=fused(pressing.shrink) if large else pressing.shrink,
        )

    def _strength_of(self, name: str) -> float:
        strength = self.initial_strength
        return (strength.get(name, 0.0) if isinstance(strength, Mapping) else strength) or 0.0

    # What the compiled step does

    def apply(self, grads: Sequence[Any], trainable_variables: Sequence[Any] | None = None) -> None:
        """One step: gradients of a growth window, subgradient, the inner optimizer's step, shrinking, masks."""
        if not self.built:
            if trainable_variables is None:
                raise ValueError(
                    "Call `optimizer.build(trainable_variables)` before `apply` without variables."
                )
            self.build(list(trainable_variables))
        if self.loss_scale_factor is not None:
            grads = [g if g is None else g / self.loss_scale_factor for g in grads]
        if self.masked:
            grads = self._without_dormant(grads, trainable_variables)
        if self.method == "subgradient" and self.initial_strength is not None:
            grads = self._with_subgradient(grads, trainable_variables)
        if replicas() > 1 and clips(self.inner_optimizer):
            grads = clip_as_one(grads, self.inner_optimizer)
        learning_rate = ops.cast(ops.convert_to_tensor(self.learning_rate), "float32")
        before = ops.convert_to_tensor(self.iterations) + 0  # a copy: the variable is about to change
        self.inner_optimizer.apply(grads, trainable_variables)
        steps = ops.convert_to_tensor(self.iterations)
        # With gradient accumulation most calls update nothing, and then nothing may shrink.
        updated = ops.not_equal(steps, before) if self.inner_optimizer.gradient_accumulation_steps else None
        self._prune(learning_rate, steps, updated)

    def _without_dormant(self, grads: Sequence[Any], variables: Sequence[Any] | None) -> list[Any]:
        """The gradients, 0 for dormant connections; an open growth window adds up what they were."""
        places = self._places(grads, variables, self.masked)
        dense = {path: ops.convert_to_tensor(grads[i]) for path, i in places.items()}
        if self.masks.collecting:
            self.masks.collect(self, dense)
        total = list(grads)
        for path, gradient in masked(dense, self.masks.tensors()).items():
            total[places[path]] = gradient
        return total

    def _with_subgradient(self, grads: Sequence[Any], variables: Sequence[Any] | None) -> list[Any]:
        places = self._places(grads, variables, self._state.targets)
        dense = {path: ops.convert_to_tensor(grads[i]) for path, i in places.items()}
        total = list(grads)
        weights = self._weights()
        pulls = self._state.pressing.pulls(weights, replicas())
        for path, gradient in self._state.add_lasso(dense, weights, pulls).items():
            total[places[path]] = gradient
        return total

    def _places(
        self, grads: Sequence[Any], variables: Sequence[Any] | None, paths: Iterable[str]
    ) -> dict[str, int]:
        """Where among the gradients those of the weights stand; weights without one are left out."""
        wanted = set(paths)
        order = {id(v): i for i, v in enumerate(variables)} if variables is not None else None
        places = {}
        for key, (position, path) in self._state.positions.items():
            i = position if order is None else order.get(key)
            if path in wanted and i is not None and grads[i] is not None:
                places[path] = i
        return places

    def _weights(self) -> dict[str, Any]:
        return {path: ops.convert_to_tensor(v) for path, v in self._state.targets.items()}

    def _prune(self, learning_rate: Any, steps: Any, updated: Any) -> None:
        steps, weights = ops.cast(steps, self.start_epoch.dtype), self._weights()
        factors = self._state.pressing.factors(weights, learning_rate, steps, updated)
        left = self._state.pressing.left(steps)
        pruned = self._state.shrink(weights, self.masks.tensors(), factors, left)
        for path, value in pruned.items():
            self.assign(self._state.targets[path], value)

    # What callbacks and custom loops decide

    @property
    def masks(self) -> Masks:
        """The masks of single connections, once the optimizer is built."""
        return self._state.masks

    def available(self) -> dict[str, np.ndarray]:
        """Which connections of the masked weights don't belong to a unit that is removed, bool by path."""
        ones: dict[str, Any] = {path: np.ones(w.shape, "float32") for path, w in self.masks.weights.items()}
        for structure, left in self._present():
            slices = tuple(s for s in structure.slices if s.path in ones)
            ones |= scale(dataclasses.replace(structure, slices=slices), ones, left)
        return {path: to_numpy(value) > 0 for path, value in ones.items()}

    def set_strength(self, name: str, strength: float | np.ndarray) -> None:
        """Sets λ of one structure: a number, or one per unit, shape (size,).

        Raises:
            ValueError: If the optimizer was made with strength=None, whose step has no group Lasso in it.
        """
        if self.initial_strength is None:
            raise ValueError(
                "Expected an optimizer made with a strength. Received: one made with strength=None."
            )
        variable = self._state.groups[name].strength
        variable.assign(np.broadcast_to(np.asarray(strength, "float32"), tuple(variable.shape)))

    def strength(self, name: str) -> np.ndarray:
        """λ of each unit, shape (size,)."""
        return to_numpy(self._state.groups[name].strength)

    def set_deadlines(self, name: str, deadlines: np.ndarray) -> None:
        """Sets, for each unit, the value of `iterations` at which it has to be 0; -1 for units that may stay.

        A deadline that lies in the past keeps the unit at 0 for good.

        Args:
            name: A structure's name.
            deadlines: Integers, shape (size,).
        """
        self._state.groups[name].deadline.assign(np.asarray(deadlines))

    def deadlines(self, name: str) -> np.ndarray:
        """The deadline of each unit, shape (size,), integers; -1 for units that may stay."""
        return to_numpy(self._state.groups[name].deadline)

    def alive(self, name: str) -> np.ndarray:
        """Which units hold any weight that is not 0, shape (size,), bool."""
        return self.norms(name) != 0  # NaN counts as alive

    def norms(self, name: str) -> np.ndarray:
        """Group norm of each unit, shape (size,)."""
        structure = self._state.groups[name].penalised
        return np.sqrt(to_numpy(squared_norms(structure, self._on_host(structure.paths))))

    def enforce(self) -> None:
        """Sets the units whose deadline has come, and dormant connections, to 0 right now, outside of a step."""
        values: dict[str, Any] = self._on_host(self._state.targets)
        for structure, left in self._present():
            values |= scale(structure, values, left)
        for path, value in masked(values, self.masks.values()).items():
            self._state.targets[path].assign(value)

    def _on_host(self, paths: Iterable[str]) -> dict[str, np.ndarray]:
        """Whole weights, also of those that are spread over devices of several processes."""
        return {path: to_numpy(self._state.targets[path]) for path in paths}

    def _present(self) -> list[tuple[Structure, Any]]:
        """Every group's weights and biases, with 1 for units that are still there and 0 for those whose deadline has come."""
        return [
            (structure, present(to_numpy(group.deadline), to_numpy(self.iterations)))
            for group in self._state.groups.values()
            for structure in filter(None, (group.penalised, group.biases))
        ]

    # What Keras asks of an optimizer that wraps another

    @property
    def variables(self) -> list[Any]:
        return super().variables + self.inner_optimizer.variables

    @property
    def iterations(self) -> Any:
        return self.inner_optimizer.iterations

    @property
    def learning_rate(self) -> Any:
        return self.inner_optimizer.learning_rate

    @learning_rate.setter
    def learning_rate(self, learning_rate: Any) -> None:
        self.inner_optimizer.learning_rate = learning_rate

    def finalize_variable_values(self, var_list: Sequence[Any]) -> None:
        """The inner optimizer's last word (moving averages), then the masks once more."""
        self.inner_optimizer.finalize_variable_values(var_list)
        if self.built:
            self.enforce()

    def save_own_variables(self, store: Any) -> None:
        """Saves its own state and what callbacks noted; Keras saves the inner optimizer's beside it."""
        for i, variable in enumerate(super().variables):
            store[str(i)] = to_numpy(variable)
        self.notes.save(store)

    def load_own_variables(self, store: Any) -> None:
        """Loads what `save_own_variables` saved.

        Raises:
            ValueError: If the state is another optimizer's.
        """
        own = super().variables
        self.notes.load(store)
        saved = len(store.keys()) - len(self.notes.arrays)
        if saved != len(own):
            raise ValueError(
                f"The saved state of optimizer {self.name!r} has {saved} variables. Expected {len(own)}: it was saved "
                "with other structures or without pruning. Train with the same `ISSPruning` or `GrowAndPrune` arguments."
            )
        for i, variable in enumerate(own):
            variable.assign(store[str(i)])

    def get_config(self) -> dict[str, Any]:
        inner = keras.saving.serialize_keras_object(self.inner_optimizer)
        if self.loss_scale_factor is not None:
            inner["config"]["loss_scale_factor"] = self.loss_scale_factor
        # Weights go by their place among the trained variables: a loaded model's paths may differ from the saved one's.
        places = {path: f"@{i}" for i, path in self._state.positions.values()} if self.built else {}
        return {
            "name": self.name,
            "inner_optimizer": inner,
            "structures": [layouts.to_config(s, places) for s in self.structures],
            "strength": self.initial_strength,
            "method": self.method,
            "threshold": self.threshold,
            "masked": [places.get(path, path) for path in self.masked],
            "collects": self.collects,
        }

    @classmethod
    def from_config(
        cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None
    ) -> SparseOptimizer:
        config = dict(config)
        inner = keras.saving.deserialize_keras_object(
            config.pop("inner_optimizer"), custom_objects=custom_objects
        )
        return cls(inner, config.pop("structures"), **config)


def _check_inner(inner: Any) -> None:
    if isinstance(inner, keras.optimizers.LossScaleOptimizer):
        raise ValueError(
            "Invalid value for argument `inner_optimizer`. Expected the optimizer that the LossScaleOptimizer wraps. "
            "Received: a LossScaleOptimizer. Put it outside: LossScaleOptimizer(SparseOptimizer(inner, ...))."
        )
    if not isinstance(inner, keras.optimizers.Optimizer) or isinstance(inner, SparseOptimizer):
        raise ValueError(
            "Invalid value for argument `inner_optimizer`. Expected a keras.optimizers.Optimizer that is no "
            f"SparseOptimizer itself. Received: inner_optimizer={inner!r}"
        )
