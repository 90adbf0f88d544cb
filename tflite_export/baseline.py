"""Keras's own LiteRT export: what ours is measured against. Needs the TensorFlow backend."""

from __future__ import annotations

from pathlib import Path

import keras
import tensorflow as tf

from .files import working_folder

__all__ = ["keras_build"]


def keras_build(
    functional: keras.Model, *, batch_size: int, time_steps: int | None, quantize: str | None
) -> bytes:
    """The bytes that `model.export(format="litert")` writes, with the batch and the steps fixed."""
    specs = keras.tree.map_structure(
        lambda x: tf.TensorSpec(
            [batch_size, *(time_steps if n is None else n for n in x.shape[1:])], x.dtype
        ),
        functional.input,
    )
    options = {} if quantize is None else {"optimizations": [tf.lite.Optimize.DEFAULT]}
    with working_folder() as folder:
        path = Path(folder) / "model.tflite"
        functional.export(path, format="litert", verbose=False, input_signature=[specs], **options)
        return path.read_bytes()
