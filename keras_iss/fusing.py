"""Compiles elementwise arithmetic into few passes over memory, where the backend doesn't do so by itself."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import keras


def fused(function: Callable[..., Any]) -> Callable[..., Any]:
    """A pure function of tensors, compiled by XLA inside TensorFlow graphs.

    A TensorFlow graph runs operations one by one, each a pass through memory; pruning touches every weight at every
    step, so that costs more than the arithmetic. JAX fuses by itself; eager code runs as it is, and so does a
    TensorFlow that was built without XLA.

    Args:
        function: Takes and returns tensors, or dicts of them, and None; no variables.

    Returns:
        A function that gives the same results.
    """
    if keras.backend.backend() != "tensorflow" or not _has_xla():
        return function
    import tensorflow as tf

    compiled = tf.function(function, jit_compile=True, autograph=False)

    def call(*arguments: Any) -> Any:
        if tf.executing_eagerly():
            return function(*arguments)
        read = lambda x: x if x is None else tf.convert_to_tensor(x)  # noqa: E731 (Keras hands over tf.Variables)
        return compiled(*keras.tree.map_structure(read, arguments))

    return call


@functools.cache
def _has_xla() -> bool:
    import tensorflow as tf

    try:
        with tf.init_scope():
            tf.function(lambda x: x + 1.0, jit_compile=True)(tf.constant(0.0))
    except (tf.errors.OpError, ValueError):
        return False
    return True
