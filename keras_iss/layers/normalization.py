"""Normalizations over units of which some are gone: what `strip` makes of Keras's own."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_iss.structures import at_least_float32
from keras_iss.units import from_end

__all__ = ["StrippedLayerNormalization", "StrippedRMSNormalization"]


class OverAllUnits(keras.layers.Layer):
    """What both have in common: the count of all units, of which the input has some. The other base is Keras's own layer."""

    axis: Any

    def __init__(self, total_units: int, axis: Any = -1, **kwargs: Any):
        super().__init__(axis=axis, **kwargs)
        if not isinstance(total_units, int) or isinstance(total_units, bool) or total_units < 1:
            raise ValueError(
                f"Invalid value for argument total_units of {self.name!r}. Expected a positive integer. "
                f"Received: total_units={total_units!r}"
            )
        self.total_units = total_units

    def build(self, input_shape: Any) -> None:
        if from_end(self.axis, len(input_shape)) != [-1]:
            raise ValueError(
                f"Invalid value for argument axis of {self.name!r}. Expected -1, the features. Received: axis={self.axis}"
            )
        if input_shape[-1] is None or input_shape[-1] > self.total_units:
            raise ValueError(
                f"Input of {self.name!r} has the shape {tuple(input_shape)}. Expected at most "
                f"total_units={self.total_units} features."
            )
        super().build(input_shape)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "total_units": self.total_units}


@keras.saving.register_keras_serializable(package="keras_iss")
class StrippedLayerNormalization(OverAllUnits, keras.layers.LayerNormalization):
    r"""`keras.layers.LayerNormalization` over N units, of which those that are always 0 aren't there anymore.

    For the n units that are left, μ = Σ x / N and σ² = (Σ (x - μ)² + (N - n) μ²) / N: mean and variance are those of all
    N, so every output is what it was. `keras_iss.strip` puts it in the place of a LayerNormalization that loses
    units; it has the same weights, and trains on like one.

    Args:
        total_units: N. With as many units as the input has, it is `keras.layers.LayerNormalization`.
        axis: The last one, the features.
        **kwargs: As in `keras.layers.LayerNormalization`.

    Returns:
        The input's shape, (..., n).

    Raises:
        ValueError: If `total_units` isn't a positive integer, the axis isn't the last one, or the input has more features.

    Example:

    >>> import keras, keras_iss
    >>> whole, rest = keras.ops.array([[1.0, 3.0, 0.0, 0.0]]), keras.ops.array([[1.0, 3.0]])
    >>> expected = keras.layers.LayerNormalization()(whole)[:, :2]
    >>> received = keras_iss.layers.StrippedLayerNormalization(total_units=4)(rest)
    >>> bool(keras.ops.all(keras.ops.abs(expected - received) < 1e-6))
    True

    Source: Ba, Kiros and Hinton, arXiv 1607.06450, equation 4.
    """

    def call(self, inputs: Any) -> Any:
        x = at_least_float32(inputs)
        mean = ops.sum(x, axis=-1, keepdims=True) / self.total_units
        centered = x - mean
        missing = self.total_units - x.shape[-1]
        squares = ops.sum(ops.square(centered), axis=-1, keepdims=True) + missing * ops.square(mean)
        outputs = centered * ops.rsqrt(squares / self.total_units + self.epsilon)
        if self.gamma is not None:
            outputs = outputs * ops.cast(self.gamma, outputs.dtype)
        if self.beta is not None:
            outputs = outputs + ops.cast(self.beta, outputs.dtype)
        return ops.cast(outputs, self.compute_dtype)


@keras.saving.register_keras_serializable(package="keras_iss")
class StrippedRMSNormalization(OverAllUnits, keras.layers.RMSNormalization):
    r"""`keras.layers.RMSNormalization` over N units, of which those that are always 0 aren't there anymore.

    The mean square is Σ x² / N over the n units that are left, so every output is what it was. `keras_iss.strip` puts it in
    the place of an RMSNormalization that loses units; it has the same weights, and trains on like one.

    Args:
        total_units: N. With as many units as the input has, it is `keras.layers.RMSNormalization`.
        axis: The last one, the features.
        **kwargs: As in `keras.layers.RMSNormalization`.

    Returns:
        The input's shape, (..., n).

    Raises:
        ValueError: If `total_units` isn't a positive integer, the axis isn't the last one, or the input has more features.

    Example:

    >>> import keras, keras_iss
    >>> rest = keras.ops.array([[3.0, 4.0]])
    >>> [round(float(y), 3) for y in keras_iss.layers.StrippedRMSNormalization(total_units=4)(rest)[0]]
    [1.2, 1.6]

    Source: Zhang and Sennrich, arXiv 1910.07467, equation 4.
    """

    def call(self, inputs: Any) -> Any:
        x = at_least_float32(inputs)
        squares = ops.sum(ops.square(x), axis=-1, keepdims=True)
        outputs = x * ops.rsqrt(squares / self.total_units + self.epsilon)
        return ops.cast(outputs * ops.cast(self.scale, outputs.dtype), self.compute_dtype)
