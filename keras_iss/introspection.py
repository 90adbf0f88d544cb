"""What Keras's public API doesn't tell about a model directly."""

from __future__ import annotations

from typing import Any

import keras


def is_graph(model: Any) -> bool:
    """Whether a model is Sequential or Functional, so that its layers can be walked; not if it has a `call` of its own."""
    classes = type(model).__mro__
    graph = next((c for c in classes if c.__name__ in ("Functional", "Sequential")), None)
    return graph is not None and not any("call" in vars(c) for c in classes[: classes.index(graph)])


def learner(model: Any) -> Any:
    """What can be traced of a model in training: the model itself, or, where it is subclassed, the Sequential or
    Functional model in it that holds all that is trained, such as a `keras.distillation.Distiller`'s student.

    Whatever the code around that model does, it sees only what the model puts out, and those units stay. Where there is
    no such model, or a layer beside it may still get weights, the one given.
    """
    if is_graph(model) or not isinstance(model, keras.Model) or not all(part.built for part in model.layers):
        return model
    trained = {id(v) for v in model.trainable_variables}
    graphs = (layer for layer in model.layers if is_graph(layer))
    return next((g for g in graphs if trained and {id(v) for v in g.trainable_variables} == trained), model)


def layers_in(layer: Any) -> list[Any]:
    """The layer itself and all layers in it, however deep and in whatever attribute, each once."""
    found: dict[int, Any] = {}
    waiting = [layer]
    while waiting:
        part = waiting.pop()
        if id(part) in found:
            continue
        found[id(part)] = part
        for held in vars(part).values():
            if isinstance(held, dict):
                held = held.values()
            elif not isinstance(held, (list, tuple)):
                held = [held]
            waiting += [inner for inner in held if isinstance(inner, keras.Layer)]
    return list(found.values())


def variables_of(layer: Any) -> list[Any]:
    """A layer's or model's variables and then, in a fixed order, the states of stateful layers: Keras leaves them out."""
    return [*layer.variables, *_states(layer)]


def _states(layer: Any) -> list[Any]:
    if isinstance(layer, keras.Model):
        inner = layer.layers
    elif isinstance(layer, keras.layers.Bidirectional):
        inner = [layer.forward_layer, layer.backward_layer]
    elif isinstance(layer, keras.layers.Wrapper):
        inner = [layer.layer]
    else:
        stateful = isinstance(layer, keras.layers.RNN) and layer.stateful
        return keras.tree.flatten(layer.states or []) if stateful else []
    return [state for part in inner for state in _states(part)]
