"""Which rule tells, for a layer class, what units it makes and how units pass through it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import keras

if TYPE_CHECKING:
    from keras_iss.calls import Call

Rule = Callable[["Call"], Any]
_rules: dict[type, Rule] = {}
becomes: dict[type, type] = {}  # layer class -> what it is rebuilt as when a number of its config changes


def register(layer_class: type, rule: Rule) -> None:
    """Teaches tracing a layer class of your own.

    The rule is called with a `Call`: the layer, and a `Signal` in place of every tensor it is called with. It tells
    which units the layer makes (`call.structure`, `call.writes`), which weights read the units that come in
    (`call.reads`), and returns the signals of the outputs. A class without a rule pins everything that reaches it.

    Args:
        layer_class: A `keras.layers.Layer` class or an RNN cell class. Subclasses need a rule of their own,
            because they may compute something else.
        rule: The rule, a function of one `Call`.

    Raises:
        TypeError: If `layer_class` is not a class or `rule` is not callable.

    Example:

    >>> import keras, keras_iss
    >>> class Halve(keras.layers.Layer):
    ...     def call(self, x):
    ...         return x / 2
    >>> keras_iss.register(Halve, lambda call: call.args[0].passed())   # 0 stays 0: units pass through
    """
    if not isinstance(layer_class, type) or not callable(rule):
        raise TypeError(
            "Invalid arguments for register. Expected a layer class and a function of one call. "
            f"Received: layer_class={layer_class!r}, rule={rule!r}"
        )
    _rules[layer_class] = rule


def rule_for(layer: Any) -> Rule | None:
    """The rule of a layer, by its exact class; of a `keras.ops` operation, by its name."""
    import keras_iss.rules  # noqa: F401 (registers the built-in rules)

    rule = _rules.get(type(layer))
    if (
        rule is None
        and not isinstance(layer, keras.layers.Layer)
        and type(layer).__module__.startswith("keras.")
    ):
        rule = operations.get(type(layer).__name__)
    return rule


operations: dict[str, Rule] = {}  # operation classes are not part of Keras's public API: found by their names

# Elementwise functions, by the names that keras.activations.serialize gives.
_ZERO_AT_ZERO = {
    "linear", "relu", "relu6", "tanh", "elu", "selu", "celu", "gelu", "silu", "swish", "leaky_relu", "softsign", "mish",
    "hard_tanh", "hard_silu", "hard_swish", "tanh_shrink", "soft_shrink", "hard_shrink",
}  # fmt: skip
_ELEMENTWISE = _ZERO_AT_ZERO | {"sigmoid", "hard_sigmoid", "softplus", "exponential", "log_sigmoid", "sparse_sigmoid",
                                "squareplus", "sparse_plus", "threshold"}  # fmt: skip


def zero_at_zero(activation: Any) -> bool | None:
    """Whether an activation maps 0 to 0; None if it isn't known to work on each unit alone."""
    if activation is None:
        return True
    name = keras.activations.serialize(activation)
    if not isinstance(name, str) or getattr(keras.activations, name, None) is not activation:
        return None
    return name in _ZERO_AT_ZERO if name in _ELEMENTWISE else None
