"""From a Keras model to TFLite bytes; everything that needs the TensorFlow backend."""

from __future__ import annotations

import re
import tempfile

import keras
import tensorflow as tf

from ..errors import ExportError
from ..quantize import recipe
from ..signature import input_names, output_names
from .model import lower

__all__ = ["build"]


def build(functional: keras.Model, *, batch_size: int, time_steps: int | None, quantize: str | None) -> bytes:
    """Lower the model and convert it, with named inputs and outputs and built-in operators only."""
    lowered = lower(functional, batch_size, time_steps)
    names, outputs = input_names(functional), output_names(functional)
    specs = {
        name: tf.TensorSpec(x.shape, x.dtype, name=name)
        for name, x in zip(names, keras.tree.flatten(lowered.input), strict=True)
    }

    @tf.function
    def serve(**inputs):
        flat = [inputs[name] for name in names]
        results = lowered(keras.tree.pack_sequence_as(lowered.input, flat), training=False)
        # The identity keeps an output that is also an input, or another output, apart.
        return {name: tf.identity(y) for name, y in zip(outputs, keras.tree.flatten(results), strict=True)}

    module = tf.Module()
    module.weights = [v.value for v in lowered.variables]
    with tempfile.TemporaryDirectory() as folder:
        tf.saved_model.save(module, folder, signatures=serve.get_concrete_function(**specs))
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        recipe(quantize).configure(converter)
        try:
            return converter.convert()
        except Exception as error:
            raise _explained(error, functional) from error


def _explained(error: Exception, model: keras.Model) -> ExportError:
    """The converter's pages of output, as the one sentence that matters."""
    operators = sorted(set(re.findall(r"(?:tf|Flex)\.?([A-Z]\w+)", str(error))))
    if not operators:
        line = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        return ExportError(f"Model {model.name!r} can't be converted to TFLite: {line.strip()}")
    return ExportError(
        f"Model {model.name!r} needs {', '.join(operators)}, which LiteRT has no built-in operator for; "
        "replace the layer that uses it (no TensorFlow operator is put into the file, since phones can't run it)."
    )
