"""Exports of models of another backend than TensorFlow, which convert in a process of their own."""

import tempfile
from pathlib import Path

import keras
import numpy as np
from keras import layers

import tflite_export
from keras_iss.layers import HLSTM, RHN


def unknown():
    """A model with a layer that no other process can find."""

    @keras.saving.register_keras_serializable("jax_scenarios")
    class Unknown(layers.Layer):
        def call(self, x):
            return x + 1.0

    return keras.Sequential([layers.Input((2, 3)), Unknown(), layers.LSTM(2)])


def refusal(model, path, **options):
    """The one sentence with which an export is refused."""
    try:
        tflite_export.export(model, path, **options)
    except tflite_export.ExportError as error:
        return str(error)
    return "no error"


def whole(folder):
    model = keras.Sequential(
        [
            layers.Input((None,)),
            layers.Embedding(9, 4, mask_zero=True),
            layers.Bidirectional(HLSTM(4, gate_units=(2,), return_sequences=True)),
            RHN(3, depth=2),
        ]
    )
    model.compile("adam", "mse")
    result = tflite_export.export(model, folder / "a.tflite", batch_size=2, time_steps=6)
    return {"error": result.max_abs_error, "refusal": refusal(unknown(), folder / "b.tflite")}


def stream(folder):
    model = keras.Sequential(
        [
            layers.Input((None, 3)),
            layers.Conv1D(4, 3, padding="causal"),
            layers.LSTM(4, return_sequences=True, name="lstm"),
        ]
    )
    both = keras.Sequential([layers.Input((2, 3)), layers.Bidirectional(layers.LSTM(2))])
    result = tflite_export.export(model, folder / "a.tflite", batch_size=2, streaming=True)
    return {
        "error": result.max_abs_error,
        "states": result.signatures["initial_state"]["outputs"],
        "refusal": refusal(both, folder / "b.tflite", streaming=True),
    }


def integers(folder):
    model = keras.Sequential([layers.Input((6, 3)), layers.LSTM(8), layers.Dense(2)])
    x = np.random.default_rng(0).normal(size=(20, 6, 3)).astype("float32")
    y = model.predict(x, verbose=0)
    options = {"representative_data": x, "metric": "mse", "data": (x, y), "max_metric_drop": 0.01}
    path = tflite_export.export(model, folder / "a.tflite", quantize="int8", **options).path
    return {"metric": tflite_export.compare(model, path, (x, y), "mse", runs=1).rows[0].metric}


def everything():
    found = {"backend": keras.backend.backend()}
    for scenario in (whole, stream, integers):
        with tempfile.TemporaryDirectory() as folder:
            told = scenario(Path(folder)) | {"files": sorted(path.name for path in Path(folder).iterdir())}
        found |= {f"{scenario.__name__}|{name}": value for name, value in told.items()}
    return found
