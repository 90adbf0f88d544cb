"""A float32 copy of a model that computes in half precision, as after mixed-precision training."""

from __future__ import annotations

import keras

from .errors import ExportError
from .signature import inner_layers

__all__ = ["as_float32"]

_HALF = ("float16", "bfloat16", "mixed_float16", "mixed_bfloat16")


def as_float32(functional: keras.Model) -> keras.Model:
    """The model itself, or a copy with the same weights whose layers compute in float32.

    TFLite's CPU kernels compute in float32; the file may still store the weights as float16.
    """
    policies = {layer.dtype_policy.name for layer in inner_layers(functional)}
    if not policies & set(_HALF):
        return functional
    try:
        copy = keras.saving.deserialize_keras_object(
            _replaced(keras.saving.serialize_keras_object(functional))
        )
    except (TypeError, ValueError) as error:
        line = str(error).split("\n")[0]
        raise ExportError(
            f"Model {functional.name!r} computes in {', '.join(sorted(policies & set(_HALF)))} and can't be rebuilt in "
            f"float32 ({line}); register its custom layers with keras.saving.register_keras_serializable."
        ) from error
    copy.set_weights(functional.get_weights())
    for layer in inner_layers(copy):
        if isinstance(layer, keras.layers.Normalization):  # it reckons with copies of its weights
            layer.finalize_state()
    return copy


def _replaced(config):
    """The configuration with every half-precision policy replaced."""
    if isinstance(config, dict):
        return {
            key: "float32" if _names_half(key, value) else _replaced(value) for key, value in config.items()
        }
    if isinstance(config, (list, tuple)):
        return type(config)(_replaced(value) for value in config)
    return config


def _names_half(key, value) -> bool:
    return key in ("dtype", "name") and isinstance(value, str) and value in _HALF
