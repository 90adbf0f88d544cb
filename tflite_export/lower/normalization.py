"""Inference twins of UnitNormalization and of a Dot that normalizes."""

from __future__ import annotations

import keras
import tensorflow as tf

__all__ = ["DotTwin", "UnitNormalizationTwin"]

_SMALLEST = 1e-12  # norm that Keras divides by


class UnitNormalizationTwin(keras.Layer):
    """Twin of UnitNormalization that gives 0 for zeros, as Keras does.

    Keras bounds 1 / sqrt(Σ x²) after it is computed, but XNNPACK's 1 / sqrt(0) is NaN; the norm is bounded instead.
    """

    def __init__(self, layer: keras.layers.UnitNormalization):
        super().__init__(name=layer.name, dtype="float32")
        self.supports_masking = True
        self.axis = layer.axis
        self.built = True

    def compute_output_shape(self, input_shape):
        return input_shape

    def call(self, inputs):
        return _normalized(inputs, self.axis)


class DotTwin(keras.Layer):
    """Twin of a Dot with `normalize=True`, for the same reason."""

    def __init__(self, layer: keras.layers.Dot):
        super().__init__(name=layer.name, dtype="float32")
        self.supports_masking = True
        self.dot = keras.layers.Dot(layer.axes)
        self.axes = layer.axes if isinstance(layer.axes, (list, tuple)) else [layer.axes] * 2
        self.built = True

    def compute_output_shape(self, input_shape):
        return self.dot.compute_output_shape(input_shape)

    def compute_mask(self, inputs, mask=None):
        return None

    def call(self, inputs):
        return self.dot([_normalized(x, axis) for x, axis in zip(inputs, self.axes, strict=True)])


def _normalized(x, axis):
    # Not sqrt(maximum(Σ x², 1e-24)): the converter would make L2_NORMALIZATION of it, which counts on norms above 1e-6.
    norm = tf.sqrt(tf.reduce_sum(tf.square(x), axis=axis, keepdims=True))
    return x / tf.maximum(norm, _SMALLEST)
