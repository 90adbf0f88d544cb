"""`lowering=`: the forms, what each is refused for, and how "auto" and "tune" choose."""

import keras
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from keras import layers

import tflite_export
from tests.tflite_export.topologies import FEATURES, randomize
from tflite_export.census import operators
from tflite_export.lower.form import Form

KB = 1024


def stack(*recurrent, time=9, features=FEATURES):
    return randomize(keras.Sequential([layers.Input((time, features), name="x"), *recurrent]))


def run(path, x):
    (y,) = Interpreter(str(path)).get_signature_runner()(x=x).values()
    return y


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("quantize", [None, "float16", "dynamic_int8"])
def test_fused_gives_what_keras_gives(batch, quantize, tmp_path):
    model = stack(
        layers.LSTM(40, return_sequences=True),
        layers.Bidirectional(layers.LSTM(24, return_sequences=True, use_bias=False)),
        layers.LSTM(4),
        features=40,
    )
    options = {"batch_size": batch, "quantize": quantize}
    result = tflite_export.export(model, tmp_path / "model.tflite", lowering="fused", **options)
    assert result.ops["UNIDIRECTIONAL_SEQUENCE_LSTM"] == 4
    assert "WHILE" not in result.ops
    assert result.max_abs_error <= {None: 1e-5, "float16": 1e-2, "dynamic_int8": 0.1}[quantize]


@pytest.mark.parametrize("time", [9, None])
def test_fused_starts_every_call_from_zero(time, tmp_path):
    """The operator itself goes on where the last call ended."""
    model = stack(layers.LSTM(8, return_sequences=True), time=time)
    tflite_export.export(model, tmp_path / "model.tflite", lowering="fused")
    runner = Interpreter(str(tmp_path / "model.tflite")).get_signature_runner()
    for seed in range(3):
        x = np.random.default_rng(seed).normal(size=(1, 9, FEATURES)).astype("float32") * 5
        (y,) = runner(x=x).values()
        np.testing.assert_allclose(y, model(x), atol=1e-5)


def test_fused_does_not_clip_the_cell(tmp_path):
    """c counts the steps up to 30 and down again to 5; clipped at 10, it would end at -15."""
    model = keras.Sequential([layers.Input((55, 1), name="x"), layers.LSTM(1)])
    i, f, g, o = 0, 1, 2, 3
    kernel, bias = np.zeros((1, 4), "float32"), np.zeros(4, "float32")
    kernel[0, g], bias[[i, f, o]] = 20.0, 20.0
    model.set_weights([kernel, np.zeros((1, 4), "float32"), bias])
    x = np.concatenate([np.ones(30), -np.ones(25)]).reshape(1, 55, 1).astype("float32")
    tflite_export.export(model, tmp_path / "model.tflite", lowering="fused")
    assert run(tmp_path / "model.tflite", x) == pytest.approx(np.tanh(5.0), abs=1e-5)


REFUSED = {
    "gru": (lambda: stack(layers.GRU(4)), "fused", "only for LSTM"),
    "activation": (lambda: stack(layers.LSTM(4, activation="relu")), "fused", "tanh and sigmoid"),
    "mask": (lambda: stack(layers.Masking(), layers.LSTM(4)), "fused", "knows no mask"),
    "state": (lambda: stack(layers.LSTM(4, return_state=True)), "fused", "nor returns states"),
    "length": (lambda: stack(layers.LSTM(4), time=None), "unroll", "time_steps"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_form_that_the_layer_can_not_have_is_refused(name, tmp_path):
    make, lowering, reason = REFUSED[name]
    model = make()
    layer = next(layer.name for layer in model.layers if isinstance(layer, layers.RNN))
    with pytest.raises(tflite_export.ExportError, match=f"Layer '{layer}'.*{lowering}.*{reason}"):
        tflite_export.export(model, tmp_path / "model.tflite", lowering=lowering)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("lowering", ["fast", None, 3])
def test_unknown_form_is_refused(lowering, tmp_path):
    with pytest.raises(tflite_export.ExportError, match='`lowering`. Expected one of "auto"'):
        tflite_export.export(stack(layers.LSTM(4)), tmp_path / "model.tflite", lowering=lowering)


@pytest.mark.parametrize("lowering", ["fused", "tune"])
def test_streaming_files_have_no_such_form(lowering, tmp_path):
    with pytest.raises(tflite_export.ExportError, match="not for streaming"):
        tflite_export.export(
            stack(layers.LSTM(4)), tmp_path / "model.tflite", lowering=lowering, streaming=True
        )


@pytest.mark.parametrize("time", [9, None])
def test_tune_tells_what_was_fastest(time, tmp_path):
    model = stack(layers.LSTM(8, return_sequences=True), layers.GRU(4), time=time)
    result = tflite_export.export(model, tmp_path / "model.tflite", lowering="tune")
    assert result.max_abs_error <= 1e-5
    (note,) = result.notes
    assert note.startswith("tuned on this machine: ")
    # A GRU has no fused form, an open length no unrolled one.
    assert f"of {5 if time else 4} forms" in note
    assert ("WHILE" in result.ops) == ("a loop of" in note.split(",")[0])


# Recurrent weights of an LSTM of n units: 4 n².
@pytest.mark.parametrize(
    ("units", "weight_bytes", "steps"),
    [(64, 4, 4), (110, 4, 4), (150, 4, 2), (256, 4, 1), (1500, 4, 1), (150, 1, 4), (256, 1, 3), (373, 1, 1)],
)
def test_auto_runs_as_many_steps_a_turn_as_the_cache_holds(units, weight_bytes, steps):
    form = Form(weight_bytes=weight_bytes)
    assert form.steps_per_turn(None, 4 * units**2) == steps
    assert steps * 4 * units**2 * weight_bytes <= 768 * KB or steps == 1


def test_a_whole_number_of_turns_is_preferred():
    form = Form()
    assert [form.steps_per_turn(time, 64) for time in (64, 63, 9, 5, 2)] == [4, 3, 3, 4, 2]


@pytest.mark.parametrize(
    ("units", "time", "unrolled"),
    [(1500, 1, True), (32, 32, True), (32, 33, False), (64, 8, True), (64, 9, False), (8, None, False)],
)
def test_auto_spares_the_loop_where_all_steps_fit(units, time, unrolled):
    assert Form().unrolls(time, 4 * units**2) is unrolled


def test_form_is_chosen_on_the_command_line(tmp_path):
    from keras_iss.__main__ import main

    stack(layers.LSTM(4)).save(tmp_path / "model.keras")
    arguments = ["export", str(tmp_path / "model.keras"), "-o", str(tmp_path / "model.tflite")]
    assert main([*arguments, "--lowering", "fused"]) == 0
    assert "UNIDIRECTIONAL_SEQUENCE_LSTM" in operators((tmp_path / "model.tflite").read_bytes())
