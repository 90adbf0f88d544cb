"""Group Lasso over intrinsic sparse structures: penalty, subgradient, proximal step."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import keras
from keras import ops

from keras_iss.structures import Structure, along, scale, spread, squared_norms
from keras_iss.tracing import Trace, trace

__all__ = ["ISSGroupLasso"]

EPSILON = 1e-8  # the paper's: keeps the square root differentiable at 0

Strength = float | Mapping[str, float]


def check_strength(strength: Any) -> Strength:
    """Checks λ: a positive, finite number, or one per structure name.

    Args:
        strength: What the user passed.

    Returns:
        It, with plain floats.

    Raises:
        ValueError: If it is anything else.

    Example:

    >>> check_strength({"lstm": 1})
    {'lstm': 1.0}
    """
    if isinstance(strength, Mapping):
        if not strength:
            raise ValueError(
                "Invalid value for argument `strength`. Expected at least one structure name. Received: strength={}"
            )
        return {str(name): _positive(value, f"strength[{name!r}]") for name, value in strength.items()}
    return _positive(strength, "strength")


def _positive(value: Any, argument: str) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not (math.isfinite(number) and number > 0):
        raise ValueError(
            f"Invalid value for argument `{argument}`. Expected a finite number above 0. Received: {argument}={value!r}"
        )
    return number


def strengths_of(strength: Strength, trace: Trace, names: Iterable[str] | None = None) -> dict[str, float]:
    """λ of every structure to prune, by the structure's own name.

    Args:
        strength: A number for all, or {name: number}.
        trace: The traced model.
        names: Structure names of any kind; None for those in `strength`, or all hidden and gate structures.

    Returns:
        {structure name: λ}, 0 for chosen structures that a mapping leaves out.

    Raises:
        ValueError: If a name is unknown (nearest names shown) or pinned (with the reason), or nothing is left.
    """
    if not isinstance(strength, Mapping):
        return {s.name: float(strength) for s in select(trace, names)}
    by_name = {trace.prunable(name).name: float(value) for name, value in strength.items()}
    return {s.name: by_name.get(s.name, 0.0) for s in select(trace, strength if names is None else names)}


def group_penalty(
    structures: Iterable[Structure], weights: Mapping[str, Any], strengths: Mapping[str, Any]
) -> Any:
    r"""The group Lasso term, Σ_s λ_s Σ_k sqrt(Σ w² + 1e-8), without group-size factors, biases left out.

    Args:
        structures: The structures.
        weights: Variables, tensors or arrays by path.
        strengths: λ by structure name: a number, or one per unit, shape (size,).

    Returns:
        A scalar tensor.

    Example:

    >>> import numpy as np
    >>> from keras_iss.structures import Role, WeightSlice
    >>> dense = Structure(name="d", kind="dense", size=2, slices=(WeightSlice(path="w", axis=1, role=Role.INCOMING),))
    >>> round(float(group_penalty([dense], {"w": np.array([[3.0, 0.0], [4.0, 1.0]])}, {"d": 0.5})), 3)
    3.0

    Source: Wen et al., arXiv 1709.05027, section 3.2, equation 2.
    """
    total: Any = 0.0
    for structure in structures:
        norms = ops.sqrt(squared_norms(structure, weights) + EPSILON)
        total = total + ops.sum(norms * strengths[structure.name])
    return total


def group_subgradient(
    structures: Iterable[Structure], weights: Mapping[str, Any], strengths: Mapping[str, Any]
) -> dict[str, Any]:
    r"""Gradient of `group_penalty`: each weight collects λ w / sqrt(Σ w² + 1e-8) from every group that holds it.

    Args:
        structures: The structures.
        weights: Variables, tensors or arrays by path.
        strengths: λ by structure name: a number, or one per unit, shape (size,).

    Returns:
        By path, a tensor of the weight's shape; only weights that some group holds.

    Example:

    >>> import numpy as np
    >>> from keras_iss.structures import Role, WeightSlice
    >>> dense = Structure(name="d", kind="dense", size=1, slices=(WeightSlice(path="w", axis=1, role=Role.INCOMING),))
    >>> np.round(group_subgradient([dense], {"w": np.array([[3.0], [4.0]])}, {"d": 0.5})["w"], 3).tolist()
    [[0.3], [0.4]]

    Source: Wen et al., arXiv 1709.05027, section 3.2, equation 3.
    """
    structures = tuple(structures)
    return pull_all(structures, weights, group_pulls(structures, weights, strengths))


def group_pulls(
    structures: Iterable[Structure], weights: Mapping[str, Any], strengths: Mapping[str, Any]
) -> dict[str, Any]:
    """How hard each unit's weights are pulled to 0: λ / sqrt(Σ w² + 1e-8) by structure name, shape (size,)."""
    return {s.name: strengths[s.name] / ops.sqrt(squared_norms(s, weights) + EPSILON) for s in structures}


def pull_all(
    structures: Iterable[Structure], weights: Mapping[str, Any], pulls: Mapping[str, Any]
) -> dict[str, Any]:
    """Σ w · pull[unit] over all groups that hold a weight, by path."""
    total: dict[str, Any] = {}
    for structure in structures:
        for path, share in _shares(structure, weights, pulls[structure.name]).items():
            total[path] = total[path] + share if path in total else share
    return total


def _shares(structure: Structure, weights: Mapping[str, Any], pull: Any) -> dict[str, Any]:
    """Σ over the slices of one structure of w · pull[unit]; a weight two slices hold collects from both."""
    factors: dict[str, Any] = {}
    for part in structure.slices:
        if part.penalised:
            rank, length = len(weights[part.path].shape), weights[part.path].shape[part.axis]
            factor = along(part, spread(part, pull, length, 0.0), rank)
            factors[part.path] = factors[part.path] + factor if part.path in factors else factor
    return {
        path: (w := ops.convert_to_tensor(weights[path])) * ops.cast(factor, w.dtype)
        for path, factor in factors.items()
    }


def shrink_factors(squared: Any, step: Any) -> Any:
    """What a proximal step leaves of each component, max(0, 1 - step / norm); NaN stays NaN.

    Args:
        squared: Squared group norms, shape (size,).
        step: Learning rate times λ, a number or shape (size,).

    Returns:
        Factors in [0, 1], shape (size,).

    Example:

    >>> import numpy as np
    >>> np.asarray(shrink_factors(np.array([25.0, 0.01]), 1.0)).tolist()
    [0.8, 0.0]
    """
    norms = ops.sqrt(squared)
    # `<=` is False for NaN, so a NaN norm gives a NaN factor: an exploded weight is never turned into a zero.
    return ops.where(norms <= step, ops.zeros_like(norms), 1.0 - step / norms)


def deadline_factors(deadlines: Any, steps: Any, updated: Any = None) -> Any:
    """What a step leaves of units that have to be 0 by a deadline: (n - 1) / n with n steps to go, which in sum is a
    straight line to exactly 0; 0 from the deadline on; 1 for units without one.

    Args:
        deadlines: Value of `iterations` at which each unit has to be 0, integers, shape (size,); -1 for none.
        steps: Value of `iterations` after this step.
        updated: Whether this step changed weights, where not every one does (gradient accumulation).

    Returns:
        Factors in [0, 1], float32, shape (size,).

    Example:

    >>> import numpy as np
    >>> np.asarray(deadline_factors(np.array([-1, 3, 4, 7]), np.array(4))).tolist()
    [1.0, 0.0, 0.0, 0.75]
    """
    left = ops.maximum(deadlines - steps + 1, 1)
    # Not 1 - 1 / left: a vectorized reciprocal of 1 need not be exactly 1.
    factors = ops.cast(left - 1, "float32") / ops.cast(left, "float32")
    if updated is not None:
        factors = ops.where(ops.logical_or(updated, left == 1), factors, ops.ones_like(factors))
    return ops.where(deadlines < 0, ops.ones_like(factors), factors)


def present(deadlines: Any, steps: Any) -> Any:
    """1 for units that are still there, 0 for those whose deadline has come.

    Example:

    >>> import numpy as np
    >>> np.asarray(present(np.array([-1, 3, 4, 7]), np.array(4))).tolist()
    [1.0, 0.0, 0.0, 1.0]
    """
    return 1.0 - ops.cast(ops.logical_and(deadlines >= 0, deadlines <= steps), "float32")


def group_proximal(
    structures: Iterable[Structure], weights: Mapping[str, Any], steps: Mapping[str, Any]
) -> dict[str, Any]:
    r"""One proximal step: every component is multiplied by max(0, 1 - step / norm).

    ISS groups overlap (R[i, j] of an LSTM belongs to units i and j), so scaling group by group would depend on the
    order and is not the exact proximal operator of the sum. All factors are therefore taken from one snapshot of
    the norms, then multiplied: order-independent, and zeros are exact.

    Args:
        structures: The structures.
        weights: Variables, tensors or arrays by path. They are not changed.
        steps: Learning rate times λ by structure name: a number, or one per unit, shape (size,).

    Returns:
        The new weights by path; only weights that some group holds.

    Example:

    >>> import numpy as np
    >>> from keras_iss.structures import Role, WeightSlice
    >>> dense = Structure(name="d", kind="dense", size=1, slices=(WeightSlice(path="w", axis=1, role=Role.INCOMING),))
    >>> np.round(group_proximal([dense], {"w": np.array([[3.0], [4.0]])}, {"d": 1.0})["w"], 3).tolist()
    [[2.4], [3.2]]

    Source: Wen et al., arXiv 1709.05027, equation 2, whose groups these are; the step is this project's own
    (the paper uses the subgradient).
    """
    structures = tuple(structures)
    factors = {s.name: shrink_factors(squared_norms(s, weights), steps[s.name]) for s in structures}
    return scale_all(structures, weights, factors)


def scale_all(
    structures: Iterable[Structure], weights: Mapping[str, Any], factors: Mapping[str, Any]
) -> dict[str, Any]:
    """Scales the penalised slices of several structures, each by its own factors."""
    scaled: dict[str, Any] = {}
    for structure in structures:
        scaled |= scale(structure, {**weights, **scaled}, factors[structure.name])
    return scaled


class ISSGroupLasso:
    r"""Group Lasso over the hidden units of a model: λ Σ_k sqrt(Σ w² + 1e-8) over all units k of all structures.

    There is no group-size factor and biases are left out, as in the paper. To *remove* units, use
    `callbacks.ISSPruning`: it also zeroes, fine-tunes and reaches a target. A gradient step on this penalty alone
    makes groups small, but never exactly zero.

    Args:
        strength: λ > 0, relative to the loss as Keras computes it (a mean): a number for all hidden and gate
            structures, or {structure name: number} for those named. The paper's 0.00245 on Penn Treebank is
            against a loss summed over 35 steps, that is about 7e-5 here.

    Raises:
        ValueError: If λ is not a finite number above 0.

    Example:

    >>> import keras
    >>> model = keras.Sequential([keras.Input((5, 3)), keras.layers.LSTM(4, name="lstm"), keras.layers.Dense(1)])
    >>> float(ISSGroupLasso(2.0).penalty(model)) > 0
    True

    Source: Wen et al., ICLR 2018 (arXiv 1709.05027), section 3.2.
    """

    def __init__(self, strength: Strength):
        self.strength = check_strength(strength)

    def penalty(self, model: keras.Model, *, trace: Trace | None = None) -> Any:
        """The penalty at the model's present weights.

        Args:
            model: A built Sequential or Functional model.
            trace: `keras_iss.trace(model)`, where it is at hand: a custom loop need not trace at every step.

        Returns:
            A scalar tensor, differentiable with respect to the weights.

        Raises:
            ValueError: If a name in `strength` is no structure of the model, or nothing can be pruned.
        """
        found, strengths = self._select(model, trace)
        return group_penalty([found[name] for name in strengths], found.weights, strengths)

    def subgradient(self, model: keras.Model, *, trace: Trace | None = None) -> dict[str, Any]:
        """Gradient of the penalty by weight path (a key of `Trace.weights`); see `group_subgradient`."""
        found, strengths = self._select(model, trace)
        return group_subgradient([found[name] for name in strengths], found.weights, strengths)

    def proximal_step(self, model: keras.Model, learning_rate: float, *, trace: Trace | None = None) -> None:
        """Shrinks every component of the model in place by learning_rate · λ; see `group_proximal`."""
        found, strengths = self._select(model, trace)
        steps = {name: learning_rate * value for name, value in strengths.items()}
        for path, value in group_proximal([found[name] for name in strengths], found.weights, steps).items():
            found.weights[path].assign(value)

    def attach(self, model: keras.Model) -> None:
        """Puts the penalty in the model's own loss: plain `compile`/`fit`, and `model.losses` in custom loops.

        It hangs on the regularizer of one weight per structure, beside whatever regularizer that weight has, so
        `evaluate` reports the loss with the penalty as well. Attaching again replaces the strength. Keras saves
        regularizers with layers, not with weights: after `load_model` or `clone_model` attach again. Attach before
        the first `fit`, or compile again, for a train function already compiled does not see it.

        Args:
            model: A built Sequential or Functional model.

        Raises:
            ValueError: If a name in `strength` is no structure of the model, or nothing can be pruned.
        """
        self.detach(model)
        found, strengths = self._select(model, None)
        for name, value in strengths.items():
            structure = found[name]
            anchor = found.weights[next(s.path for s in structure.slices if s.penalised)]
            weights = {path: found.weights[path] for path in structure.paths}
            anchor.regularizer = _Attached(structure, weights, value, anchor.regularizer)

    @staticmethod
    def detach(model: keras.Model) -> None:
        """Takes an attached penalty out of the model's loss again; does nothing where there is none."""
        for variable in model.variables:
            while isinstance(variable.regularizer, _Attached):
                variable.regularizer = variable.regularizer.beside

    def _select(self, model: keras.Model, known: Trace | None) -> tuple[Trace, dict[str, float]]:
        found = trace(model) if known is None else known
        return found, strengths_of(self.strength, found)


class _Attached(keras.Regularizer):
    """One structure's penalty, as the regularizer of its first weight."""

    def __init__(self, structure: Structure, weights: dict[str, Any], strength: float, beside: Any):
        self.structure, self.weights, self.strength, self.beside = structure, weights, strength, beside

    def __call__(self, x: Any) -> Any:
        penalty = group_penalty([self.structure], self.weights, {self.structure.name: self.strength})
        return penalty if self.beside is None else penalty + self.beside(x)


def select(trace: Trace, names: Iterable[str] | None) -> tuple[Structure, ...]:
    """The structures to prune: those named, or all hidden and gate structures.

    Args:
        trace: The traced model.
        names: Structure names of any kind; None for the default.

    Returns:
        At least one structure.

    Raises:
        ValueError: If a name is unknown (nearest names shown) or pinned (with the reason), or nothing is left.
    """
    if names is not None:
        chosen = tuple(dict.fromkeys(trace.prunable(name) for name in names))
    else:
        chosen = tuple(s for s in trace.structures if s.kind in ("hidden", "gate"))
    if not chosen:
        reasons = (
            "; ".join(f"{name}: {reason}" for name, reason in trace.pinned.items())
            or "it has no recurrent layer"
        )
        raise ValueError(
            f"Expected a model with at least one structure that can be pruned. Received none ({reasons}). "
            "`print(keras_iss.trace(model))` shows what was found; name other kinds in `structures`."
        )
    return chosen
