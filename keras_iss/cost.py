"""What a model costs: parameters and multiply-adds per time step, for any number of units alive."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

METRICS = ("macs", "recurrent_macs", "parameters", "units")


@dataclasses.dataclass(frozen=True)
class WeightCost:
    """One weight: its shape, its matrix products per time step, and which structures its axes shrink with.

    Args:
        shape: Shape of the whole weight.
        uses: Matrix products per time step it takes part in; 0 for biases and looked-up tables.
        widths: (axis, structure name, indices that one unit owns) for each structure on each axis.
        counted: Whether it is a parameter (trainable or a normalization's statistics, not a saved state or seed).
        recurrent: Whether a recurrent cell holds it.
    """

    shape: tuple[int, ...]
    uses: int
    widths: tuple[tuple[int, str, int], ...]
    counted: bool = True
    recurrent: bool = False


@dataclasses.dataclass(frozen=True)
class CostModel:
    """Costs as a function of how many units of each structure are alive.

    One multiply-add is one weight of a kernel taking part in one matrix product. A layer counts once per call and time
    step: an LSTM its kernel and recurrent kernel, a Dense or Conv1D layer its kernel, an Embedding nothing. Products
    of two activations (attention scores) and elementwise work aren't counted. The paper counts the same: its dense
    Penn Treebank model has 51 M multiply-adds per step, its smallest 6.8 M (7.48 times fewer).

    Args:
        weights: One entry per weight.
        sizes: Units of each structure, pinned ones included.
        kinds: Kind of each structure.
        twins: Groups of structures that Keras needs equally wide (the two directions of a concatenating
            Bidirectional): each counts as wide as the widest.

    Source: Wen et al., arXiv 1709.05027, table 1 ("Mult-add").
    """

    weights: tuple[WeightCost, ...]
    sizes: Mapping[str, int]
    kinds: Mapping[str, str]
    twins: tuple[tuple[str, ...], ...] = ()

    def macs(self, alive: Mapping[str, int] | None = None) -> int:
        """Multiply-adds per time step."""
        gone = self._gone(alive)
        return sum(w.uses * self._count(w, gone) for w in self.weights if w.uses)

    def recurrent_macs(self, alive: Mapping[str, int] | None = None) -> int:
        """Those of the recurrent layers alone: kernels and recurrent kernels."""
        gone = self._gone(alive)
        return sum(w.uses * self._count(w, gone) for w in self.weights if w.uses and w.recurrent)

    def parameters(self, alive: Mapping[str, int] | None = None) -> int:
        """Weights, trainable and not."""
        gone = self._gone(alive)
        return sum(self._count(w, gone) for w in self.weights if w.counted)

    def units(self, alive: Mapping[str, int] | None = None) -> int:
        """Hidden units (kinds "hidden" and "gate")."""
        gone = self._gone(alive)
        return sum(s - gone.get(n, 0) for n, s in self.sizes.items() if self.kinds[n] in ("hidden", "gate"))

    def measure(self, metric: str, alive: Mapping[str, int] | None = None) -> int:
        """One of the four by name.

        Raises:
            ValueError: If `metric` is not one of `METRICS`.
        """
        if metric not in METRICS:
            raise ValueError(
                f"Invalid value for argument metric. Expected one of {METRICS}. Received: metric={metric!r}"
            )
        return getattr(self, metric)(alive)

    def _gone(self, alive: Mapping[str, int] | None) -> dict[str, int]:
        alive = dict(alive or {})
        for group in self.twins:
            width = max(alive.get(name, self.sizes[name]) for name in group)
            alive.update(dict.fromkeys(group, width))
        return {name: self.sizes[name] - int(count) for name, count in alive.items() if name in self.sizes}

    @staticmethod
    def _count(weight: WeightCost, gone: Mapping[str, int]) -> int:
        shape = list(weight.shape)
        for axis, name, width in weight.widths:
            shape[axis] -= gone.get(name, 0) * width
        count = 1
        for d in shape:
            count *= d
        return count
