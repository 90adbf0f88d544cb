"""What group Lasso and deadlines make of the weights in one step: pure functions of tensors.

Those that give one number per unit (`pulls`, `factors`) sum over whole weights, which TensorFlow's own operations do on
all cores; those that give whole weights (`add_lasso`, `shrink`) are chains of elementwise arithmetic, to be `fused`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from keras import ops

from keras_iss import layouts
from keras_iss.distribution import same_everywhere
from keras_iss.regularizers import deadline_factors, group_pulls, present, pull_all, scale_all, shrink_factors
from keras_iss.structures import Role, Structure, scale, squared_norms

FREE = -1  # deadline of a unit that may stay

Tensors = Mapping[str, Any]


@dataclasses.dataclass
class Group:
    """A structure, reduced to the weights being trained, and its state in optimizer variables."""

    penalised: Structure
    biases: Structure | None
    strength: Any  # λ of each unit
    deadline: Any  # step count at which each unit has to be 0; FREE where it may stay

    @property
    def paths(self) -> list[str]:
        """The weights it touches."""
        return [*self.penalised.paths, *(self.biases.paths if self.biases is not None else ())]


def make_group(optimizer: Any, structure: Structure, named: Mapping[str, Any], strength: float) -> Group:
    """A structure's group, its state in variables of the optimizer.

    Raises:
        ValueError: If none of its weights is among `named`, the trainable variables.
    """
    slices = [s for s in structure.slices if s.path in named and s.role is not Role.CARRIED]
    penalised = tuple(s for s in slices if s.penalised)
    biases = tuple(dataclasses.replace(s, penalised=True) for s in slices if not s.penalised)
    if not penalised:
        raise ValueError(
            f"Structure {structure.name!r} has no weight among the trainable variables of the optimizer. Expected "
            f"one of {[s.path for s in structure.slices if s.penalised]}. Received: {list(named)[:8]}. Unfreeze "
            "the layer (trainable=True) and compile again, or leave the structure out."
        )

    def variable(initial: float, dtype: str, name: str) -> Any:
        name = f"{structure.name.replace('/', '_')}_{name}"
        return same_everywhere(optimizer, (structure.size,), initial, dtype, name)

    return Group(
        penalised=dataclasses.replace(structure, slices=penalised),
        biases=dataclasses.replace(structure, slices=biases) if biases else None,
        strength=variable(strength, "float32", "strength"),
        deadline=variable(FREE, "int", "deadline"),
    )


@dataclasses.dataclass(frozen=True)
class Pressing:
    """How the groups press.

    Args:
        groups: By structure name.
        method: "proximal" or "subgradient".
        lasso: Whether there is any group Lasso, or deadlines only.
        threshold: Magnitude below which "subgradient" zeroes a weight.
    """

    groups: Mapping[str, Group]
    method: str
    lasso: bool
    threshold: float

    @property
    def structures(self) -> list[Structure]:
        """The penalised slices of each group."""
        return [g.penalised for g in self.groups.values()]

    def pulls(self, weights: Tensors, replicas: int) -> dict[str, Any]:
        """What the subgradient multiplies each unit's weights by on one of several replicas, whose gradients are added up."""
        strengths = {name: ops.convert_to_tensor(g.strength) / replicas for name, g in self.groups.items()}
        return group_pulls(self.structures, weights, strengths)

    def add_lasso(self, grads: Tensors, weights: Tensors, pulls: Tensors) -> dict[str, Any]:
        """Gradients of the weights that groups hold, with the subgradient added."""
        extra = pull_all(self.structures, weights, pulls)
        return {
            path: grads[path] + ops.cast(extra[path], grads[path].dtype) for path in extra if path in grads
        }

    def factors(self, weights: Tensors, learning_rate: Any, steps: Any, updated: Any) -> dict[str, Any]:
        """What deadlines and, with "proximal", group Lasso leave of each unit, by structure name."""
        factors = {}
        for name, group in self.groups.items():
            factors[name] = deadline_factors(ops.convert_to_tensor(group.deadline), steps, updated)
            if self.method == "proximal" and self.lasso:
                step = learning_rate * ops.convert_to_tensor(group.strength)
                shrunk = shrink_factors(squared_norms(group.penalised, weights), step)
                if updated is not None:
                    shrunk = ops.where(updated, shrunk, ops.ones_like(shrunk))
                factors[name] = factors[name] * shrunk
        return factors

    def left(self, steps: Any) -> dict[str, Any]:
        """1 for units that are still there, 0 for those whose deadline has come, by structure name."""
        return {name: present(ops.convert_to_tensor(g.deadline), steps) for name, g in self.groups.items()}

    def shrink(self, weights: Tensors, masks: Tensors, factors: Tensors, left: Tensors) -> dict[str, Any]:
        """Factors, threshold, biases of units that are gone, and last the masks: the new weights."""
        new = scale_all(self.structures, weights, factors)
        if self.method == "subgradient" and self.lasso:
            new = {path: self._threshold(path, value) for path, value in new.items()}
        for name, group in self.groups.items():
            if group.biases is not None:
                new |= scale(group.biases, {**weights, **new}, left[name])
        return new | masked({path: new.get(path, weights[path]) for path in masks}, masks)

    def _threshold(self, path: str, value: Any) -> Any:
        small = ops.abs(value) < self.threshold  # False for NaN, which so stays visible
        held = layouts.covered(path, self.structures, tuple(value.shape))
        if held is not None:
            small = ops.logical_and(small, held)
        return ops.where(small, ops.zeros_like(value), value)


def masked(values: Tensors, masks: Tensors) -> dict[str, Any]:
    """The values with 0 where the mask is False, whatever stood there; those without a mask as they are."""
    return {
        path: ops.where(masks[path], value, ops.zeros_like(value)) if path in masks else value
        for path, value in values.items()
    }
