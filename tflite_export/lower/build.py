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
    setattr(module, "weights", [v.value for v in lowered.variables])  # noqa: B010 - tf.Module tracks what it's given
    try:
        function = serve.get_concrete_function(**specs)
    except Exception as error:
        raise _own_error(error) or error from None
    try:
        with tempfile.TemporaryDirectory() as folder:
            tf.saved_model.save(module, folder, signatures=function)
            converter = tf.lite.TFLiteConverter.from_saved_model(folder)
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
            recipe(quantize).configure(converter)
            return converter.convert()
    except Exception as error:
        raise _explained(error, functional, time_steps) from error


def _own_error(error: BaseException | None) -> ExportError | None:
    """The error that a twin raised, which Keras and TensorFlow wrap in pages of their own."""
    while error is not None and (not isinstance(error, ExportError) or "\n" in str(error)):
        error = error.__context__
    return error


def _explained(error: Exception, functional: keras.Model, time_steps: int | None) -> ExportError:
    """The converter's pages of output, as the one sentence that matters."""
    text = str(error)
    operators = sorted(set(re.findall(r"\b(?:tf\.|Flex)([A-Z]\w+)", text)))
    if not operators:
        line = next((line for line in text.splitlines() if line.strip()), type(error).__name__)
        return ExportError(f"Model {functional.name!r} can't be converted to TFLite: {line.strip()}")
    layers = [
        layer.name for layer in functional.layers if re.search(rf"\b{re.escape(layer.name)}(_\d+)?/", text)
    ]
    where = f" (layer {', '.join(map(repr, layers))})" if layers else ""
    mend = "replace the layer that uses it"
    if time_steps is None and any(x.shape[1:2] == (None,) for x in functional.inputs):
        mend = "fix the length with time_steps=..., which often avoids it, or " + mend
    return ExportError(
        f"Model {functional.name!r} needs the TensorFlow operator {', '.join(operators)}{where} in a form that LiteRT "
        f"has no built-in operator for; {mend}."
    )
