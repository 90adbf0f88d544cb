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
from keras_iss.fusing import fused
from keras_iss.regularizers import deadline_factors, group_subgradient, present, scale_all, shrink_factors
from keras_iss.structures import Role, Structure, scale, squared_norms, weights_by_path

METHODS = ("proximal", "subgradient")
FUSED_FROM = 1_000_000  # weights; below, compiling takes longer than it saves
FREE = -1  # deadline of a unit that may stay


@dataclasses.dataclass
class _Group:
    """A structure, reduced to the weights being trained, and its state in optimizer variables."""

    penalised: Structure
    biases: Structure | None
    strength: Any  # λ of each unit
    deadline: Any  # step count at which each unit has to be 0; FREE where it may stay


@dataclasses.dataclass(frozen=True)
class _State:
    """What `build` finds. In an object of its own, for Keras takes variables in dicts and lists for the optimizer's."""

    groups: Mapping[str, _Group]
    targets: Mapping[str, Any]  # the weights that structures hold, by path
    positions: Mapping[int, tuple[int, str]]  # id of such a weight -> its place among the variables, its path
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
        name: str | None = None,
    ):
        super().__init__(learning_rate=0.0, name=name or "sparse_optimizer")
        _check_inner(inner_optimizer)
        if method not in METHODS:
            raise ValueError(
                f"Invalid value for argument `method`. Expected one of {METHODS}. Received: method={method!r}"
            )
        if not threshold >= 0:
            raise ValueError(
                "Invalid value for argument `threshold`. Expected a number of at least 0. "
                f"Received: threshold={threshold}"
            )
        self.inner_optimizer = inner_optimizer
        self.structures = tuple(s if isinstance(s, Structure) else layouts.from_config(s) for s in structures)
        self.initial_strength = (
            strength if strength is None or isinstance(strength, Mapping) else float(strength)
        )
        self.method = method
        self.threshold = float(threshold)
        self._check_names()
        # As LossScaleOptimizer does: only the outermost optimizer scales the loss, and the subgradient is not scaled.
        self.loss_scale_factor = inner_optimizer.loss_scale_factor
        inner_optimizer.loss_scale_factor = None

    def _check_names(self) -> None:
        names = [s.name for s in self.structures]
        if not names or len(set(names)) < len(names):
            raise ValueError(
                "Invalid value for argument `structures`. Expected at least one structure, each once. "
                f"Received: structures={names}"
            )
        unknown = set(self.initial_strength if isinstance(self.initial_strength, Mapping) else ()) - set(
            names
        )
        if unknown:
            raise ValueError(
                f"Invalid value for argument `strength`. Expected names among {names}. Received: {sorted(unknown)}"
            )

    def build(self, variables: Sequence[Any]) -> None:
        """Creates the state, and the inner optimizer's where it has none."""
        if self.built:
            return
        super().build(variables)
        if not self.inner_optimizer.built:
            self.inner_optimizer.build(variables)
        named = weights_by_path(variables)
        self.start_epoch = self.add_variable((), keras.initializers.Constant(-1), "int", "only_first_replica",
                                             name="start_epoch")  # fmt: skip
        self.structures = tuple(layouts.with_paths(s, list(named)) for s in self.structures)
        groups = {s.name: self._group(s, named) for s in self.structures}
        held = dict.fromkeys(path for group in groups.values() for path in _paths(group))
        large = sum(math.prod(named[path].shape) for path in held) >= FUSED_FROM
        self._state = _State(
            groups=groups,
            targets={path: named[path] for path in held},
            positions={id(v): (i, path) for i, (path, v) in enumerate(named.items()) if path in held},
            add_lasso=fused(self._add_lasso) if large else self._add_lasso,
            shrink=fused(self._shrink) if large else self._shrink,
        )

    def _group(self, structure: Structure, named: Mapping[str, Any]) -> _Group:
        slices = [s for s in structure.slices if s.path in named and s.role is not Role.CARRIED]
        penalised = tuple(s for s in slices if s.penalised)
        biases = tuple(dataclasses.replace(s, penalised=True) for s in slices if not s.penalised)
        if not penalised:
            raise ValueError(
                f"Structure {structure.name!r} has no weight among the trainable variables of the optimizer. Expected "
                f"one of {[s.path for s in structure.slices if s.penalised]}. Received: {list(named)[:8]}. Unfreeze "
                "the layer (trainable=True) and compile again, or leave the structure out."
            )
        strength = self.initial_strength
        if isinstance(strength, Mapping):
            strength = strength.get(structure.name, 0.0)
        prefix = structure.name.replace("/", "_")
        units = (structure.size,)
        return _Group(
            penalised=dataclasses.replace(structure, slices=penalised),
            biases=dataclasses.replace(structure, slices=biases) if biases else None,
            strength=self.add_variable(
                units, keras.initializers.Constant(strength or 0.0), "float32", "only_first_replica",
                name=f"{prefix}_strength",
            ),
            deadline=self.add_variable(
                units, keras.initializers.Constant(FREE), "int", "only_first_replica", name=f"{prefix}_deadline"
            ),
        )  # fmt: skip

    # What the compiled step does

    def apply(self, grads: Sequence[Any], trainable_variables: Sequence[Any] | None = None) -> None:
        """One step: subgradient, the inner optimizer's step, shrinking, masks."""
        if not self.built:
            if trainable_variables is None:
                raise ValueError(
                    "Call `optimizer.build(trainable_variables)` before `apply` without variables."
                )
            self.build(list(trainable_variables))
        if self.loss_scale_factor is not None:
            grads = [g if g is None else g / self.loss_scale_factor for g in grads]
        if self.method == "subgradient" and self.initial_strength is not None:
            grads = self._with_subgradient(grads, trainable_variables)
        learning_rate = ops.cast(ops.convert_to_tensor(self.learning_rate), "float32")
        before = ops.convert_to_tensor(self.iterations) + 0  # a copy: the variable is about to change
        self.inner_optimizer.apply(grads, trainable_variables)
        steps = ops.convert_to_tensor(self.iterations)
        # With gradient accumulation most calls update nothing, and then nothing may shrink.
        updated = ops.not_equal(steps, before) if self.inner_optimizer.gradient_accumulation_steps else None
        self._prune(learning_rate, steps, updated)

    def _with_subgradient(self, grads: Sequence[Any], variables: Sequence[Any] | None) -> list[Any]:
        groups = self._state.groups.values()
        strengths = {g.penalised.name: ops.convert_to_tensor(g.strength) for g in groups}
        order = {id(v): i for i, v in enumerate(variables)} if variables is not None else None
        total = list(grads)
        places = {}
        for key, (position, path) in self._state.positions.items():
            i = position if order is None else order.get(key)
            if i is not None and total[i] is not None:
                places[path] = i
        dense = {path: ops.convert_to_tensor(total[i]) for path, i in places.items()}
        for path, gradient in self._state.add_lasso(dense, self._weights(), strengths).items():
            total[places[path]] = gradient
        return total

    def _add_lasso(
        self, grads: Mapping[str, Any], weights: Mapping[str, Any], strengths: Mapping[str, Any]
    ) -> Any:
        """Gradients of the weights that groups hold, with the subgradient added; a pure function."""
        extra = group_subgradient([g.penalised for g in self._state.groups.values()], weights, strengths)
        return {
            path: grads[path] + ops.cast(extra[path], grads[path].dtype) for path in extra if path in grads
        }

    def _weights(self) -> dict[str, Any]:
        return {path: ops.convert_to_tensor(v) for path, v in self._state.targets.items()}

    def _prune(self, learning_rate: Any, steps: Any, updated: Any) -> None:
        groups = self._state.groups.items()
        strengths = {name: ops.convert_to_tensor(g.strength) for name, g in groups}
        deadlines = {name: ops.convert_to_tensor(g.deadline) for name, g in groups}
        steps = ops.cast(steps, self.start_epoch.dtype)
        pruned = self._state.shrink(self._weights(), strengths, deadlines, learning_rate, steps, updated)
        for path, value in pruned.items():
            self.assign(self._state.targets[path], value)

    def _shrink(
        self,
        weights: Mapping[str, Any],
        strengths: Mapping[str, Any],
        deadlines: Mapping[str, Any],
        learning_rate: Any,
        steps: Any,
        updated: Any,
    ) -> dict[str, Any]:
        """Proximal step or threshold, and deadlines: the new weights; a pure function."""
        groups = self._state.groups
        penalised = [g.penalised for g in groups.values()]
        factors = {name: deadline_factors(deadlines[name], steps, updated) for name in groups}
        if self.method == "proximal" and self.initial_strength is not None:
            for s in penalised:
                shrunk = shrink_factors(squared_norms(s, weights), learning_rate * strengths[s.name])
                if updated is not None:
                    shrunk = ops.where(updated, shrunk, ops.ones_like(shrunk))
                factors[s.name] = factors[s.name] * shrunk
        new = scale_all(penalised, weights, factors)
        if self.method == "subgradient" and self.initial_strength is not None:
            new = {path: self._threshold(path, value) for path, value in new.items()}
        for name, group in groups.items():
            if group.biases is not None:
                new |= scale(group.biases, {**weights, **new}, present(deadlines[name], steps))
        return new

    def _threshold(self, path: str, value: Any) -> Any:
        small = ops.abs(value) < self.threshold  # False for NaN, which so stays visible
        held = layouts.covered(path, [g.penalised for g in self._state.groups.values()], tuple(value.shape))
        if held is not None:
            small = ops.logical_and(small, held)
        return ops.where(small, ops.zeros_like(value), value)

    # What callbacks and custom loops decide

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
        return ops.convert_to_numpy(self._state.groups[name].strength)

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
        return ops.convert_to_numpy(self._state.groups[name].deadline)

    def alive(self, name: str) -> np.ndarray:
        """Which units hold any weight that is not 0, shape (size,), bool."""
        squared = squared_norms(self._state.groups[name].penalised, self._state.targets)
        return ops.convert_to_numpy(squared) != 0  # NaN counts as alive

    def norms(self, name: str) -> np.ndarray:
        """Group norm of each unit, shape (size,)."""
        return np.sqrt(
            ops.convert_to_numpy(squared_norms(self._state.groups[name].penalised, self._state.targets))
        )

    def enforce(self) -> None:
        """Sets the units whose deadline has come to 0 right now, outside of a step."""
        steps = ops.cast(ops.convert_to_tensor(self.iterations), self.start_epoch.dtype)
        for group in self._state.groups.values():
            left = present(ops.convert_to_tensor(group.deadline), steps)
            for structure in filter(None, (group.penalised, group.biases)):
                for path, value in scale(structure, self._state.targets, left).items():
                    self._state.targets[path].assign(value)

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
        """Saves its own state; Keras saves the inner optimizer's beside it."""
        for i, variable in enumerate(super().variables):
            store[str(i)] = ops.convert_to_numpy(variable)

    def load_own_variables(self, store: Any) -> None:
        """Loads what `save_own_variables` saved.

        Raises:
            ValueError: If the state is another optimizer's.
        """
        own = super().variables
        if len(store.keys()) != len(own):
            raise ValueError(
                f"The saved state of optimizer {self.name!r} has {len(store.keys())} variables. Expected {len(own)}: "
                "it was saved with other structures or without pruning. Train with the same `ISSPruning` arguments."
            )
        for i, variable in enumerate(own):
            variable.assign(store[str(i)])

    def get_config(self) -> dict[str, Any]:
        inner = keras.saving.serialize_keras_object(self.inner_optimizer)
        if self.loss_scale_factor is not None:
            inner["config"]["loss_scale_factor"] = self.loss_scale_factor
        return {
            "name": self.name,
            "inner_optimizer": inner,
            "structures": [
                layouts.to_config(s, self._state.positions if self.built else {}) for s in self.structures
            ],
            "strength": self.initial_strength,
            "method": self.method,
            "threshold": self.threshold,
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


def _paths(group: _Group) -> list[str]:
    return [*group.penalised.paths, *(group.biases.paths if group.biases is not None else ())]
