"""What Keras's public API doesn't tell about a model directly."""

from __future__ import annotations

from typing import Any

import keras


def is_graph(model: Any) -> bool:
    """Whether a model is Sequential or Functional, so that its layers can be walked; not if it has a `call` of its own."""
    classes = type(model).__mro__
    graph = next((c for c in classes if c.__name__ in ("Functional", "Sequential")), None)
    return graph is not None and not any("call" in vars(c) for c in classes[: classes.index(graph)])


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
