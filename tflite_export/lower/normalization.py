"""The inference twin of UnitNormalization."""

from __future__ import annotations

import keras
import tensorflow as tf

__all__ = ["UnitNormalizationTwin"]

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
        # Not sqrt(maximum(Σ x², 1e-24)): the converter would make L2_NORMALIZATION of it, which counts on norms above 1e-6.
        norm = tf.sqrt(tf.reduce_sum(tf.square(inputs), axis=self.axis, keepdims=True))
        return inputs / tf.maximum(norm, _SMALLEST)
