"""Walks a model's layers in order and applies their rules, inner models among them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import keras
from keras import tree

from keras_iss.calls import Call
from keras_iss.introspection import is_graph
from keras_iss.registry import rule_for
from keras_iss.units import Book, Signal


class _Probe(keras.Operation):
    """Stands in for a layer while its model is walked, so that the layer itself gets no new nodes."""

    def __init__(self, operation: Any):
        super().__init__()
        self._operation = operation

    def compute_output_spec(self, *args: Any, **kwargs: Any) -> Any:
        return self._operation.compute_output_spec(*args, **kwargs)


class Walker:
    """Goes through a model's layers in order and applies their rules."""

    def __init__(self, book: Book):
        self.book = book
        self.layers: dict[str, Any] = {}
        self.foreign: dict[str, str] = {}  # weight -> the layer without a rule that owns it

    def walk(
        self,
        model: Any,
        inputs: Sequence[Signal],
        *,
        prefix: str,
        owner: str = "",
        field: tuple[str | int, ...] = (),
    ) -> list[Signal]:
        """Follows signals through a model; `owner` and `field` tell where a wrapped model's config lies."""
        sequential = isinstance(model, keras.Sequential)
        struct = (model.inputs, model.outputs) if sequential else (model.input, model.output)
        view = keras.Model(*struct, name=model.name)  # the same graph, but not compiled and never called
        symbols = tree.map_structure(
            lambda x: keras.Input(batch_shape=x.shape, dtype=x.dtype, name=x.name), view.input
        )
        carried = {id(x): s for x, s in zip(tree.flatten(symbols), inputs, strict=True)}
        alive = [symbols]  # ids are only unique among living tensors

        def visit(operation: Any, *args: Any, **kwargs: Any) -> Any:
            specs = _Probe(operation)(*args, **kwargs)
            alive.append(specs)
            flat = tree.flatten(specs)
            given: Any = tree.map_structure(lambda x: carried.get(id(x), x), (args, kwargs))
            name = f"{prefix}{operation.name}"
            place = field + _config_index(model, operation.name) if owner else ()
            signals = self.call(
                operation, *given, name=name, owner=owner or name, field=place, outputs=[Signal(tuple(x.shape)) for x in flat],
            )  # fmt: skip
            for spec, signal in zip(flat, tree.flatten(signals), strict=True):
                carried[id(spec)] = dataclasses.replace(signal, shape=tuple(spec.shape))
            return specs

        ends = keras.models.clone_model(
            view, input_tensors=symbols, clone_function=lambda operation: operation, call_function=visit
        )
        return [carried.get(id(x), Signal(tuple(x.shape))) for x in tree.flatten(ends.outputs)]

    def call(
        self,
        layer: Any,
        args: tuple,
        kwargs: dict,
        *,
        name: str,
        owner: str,
        field: tuple[str | int, ...],
        outputs: Sequence[Signal] = (),
    ) -> Any:
        """Applies a layer's rule and returns the signals of its outputs."""
        call = Call(self, layer, args, kwargs, name=name, owner=owner, field=field, outputs=outputs)
        self.layers.setdefault(owner, layer)
        if is_graph(layer):
            _resize_entries(call)
            inner_owner = owner if call.wrapped else ""
            return self.walk(layer, call.inputs, prefix=f"{name}/", owner=inner_owner, field=field)
        rule = rule_for(layer)
        signals = self._unknown(call) if rule is None else rule(call)
        return list(outputs) if signals is None else signals

    def _unknown(self, call: Call) -> Any:
        kind = type(call.layer).__name__
        call.pins(
            call.inputs,
            f"{call.name} (class {kind}) reads it and isn't known; teach it with keras_iss.register({kind}, rule)",
        )
        for variable in getattr(call.layer, "variables", ()):
            key = self.book.key(variable)
            if key is not None:
                self.foreign[key] = call.name
                if len(variable.shape) >= 2 and variable.trainable:
                    call.multiplies(variable)
        return list(call.outputs) or Signal((None, None))


def _resize_entries(call: Call) -> None:
    """An inner model's inputs shrink with what is fed to them; a wrapped one is rebuilt from its config."""
    for index, (signal, entry) in enumerate(zip(call.inputs, tree.flatten(call.layer.inputs), strict=True)):
        for axis in {p.axis for p in signal.placements}:
            there = Signal((), tuple(p for p in signal.placements if p.axis == axis))
            place: tuple[str | int, ...] = ("inputs", index)
            if call.wrapped:
                place = (*_config_index(call.layer, _entry_name(call.layer, index)), "batch_shape")
            axis += len(entry.shape)
            call.resizes(there, *place, axis, value=entry.shape[axis])


def _entry_name(model: Any, index: int) -> str:
    """Name of an input's layer; the input tensor may have another."""
    config = model.get_config()
    if isinstance(model, keras.Sequential):
        return config["layers"][0]["config"]["name"]
    return [name for name in tree.flatten(config["input_layers"]) if isinstance(name, str)][index]


def _config_index(model: Any, name: str) -> tuple[str | int, ...]:
    """Where a layer's config lies in its model's config."""
    names = [entry["config"].get("name") for entry in model.get_config()["layers"]]
    return ("layers", names.index(name), "config")
