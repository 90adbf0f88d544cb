"""A model's inputs and outputs, by name."""

from __future__ import annotations

import re

import keras

from .errors import ExportError

__all__ = ["as_functional", "inner_layers", "input_names", "is_subclassed", "output_names"]


def as_functional(model: keras.Model) -> keras.Model:
    """The same layers as an uncompiled Functional model; subclassed and unbuilt models are refused.

    Uncompiled, since cloning and loading would otherwise look for the model's losses and metrics.
    """
    if not isinstance(model, keras.Model):
        raise ExportError(
            f"Invalid value for argument `model`. Expected a Keras model. Received: model={type(model).__name__}"
        )
    if is_subclassed(model):
        raise ExportError(
            f"Model {model.name!r} is a subclassed model ({type(model).__name__}), whose layers can't be followed; "
            "build it as a Functional model with keras.Model(inputs, outputs)."
        )
    if isinstance(model, keras.Sequential):
        if not model.built or not model.inputs:
            raise ExportError(
                f"Model {model.name!r} isn't built; give it a keras.Input as its first layer or call it once on data."
            )
        return keras.Model(model.inputs[0], model.outputs[0], name=model.name)
    return keras.Model(model.input, model.output, name=model.name)


def is_subclassed(model: keras.Model) -> bool:
    """Whether a model computes something else than the graph of its layers."""
    if isinstance(model, keras.Sequential):
        return type(model).call is not keras.Sequential.call
    # keras.Model(inputs, outputs) makes an instance of a class that has no public name.
    x = keras.Input((1,))
    functional = type(keras.Model(x, x))
    return not isinstance(model, functional) or type(model).call is not functional.call


def inner_layers(layer) -> list[keras.Layer]:
    """The layers of a model or in a wrapper, however deep, each once; a layer without parts is itself."""
    parts = list(getattr(layer, "layers", ()))
    parts += [
        getattr(layer, name) for name in ("layer", "forward_layer", "backward_layer") if hasattr(layer, name)
    ]
    found = [layer] if not isinstance(layer, keras.Model) else []
    found += [inner for part in parts for inner in inner_layers(part)]
    return list({id(inner): inner for inner in found}.values())


def input_names(functional: keras.Model) -> list[str]:
    """The inputs' names, in the order of `keras.tree.flatten(model.input)`."""
    layers = {
        id(layer.output): layer.name
        for layer in functional.layers
        if isinstance(layer, keras.layers.InputLayer)
    }
    return _names(functional.input, [layers.get(id(x), x.name) for x in functional.inputs])


def output_names(functional: keras.Model) -> list[str]:
    """The outputs' names: a dictionary's keys, or the layers' names; repeated ones are numbered."""
    return _names(functional.output, functional.output_names)


def _names(structure, layer_names: list[str]) -> list[str]:
    names = sorted(structure) if isinstance(structure, dict) else layer_names
    if len(names) != len(keras.tree.flatten(structure)):
        names = layer_names
    names = [re.sub(r"\W", "_", str(name)) for name in names]
    numbered: list[str] = []
    for name in names:
        unique, n = name, 0
        while unique in numbered:
            n += 1
            unique = f"{name}_{n}"
        numbered.append(unique)
    return numbered
