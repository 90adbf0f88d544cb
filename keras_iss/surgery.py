"""prune: set the weakest units to zero. strip: build the model without the units that are zero."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import keras
import numpy as np
from keras import tree

from keras_iss.introspection import variables_of
from keras_iss.loading import one_line
from keras_iss.rebuilding import Removed, rebuild
from keras_iss.structures import Structure, scale, to_numpy
from keras_iss.tracing import Trace, trace


class StripError(RuntimeError):
    """The smaller model can't be built, or doesn't compute what the original does."""


Keep = int | float | Mapping[str, int | float]


def prune(model: keras.Model, keep: Keep, *, trace: Trace | None = None) -> keras.Model:
    r"""A copy of the model with the weakest components set to zero, without training.

    Component k of a structure is as strong as its group norm sqrt(Σ w²), biases left out. All slices of a weak one
    become exactly 0, biases too, so that `strip` can remove it.

    Args:
        model: A built Sequential or Functional model. It isn't changed.
        keep: How much stays: {structure name: units (int) or fraction (float)}, or one float for all hidden and gate
            structures. A fraction keeps ceil(fraction * size) units.
        trace: The model's trace, if you have it.

    Returns:
        The copy: same shapes, same optimizer, weak units zero.

    Raises:
        ValueError: If `keep` is 0, negative, more than the structure has, or names none.

    Example:

    >>> import keras, keras_iss
    >>> model = keras.Sequential([keras.Input((None, 8)), keras.layers.LSTM(16, name="lstm"), keras.layers.Dense(3)])
    >>> keras_iss.strip(keras_iss.prune(model, {"lstm": 10})).get_layer("lstm").units
    10

    Source: Wen et al., ICLR 2018 (arXiv 1709.05027), section 3.1 (what a component is); one-shot magnitude pruning is
    the baseline it improves on.
    """
    found = _trace_of(model, trace)
    copied = _rebuilt(model, found, {})
    own = _trace(copied)
    for name, kept in _kept_units(found, keep).items():
        structure = own[name]
        order = np.argsort(-found.norms(name), kind="stable")
        alive = np.zeros(structure.size, "float32")
        alive[order[:kept]] = 1
        zeroed = scale(structure, own.weights, alive, penalised_only=False)
        for path, value in zeroed.items():
            own.weights[path].assign(value)
    return copied


def _kept_units(found: Trace, keep: Keep) -> dict[str, int]:
    if not isinstance(keep, Mapping):
        if isinstance(keep, bool) or not isinstance(keep, float):
            raise ValueError(
                "Invalid value for argument keep. Expected a fraction (float) for all structures, or a dict "
                f"{{name: units or fraction}}. Received: keep={keep!r}"
            )
        keep = {s.name: keep for s in found.structures if s.kind in ("hidden", "gate")}
        if not keep:
            raise ValueError(
                "This model has no hidden structure that can be pruned; keras_iss.trace(model) says why."
            )
    return {found.prunable(name).name: _count(found.prunable(name), value) for name, value in keep.items()}


def _count(structure: Structure, value: int | float) -> int:
    fraction = isinstance(value, (float, np.floating))
    units = int(np.ceil(float(value) * structure.size - 1e-9)) if fraction and np.isfinite(value) else value
    whole = isinstance(units, (int, np.integer)) and not isinstance(units, bool)
    if not whole or not 1 <= units <= structure.size or (fraction and not 0 < value <= 1):
        raise ValueError(
            f"Invalid value for argument keep. Expected for {structure.name!r} an int from 1 to {structure.size}, or a "
            f"float in (0, 1]. Received: {value!r}"
        )
    return int(units)


def strip(
    model: keras.Model, *, multiple_of: int = 1, min_units: int = 1, verify: bool = True
) -> keras.Model:
    """A plain, smaller model without the units that are exactly removable, with the same outputs.

    A unit goes when everything that reads it is exactly 0, or when it is certain to output 0 (incoming weights and
    biases exactly 0) and is read as 0. Nothing else goes: weights that are merely small stay.

    Args:
        model: A built Sequential or Functional model. It isn't changed.
        multiple_of: Widths are rounded up to a multiple of this (as far as the structure is that wide); of the
            removable units the strongest stay.
        min_units: Each structure keeps at least so many units.
        verify: Compare both models on random inputs.

    Returns:
        A model of the same class with smaller layers; compiled if `model` was, with the optimizer's state for the kept
        units, so that training can go on. Masks of a SparseOptimizer are dropped. A LayerNormalization or RMSNormalization
        that loses units becomes its twin in `keras_iss.layers`, which goes on counting them.

    Raises:
        ValueError: If `multiple_of` or `min_units` isn't a positive integer.
        StripError: If the outputs differ by more than 1e-5 of their largest magnitude (float32).

    Example:

    >>> import keras, keras_iss
    >>> model = keras.Sequential([keras.Input((None, 8)), keras.layers.GRU(16, name="gru"), keras.layers.Dense(3)])
    >>> keras_iss.strip(keras_iss.prune(model, 0.5), multiple_of=4).get_layer("gru").units
    8

    Source: Wen et al., ICLR 2018 (arXiv 1709.05027), section 3.1 and figure 2.
    """
    for name, number in (("multiple_of", multiple_of), ("min_units", min_units)):
        if not isinstance(number, int) or isinstance(number, bool) or number < 1:
            raise ValueError(
                f"Invalid value for argument {name}. Expected a positive integer. Received: {name}={number!r}"
            )
    found = _trace(model)
    removed = strippable(found, multiple_of=multiple_of, min_units=min_units)
    small = _rebuilt(model, found, removed)
    if verify:
        _verify(model, small, found)
    return small


def strippable(found: Trace, *, multiple_of: int = 1, min_units: int = 1) -> dict[str, np.ndarray]:
    """The units that `strip` removes, indices by structure."""
    removable = {s.name: found.removable(s.name) for s in found.structures}
    wanted = {
        s.name: _width(s.size, int((~removable[s.name]).sum()), multiple_of, min_units)
        for s in found.structures
    }
    for group in found.cost.twins:
        width = max(wanted.get(name, found[name].size) for name in group)
        wanted.update({name: width for name in group if name in wanted})
    return {s.name: _choose(found, s, removable[s.name], wanted[s.name]) for s in found.structures}


def _width(size: int, alive: int, multiple_of: int, min_units: int) -> int:
    return min(size, -(-max(alive, min_units) // multiple_of) * multiple_of)


def _choose(found: Trace, structure: Structure, removable: np.ndarray, width: int) -> np.ndarray:
    """The weakest removable units, as many as bring the structure down to `width`."""
    candidates = np.flatnonzero(removable)
    order = candidates[np.argsort(found.norms(structure.name)[candidates], kind="stable")]
    return np.sort(order[: structure.size - width])


def _rebuilt(model: keras.Model, found: Trace, removed: Removed) -> keras.Model:
    with _explained(
        f"Model {model.name!r} can't be built again from its layers' configurations",
        "see that keras.models.clone_model(model) works and gives weights of the same shapes",
    ):
        return rebuild(model, found, removed)


@contextlib.contextmanager
def _explained(what: str, mend: str) -> Iterator[None]:
    """Says in one sentence of ours what Keras or a layer of the user's breaks off with."""
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:
        raise StripError(f"{what} ({one_line(error)}): {mend}.") from error


def _verify(model: keras.Model, small: keras.Model, found: Trace) -> None:
    inputs = random_inputs(found)
    inputs = (
        tree.pack_sequence_as(model.input, inputs) if not isinstance(model, keras.Sequential) else inputs[0]
    )
    with _explained(
        f"Keras itself can't run model {model.name!r} on random inputs, so the stripped one can't be checked",
        "mend the model, or call strip with verify=False",
    ):
        expected = tree.flatten(_outputs(model, inputs))
    received = tree.flatten(_outputs(small, inputs))
    for index, (want, got) in enumerate(zip(expected, received, strict=True)):
        tolerance = 1e-5 if "float16" not in str(want.dtype) else 1e-2
        want, got = want.astype("float64"), got.astype("float64")
        difference = float(np.max(np.abs(want - got), initial=0.0))
        if not difference <= tolerance * max(float(np.max(np.abs(want), initial=0.0)), 1e-3):
            raise StripError(
                f"The stripped model is wrong: output {index} of {model.name!r} differs by {difference:.3g} on random "
                "inputs. A layer's registered rule is probably not exact; the model was not changed."
            )


def random_inputs(found: Trace, *, batch: int = 2, length: int = 32, seed: int = 0) -> list[np.ndarray]:
    """Random values of each input's kind; integers stay within the vocabulary of the Embedding that reads them."""
    generator = np.random.default_rng(seed)
    arrays = []
    for spec in found.inputs:
        shape = [d if d is not None else (batch if i == 0 else length) for i, d in enumerate(spec.shape)]
        if spec.dtype == "bool":
            arrays.append(np.ones(shape, bool))
        elif spec.dtype == "string":
            arrays.append(generator.choice(list("abcdefgh"), shape).astype(object))
        elif "int" in spec.dtype or spec.vocabulary:
            arrays.append(generator.integers(0, spec.vocabulary or 2, shape).astype(spec.dtype))
        else:
            arrays.append(generator.standard_normal(shape).astype("float32"))
    return arrays


def _outputs(model: Any, inputs: Any) -> Any:
    """The model's outputs at inference; states of stateful layers are put back afterwards."""
    states = [(v, to_numpy(v)) for v in variables_of(model) if not v.trainable]
    outputs = tree.map_structure(to_numpy, model(inputs, training=False))
    for variable, value in states:
        variable.assign(value)
    return outputs


def _trace_of(model: keras.Model, given: Trace | None) -> Trace:
    """The given trace if it still fits the model, else a clear error."""
    if given is None:
        return _trace(model)
    fresh = _trace(model)
    same = {k: tuple(v.shape) for k, v in fresh.weights.items()} == {
        k: tuple(v.shape) for k, v in given.weights.items()
    } and all(fresh.weights[k] is v for k, v in given.weights.items())
    if not same:
        raise ValueError(
            f"The trace is not of model {model.name!r} as it is now: its weights differ. "
            "Call keras_iss.trace(model) again."
        )
    return fresh


_trace = trace
