"""Builds a model anew from the layers of another: smaller, with the weights and the training state it keeps."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import tree

from keras_iss.introspection import is_graph, layers_in, variables_of
from keras_iss.registry import becomes
from keras_iss.structures import WeightSlice, take, to_numpy
from keras_iss.tracing import Trace

Cuts = Mapping[int, list[tuple[WeightSlice, int, np.ndarray]]]  # id(variable) -> what to cut out of it
Removed = Mapping[str, np.ndarray]  # structure name -> indices of the units that go


def rebuild(model: keras.Model, trace: Trace, removed: Removed) -> keras.Model:
    """A new model of the same graph without the removed units, weights copied, compiled as the old one was.

    Args:
        model: The traced model. It isn't changed.
        trace: Its trace.
        removed: Indices of the units to remove, by structure; empty to copy the model as it is.

    Returns:
        The new model; optimizer state is carried over for what is kept.
    """
    clones: dict[int, Any] = {}
    small = _clone_graph(model, _Cloner(trace, removed, clones))
    cuts = _cuts(trace, removed)
    parts = {id(part): part for part in _parts(model)}
    for part in (part for part in parts.values() if not is_graph(part)):
        clone = clones[id(part)]
        for old, new in zip(variables_of(part), variables_of(clone), strict=True):
            new.assign(take(to_numpy(old), cuts.get(id(old), ())))
        for layer in layers_in(clone):
            if hasattr(
                layer, "finalize_state"
            ):  # an adapted Normalization reckons with copies of its weights
                layer.finalize_state()
    _freeze_alike([(model, small), *((part, clones[identity]) for identity, part in parts.items())])
    if model.compiled:
        _compile_like(small, model, cuts)
    return small


class _Cloner:
    """Clones each layer once, with the numbers of its config that shrink."""

    def __init__(self, trace: Trace, removed: Removed, clones: dict[int, Any]):
        self._clones = clones
        self._keys = {id(layer): key for key, layer in trace.layers.items()}
        self._fields: dict[str, dict[tuple, int]] = {}
        for structure in trace.structures:
            gone = len(removed.get(structure.name, ()))
            for r in structure.resizes:
                if not gone:
                    continue
                fields = self._fields.setdefault(r.layer, {})
                fields[r.field] = fields.get(r.field, r.value) - r.per_unit * gone

    def __call__(self, layer: Any) -> Any:
        if id(layer) not in self._clones:
            self._clones[id(layer)] = self._clone(layer)
        return self._clones[id(layer)]

    def _fields_of(self, layer: Any) -> dict[tuple, int]:
        return self._fields.get(self._keys.get(id(layer), ""), {})

    def _clone(self, layer: Any) -> Any:
        if is_graph(layer):
            return _clone_graph(layer, self, self._fields_of(layer))
        if not isinstance(layer, keras.layers.Layer):
            return layer  # a keras.ops operation has neither weights nor state
        if hasattr(layer, "adapt") and not layer.variables:
            return layer  # a vocabulary that was learned isn't in the config, and no unit is in it
        config, fields = _without_build(layer.get_config()), self._fields_of(layer)
        for field, value in fields.items():
            _set_field(config, field, value)
        if type(layer) is keras.layers.Lambda:
            return _same_lambda(layer, config)
        for key in config:
            if inspect.isfunction(getattr(layer, key, None)):  # an activation needn't be registered
                config[key] = getattr(layer, key)
        kind = becomes.get(type(layer), type(layer)) if fields else type(layer)
        return kind.from_config(config)


def _same_lambda(layer: Any, config: dict[str, Any]) -> Any:
    """Keras itself copies no Lambda whose function isn't registered; here the function is at hand."""
    functions = {"function": layer.function, "mask": layer.mask, "arguments": layer.arguments}
    shape = config.pop("output_shape", None)
    if isinstance(shape, (list, tuple)):  # not a function that tells it: Keras finds the shape by itself
        functions["output_shape"] = tuple(shape)
    return keras.layers.Lambda(**{**config, **functions})


def _without_build(config: Any) -> Any:
    """A copy, lists that Keras tracks as plain ones. A wrapper's config says for which input shape its inner layer was
    built: the old one, so it goes.
    """
    if isinstance(config, dict):
        return {
            k: _without_build(v) for k, v in config.items() if k not in ("build_config", "compile_config")
        }
    if isinstance(config, (list, tuple)):
        return (tuple if isinstance(config, tuple) else list)(map(_without_build, config))
    return config


def _set_field(config: Any, field: tuple[str | int, ...], value: int) -> None:
    *way, last = field
    for step in way:
        if isinstance(config[step], tuple):  # a Reshape's target_shape
            config[step] = list(config[step])
        config = config[step]
    config[last] = value


def _clone_graph(model: Any, clone: Callable[[Any], Any], sizes: Mapping[tuple, int] | None = None) -> Any:
    """The same graph over cloned layers. Not compiled: user functions in the compile config need no registration.

    Args:
        model: Sequential or Functional.
        clone: Clones one layer.
        sizes: ("inputs", index, axis) -> the new size of an inner model's input.
    """
    if isinstance(model, keras.Sequential):
        entry = _entry(0, model.inputs[0], sizes or {})
        return type(model)([entry, *(clone(layer) for layer in model.layers)], name=model.name)
    view = keras.Model(model.input, model.output, name=model.name)
    entries = [_entry(i, x, sizes or {}) for i, x in enumerate(tree.flatten(model.input))]
    copied = keras.models.clone_model(
        view, input_tensors=tree.pack_sequence_as(model.input, entries), clone_function=clone
    )
    if type(model) is type(view):
        return copied
    return type(model)(inputs=copied.input, outputs=copied.output, name=model.name)


def _entry(index: int, tensor: Any, sizes: Mapping[tuple, int]) -> Any:
    shape = [sizes.get(("inputs", index, axis), size) for axis, size in enumerate(tensor.shape)]
    return keras.Input(batch_shape=shape, dtype=tensor.dtype, sparse=tensor.sparse, name=tensor.name)


def _parts(model: Any) -> Iterator[Any]:
    """All layers and inner models, an inner model before its own layers."""
    for layer in model.layers:
        if not isinstance(layer, keras.layers.InputLayer):
            yield layer
        if is_graph(layer):
            yield from _parts(layer)


def _freeze_alike(pairs: Sequence[tuple[Any, Any]]) -> None:
    """Copies what is frozen. Setting `trainable` of a layer sets all within it, so it is only set where it differs."""
    for old, new in pairs:
        if new.trainable != old.trainable:
            new.trainable = old.trainable
    for old, new in pairs:
        for variable, copied in zip(old.variables, new.variables, strict=True):
            copied.trainable = variable.trainable


def _cuts(trace: Trace, removed: Removed) -> Cuts:
    cuts: dict[int, list[tuple[WeightSlice, int, np.ndarray]]] = {}
    for structure in trace.structures:
        gone = removed.get(structure.name)
        if gone is None or not len(gone):
            continue
        for part in structure.slices:
            cuts.setdefault(id(trace.weights[part.path]), []).append((part, structure.size, gone))
    return cuts


def _compile_like(small: Any, model: Any, cuts: Cuts) -> None:
    """Compiles with the same loss, metrics and optimizer class, and carries the optimizer's state over."""
    functions = [f for f in tree.flatten(model.loss) if callable(f)]
    scope = {getattr(f, "__name__", type(f).__name__): f for f in functions}
    scope |= {type(f).__name__: type(f) for f in functions}
    try:
        with keras.saving.custom_object_scope(scope):
            settings = model.get_compile_config()
            small.compile_from_config({**settings, "optimizer": _plain_optimizer(settings["optimizer"])})
    except (TypeError, ValueError) as error:
        warnings.warn(
            f"The new model is not compiled, because the compile settings of {model.name!r} can't be copied "
            f"({str(error).splitlines()[0]}). Compile it yourself, or register your functions with "
            "keras.saving.register_keras_serializable.",
            stacklevel=4,
        )
        return
    if model.optimizer is not None and model.optimizer.built:
        _carry_state(
            _plain_variables(model.optimizer), small.optimizer.variables, model.trainable_variables, cuts
        )


def _plain_variables(optimizer: Any) -> list[Any]:
    """The optimizer's state without a SparseOptimizer's, whose masks mean nothing on a stripped model."""
    from keras_iss.optimizers import SparseOptimizer  # which imports the structures this module is about

    sparse: Any = optimizer
    while not isinstance(sparse, SparseOptimizer) and hasattr(sparse, "inner_optimizer"):
        sparse = sparse.inner_optimizer
    if not isinstance(sparse, SparseOptimizer):
        return optimizer.variables
    inner = {id(v) for v in sparse.inner_optimizer.variables}
    own = {id(v) for v in sparse.variables} - inner
    return [v for v in optimizer.variables if id(v) not in own]


def _plain_optimizer(entry: Any) -> Any:
    """An optimizer's config without the SparseOptimizer in it."""
    if not isinstance(entry, dict) or "inner_optimizer" not in entry.get("config", {}):
        return entry
    inner = _plain_optimizer(entry["config"]["inner_optimizer"])
    if entry["class_name"] == "SparseOptimizer":
        return inner
    return {**entry, "config": {**entry["config"], "inner_optimizer": inner}}


def _carry_state(old: list[Any], new: list[Any], variables: list[Any], cuts: Cuts) -> None:
    """Copies every state variable; one that belongs to a weight is cut as the weight is."""
    seen: dict[str, int] = {}
    for source, target in zip(old, new, strict=True):
        value = to_numpy(source)
        name = source.path.rpartition("/")[2]
        owners = _owners(name, variables)
        index = seen[name] = seen.get(name, -1) + 1  # two weights may have one path
        owner = owners[index] if index < len(owners) else None
        if owner is not None and value.shape == tuple(owner.shape):
            value = take(value, cuts.get(id(owner), ()))
        if value.shape == tuple(target.shape):  # factored moments (Adafactor) start afresh
            target.assign(value)


def _owners(name: str, variables: list[Any]) -> list[Any]:
    """The weights whose path a state variable's name begins with: the longest such path."""
    paths = [f"{v.path.replace('/', '_')}_" for v in variables]
    longest = max((len(path) for path in paths if name.startswith(path)), default=0)
    return [
        v for v, path in zip(variables, paths, strict=True) if len(path) == longest and name.startswith(path)
    ]
