"""Finds the structures of a model: which units can go, what they are tied to, and what can't go and why."""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from keras_iss.cost import CostModel, WeightCost
from keras_iss.introspection import is_graph, learner, variables_of
from keras_iss.structures import Role, Structure, squared_norms, to_numpy, weights_by_path
from keras_iss.units import Book, Draft, Signal
from keras_iss.walking import Walker

_IS_OUTPUT = "it is an output of the model"


class TraceError(ValueError):
    """A model that can't be traced, or a structure that isn't there."""


@dataclasses.dataclass(frozen=True)
class InputSpec:
    """One input of a model.

    Args:
        name, shape, dtype: As in the model; the batch axis comes first, None where a length is free.
        vocabulary: Integers must be below this, because an Embedding reads them; None if nothing limits them.
    """

    name: str
    shape: tuple[int | None, ...]
    dtype: str
    vocabulary: int | None = None


@dataclasses.dataclass(frozen=True)
class Trace:
    """What `trace` found.

    Attributes:
        structures: What can be pruned.
        pinned: name -> why the structure can't be pruned.
        weights: The model's variables by the keys that slices use.
        layers: Layers by the keys that resizes use.
        inputs: The model's inputs.
        cost: Parameters and multiply-adds for any number of units alive.
    """

    structures: tuple[Structure, ...]
    pinned: Mapping[str, str]
    weights: Mapping[str, Any]
    layers: Mapping[str, Any]
    inputs: tuple[InputSpec, ...]
    cost: CostModel
    _pinned_structures: Mapping[str, Structure] = dataclasses.field(default_factory=dict, repr=False)
    _aliases: Mapping[str, str] = dataclasses.field(default_factory=dict, repr=False)

    def __getitem__(self, name: str) -> Structure:
        """A structure by name; a name that was merged into another gives that one.

        Raises:
            TraceError: If there is none; the nearest names are in the message.
        """
        resolved = self._aliases.get(name, name)
        for structure in (*self.structures, *self._pinned_structures.values()):
            if structure.name == resolved:
                return structure
        known = [*(s.name for s in self.structures), *self._pinned_structures]
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.3) or known[:6]
        raise TraceError(
            f"There is no structure named {name!r} in this model. "
            f"Nearest names: {', '.join(map(repr, near)) or '(the model has none)'}."
        )

    def prunable(self, name: str) -> Structure:
        """A structure that can be pruned, by name.

        Raises:
            TraceError: If there is none of the name, or it is pinned; the reason is in the message.
        """
        structure = self[name]
        if structure.name in self.pinned:
            raise TraceError(f"Structure {name!r} can't be pruned: {self.pinned[structure.name]}.")
        return structure

    def norms(self, name: str) -> np.ndarray:
        """Group norms sqrt(Σ w²) of a structure's components, shape (size,), biases left out."""
        structure = self[name]
        values = {path: to_numpy(self.weights[path]) for path in structure.paths}
        # The squares of huge and of tiny weights aren't float32: a power of two brings them near 1, and back exactly.
        largest = max(float(np.max(np.abs(value), initial=0.0)) for value in values.values())
        scale = 2.0 ** np.floor(np.log2(largest)) if 0.0 < largest < np.inf else 1.0
        scaled = {path: (value / scale).astype("float32") for path, value in values.items()}
        return (scale * np.sqrt(to_numpy(squared_norms(structure, scaled)))).astype("float32")

    def removable(self, name: str) -> np.ndarray:
        """Which units can go right now without changing any output, shape (size,), bool.

        A unit can go when everything that reads it is exactly 0, or is read as 0 because the unit is certain to output
        0: its incoming weights and biases are all exactly 0.
        """
        structure = self[name]
        values = {path: to_numpy(self.weights[path]) for path in structure.paths}
        writers = [part for part in structure.slices if part.role is Role.INCOMING]
        silent = np.full(structure.size, bool(writers))
        deaf_readers = np.ones(structure.size, bool)
        for part in writers:
            silent &= _all_zero(part, values[part.path], structure.size)
        for part in structure.slices:
            if part.role is Role.OUTGOING:
                zero = _all_zero(part, values[part.path], structure.size)
                deaf_readers &= (zero | silent) if part.reads_zero else zero
        return deaf_readers & silent if structure.weightless_readers else deaf_readers

    def __str__(self) -> str:
        rows = [("structure", "kind", "units", "weights per unit", "shrinks")]
        for s in self.structures:
            resized = dict.fromkeys(r.layer for r in s.resizes)
            rows.append((s.name, s.kind, str(s.size), f"{self._weights_per_unit(s):,}", ", ".join(resized)))
        widths = [max(len(row[i]) for row in rows) for i in range(4)]
        lines = [
            "  ".join(c.ljust(w) for c, w in zip(row, widths, strict=False)) + "  " + row[4] for row in rows
        ]
        lines.insert(1, "-" * max(map(len, lines)))
        if self.pinned:
            lines += ["", "can't be pruned:"]
            lines += [f"  {name}: {reason}" for name, reason in self.pinned.items()]
        return "\n".join(line.rstrip() for line in lines)

    def _weights_per_unit(self, structure: Structure) -> int:
        shapes = {path: tuple(self.weights[path].shape) for path in structure.paths}
        return sum(
            p.width * math.prod(d for a, d in enumerate(shapes[p.path]) if a != p.axis)
            for p in structure.slices
            if p.penalised and p.role is not Role.CARRIED
        )


def _all_zero(part: Any, value: np.ndarray, size: int) -> np.ndarray:
    occupied = np.any(value != 0, axis=tuple(a for a in range(value.ndim) if a != part.axis))
    return ~occupied[part.indices(size)].any(axis=1)


def trace(model: keras.Model) -> Trace:
    """Finds the structures of a Sequential or Functional model.

    A structure is a set of units together with all weights that go when a unit goes: of an LSTM with n units, column k
    of every gate in kernel, recurrent kernel and bias, row k of the recurrent kernel, and row k of whatever reads the
    layer. Whatever can't be followed exactly is pinned, with a reason.

    Args:
        model: A built `keras.Sequential` or Functional model. It isn't changed.

    Returns:
        A `Trace`: `.structures`, `.pinned`, `trace[name]`, `.norms(name)`; `str(trace)` is a table.

    Raises:
        TraceError: If the model is subclassed or not built yet.

    Example:

    >>> import keras, keras_iss
    >>> model = keras.Sequential([keras.Input((None, 8)), keras.layers.LSTM(16, name="lstm"), keras.layers.Dense(3)])
    >>> keras_iss.trace(model)["lstm"].size
    16

    Source: Wen et al., ICLR 2018 (arXiv 1709.05027), section 3.1.
    """
    check_traceable(model)
    weights = weights_by_path(variables_of(model))
    walker = Walker(Book({id(v): key for key, v in weights.items()}))
    inputs = [Signal(tuple(x.shape), source=i) for i, x in enumerate(model.inputs)]
    outputs = walker.walk(model, inputs, prefix="")
    walker.book.pin(outputs, _IS_OUTPUT)
    return _finish(model, walker, weights)


def check_traceable(model: Any) -> None:
    """Refuses what has no graph to walk.

    Raises:
        TraceError: With what to do instead.
    """
    if not isinstance(model, keras.Model):
        raise TraceError(
            f"Invalid value for argument model. Expected a keras.Model. Received: {type(model).__name__}"
        )
    if isinstance(model, keras.Sequential) and not (model.built and model.layers):
        raise TraceError(
            f"Model {model.name!r} isn't built yet. Add a keras.Input as its first layer, or call it on data once."
        )
    if not is_graph(model):
        inner = learner(model)
        raise TraceError(
            f"Model {model.name!r} is subclassed ({type(model).__name__}): its computation is code, not a graph that "
            "can be walked. "
            + (
                "Rebuild it with keras.Input and keras.Model(inputs, outputs); its layers may stay as they are."
                if inner is model
                else f"What it trains is the model {inner.name!r} in it: give that one."
            )
        )


def _finish(model: keras.Model, walker: Walker, weights: dict[str, Any]) -> Trace:
    book = walker.book
    roots = list(dict.fromkeys(leaf for draft in book.drafts.values() for leaf in draft.leaves))
    for draft in roots:
        _pin_shared_weights(draft, book, walker.foreign)
    structures = {id(draft): draft.finish() for draft in roots}
    pinned = {
        d.name: _IS_OUTPUT if _IS_OUTPUT in d.reasons else next(iter(d.reasons)) for d in roots if d.reasons
    }
    known = {s.name: s for s in structures.values()}
    return Trace(
        structures=tuple(s for name, s in known.items() if name not in pinned),
        pinned=pinned,
        weights=weights,
        layers=walker.layers,
        inputs=tuple(
            InputSpec(
                x.name, tuple(x.shape), keras.backend.standardize_dtype(x.dtype), book.vocabularies.get(i)
            )
            for i, x in enumerate(model.inputs)
        ),
        cost=_cost(known, weights, book),
        _pinned_structures={name: known[name] for name in pinned},
        _aliases={alias: draft.name for draft in roots for alias in draft.names},
    )


def _pin_shared_weights(draft: Draft, book: Book, foreign: Mapping[str, str]) -> None:
    for part in draft.reads_zero:
        if len(book.owners.get(part.path, ())) > 1:
            draft.reasons.setdefault(f"its weight {part.path} belongs to several layers at once")
        if part.path in foreign:
            draft.reasons.setdefault(
                f"its weight {part.path} is also used by {foreign[part.path]}, which isn't known"
            )


def _cost(structures: Mapping[str, Structure], weights: Mapping[str, Any], book: Book) -> CostModel:
    widths: dict[str, dict[tuple[int, str, tuple[int, ...]], int]] = {}
    for structure in structures.values():
        for part in structure.slices:
            # A tied weight lies in a structure twice along one axis, but shrinks once.
            widths.setdefault(part.path, {})[part.axis, structure.name, part.offsets] = part.width
    entries = tuple(
        WeightCost(
            shape=tuple(int(d) for d in variable.shape),
            uses=book.uses.get(key, 0),
            widths=tuple((axis, name, width) for (axis, name, _), width in widths.get(key, {}).items()),
            counted=len(variable.shape) > 0 and "rnn_state" not in key and "seed_generator" not in key,
            recurrent=key in book.of_cells,
        )
        for key, variable in weights.items()
    )
    return CostModel(
        weights=entries,
        sizes={s.name: s.size for s in structures.values()},
        kinds={s.name: s.kind for s in structures.values()},
        twins=_groups([(a.root.name, b.root.name) for a, b in book.twins]),
    )


def _groups(pairs: Sequence[tuple[str, str]]) -> tuple[tuple[str, ...], ...]:
    """Pairs with a name in common, put together."""
    groups: list[dict[str, None]] = []
    for pair in pairs:
        group = dict.fromkeys(pair)
        for other in [g for g in groups if group.keys() & g.keys()]:
            groups.remove(other)
            group = other | group
        groups.append(group)
    return tuple(sorted(tuple(g) for g in groups if len(g) > 1))
