"""A streamed sequence gives what Keras gives for the whole, however it's cut."""

import keras
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from keras import layers

import tflite_export
from tests.tflite_export.streams import FEATURES, STREAMS, Stream, causal, joined, stack
from tests.tflite_export.topologies import randomize
from tflite_export.inputs import input_kinds, sample
from tflite_export.quantize import RECIPES
from tflite_export.signature import as_functional

ON_JAX = "tests.tflite_export.jax_scenarios"
BATCH = 2


def sounds(steps, batch=BATCH, seed=0):
    return np.random.default_rng(seed).normal(size=(batch, steps, FEATURES)).astype("float32")


def test_every_state_has_a_tensor_of_its_own(tmp_path):
    """h and c start as equal constants; who tells outputs by their tensors would find only one of them."""
    model = stack(layers.LSTM(4, name="lstm"))
    tflite_export.export(model, tmp_path / "model.tflite", streaming=True)
    runner = Interpreter(str(tmp_path / "model.tflite")).get_signature_runner("initial_state")
    details = runner.get_output_details()
    assert details["lstm_h"]["index"] != details["lstm_c"]["index"]


@pytest.mark.parametrize("name", STREAMS)
def test_steps_chunks_and_the_whole_give_what_keras_gives(name, tmp_path):
    build, states = STREAMS[name]
    model = randomize(build())
    result = tflite_export.export(model, tmp_path / "model.tflite", batch_size=BATCH, streaming=True)
    assert result.max_abs_error <= 1e-5
    ends = result.signatures
    assert ends["initial_state"] == {"inputs": [], "outputs": sorted(states)}
    assert ends["step"] == ends["sequence"]
    assert set(states) < set(ends["step"]["inputs"])
    assert set(states) < set(ends["step"]["outputs"])
    assert not [operator for operator in result.ops if operator.startswith("Flex")]
    loops = {"WHILE", "IF", "PAD"} & set(result.signature_ops["step"])
    assert not loops or name == "summary_written_out", "its decoder reads a whole sequence at every step"

    stream = Stream(tmp_path / "model.tflite")
    functional, steps = as_functional(model), 7
    kinds = input_kinds(functional)
    values = sample(kinds, BATCH, steps, np.random.default_rng(1))
    inputs = {kind.name: x for kind, x in zip(kinds, values, strict=True)}
    wired = {name: inputs.pop(name) for name in list(inputs) if name in states}
    expected = keras.tree.flatten(functional(keras.tree.pack_sequence_as(functional.input, values)))
    for chunks in ([1] * steps, [1, 4, 2]):
        parts, _ = stream.run(inputs, chunks, fixed={"voice"}, **wired)
        outputs = [name for name in ends["step"]["outputs"] if name not in states]
        got = [joined(parts, name) for name in outputs]
        for y in expected:
            difference = min(np.abs(g - y).max() for g in got if g.shape == y.shape)
            assert difference <= 1e-5, chunks


@pytest.mark.parametrize("name", ["stack_of_layers", "speech_front", "masking"])
def test_a_fixed_chunk_gives_the_same(name, tmp_path):
    model = randomize(STREAMS[name][0]())
    result = tflite_export.export(
        model, tmp_path / "model.tflite", batch_size=BATCH, time_steps=4, streaming=True
    )
    assert result.max_abs_error <= 1e-5
    runner = Interpreter(str(tmp_path / "model.tflite")).get_signature_runner("sequence")
    assert list(runner.get_input_details()["x"]["shape"])[:2] == [BATCH, 4]


def test_a_plain_interpreter_runs_the_step(tmp_path):
    tflite_export.export(
        STREAMS["stack_of_cells"][0](), tmp_path / "model.tflite", streaming=True, verify=False
    )
    interpreter = Interpreter(str(tmp_path / "model.tflite"))
    interpreter.allocate_tensors()
    named = interpreter.get_signature_runner("step").get_input_details().values()
    assert {d["index"] for d in named} == {d["index"] for d in interpreter.get_input_details()}
    assert all("step" in d["name"] for d in interpreter.get_input_details())


def test_step_of_an_lstm_is_two_products_and_its_gates(tmp_path):
    model = stack(layers.LSTM(8, return_sequences=True))
    result = tflite_export.export(model, tmp_path / "model.tflite", streaming=True)
    ops = result.signature_ops["step"]
    assert ops["FULLY_CONNECTED"] == 2
    assert sum(ops.values()) <= 16


def large_model():
    """Weights of 300 kB in float32, most of them zero, in every kind of layer that streams."""
    hidden = [
        layers.LSTM(64, return_sequences=True),
        layers.GRU(64, return_sequences=True),
        layers.SimpleRNN(64, return_sequences=True),
    ]
    model = stack(causal(64, 5), causal(64, 3, dilation_rate=2), *hidden, layers.Dense(10))
    rng = np.random.default_rng(0)
    for weight in model.weights:
        weight.assign(rng.normal(size=weight.shape, scale=0.2) * (rng.random(weight.shape) < 0.3))
    return model


@pytest.mark.parametrize("quantize", RECIPES)
def test_all_signatures_share_the_weights(quantize, tmp_path):
    """Beside the weights a stream needs 20 kB for its graphs; twice the weights would be 80 kB in 8 bits."""
    model, x = large_model(), sounds(9, batch=1)

    def exported(path, steps, **options):
        if RECIPES[quantize].calibrated:
            options["representative_data"] = sounds(steps, batch=4)
        return tflite_export.export(model, path, quantize=quantize, time_steps=4, **options)

    whole = exported(tmp_path / "whole.tflite", 4, verify=False)
    stream = exported(tmp_path / "stream.tflite", 23, streaming=True)
    assert stream.size_bytes < whole.size_bytes + 20_000
    expected = np.array(model(x))
    for chunks in ([1] * 9, [4, 1, 4]):
        parts, _ = Stream(tmp_path / "stream.tflite").run({"x": x}, chunks)
        (name,) = parts[0]
        error = np.linalg.norm(joined(parts, name) - expected) / np.linalg.norm(expected)
        assert error <= (0.1 if RECIPES[quantize].max_rms else 1e-5)


def test_ten_thousand_steps_do_not_drift(tmp_path):
    model = randomize(stack(layers.LSTM(8, return_sequences=True), layers.GRU(8, return_sequences=True)))
    tflite_export.export(model, tmp_path / "model.tflite", streaming=True)
    x = sounds(10_000, batch=1)
    parts, _ = Stream(tmp_path / "model.tflite").run({"x": x}, [1] * 10_000)
    (name,) = parts[0]
    np.testing.assert_allclose(joined(parts, name), model.predict(x, verbose=0), rtol=0, atol=1e-4)


def test_a_stream_starts_where_its_cell_does_and_goes_on_from_any_state(tmp_path):
    model = randomize(STREAMS["cell_of_the_users"][0]())
    tflite_export.export(model, tmp_path / "model.tflite", batch_size=BATCH, streaming=True)
    stream = Stream(tmp_path / "model.tflite")
    start = stream.start()
    np.testing.assert_array_equal(start["rnn_state0"], np.ones((BATCH, 4)))
    np.testing.assert_array_equal(start["rnn_state1"], np.zeros((BATCH, 4)))
    x = sounds(6)
    _, half = stream.run({"x": x[:, :3]}, [3])
    rest, _ = stream.run({"x": x[:, 3:]}, [1, 1, 1], **half)
    np.testing.assert_allclose(joined(rest, "rnn"), model(x)[:, 3:], atol=1e-5)


def test_outputs_say_something_after_every_step(tmp_path):
    """What a layer with return_sequences=False gives at step t is what Keras gives for the first t steps."""
    model = randomize(STREAMS["classifier"][0]())
    tflite_export.export(model, tmp_path / "model.tflite", batch_size=BATCH, streaming=True)
    x = sounds(5)
    parts, _ = Stream(tmp_path / "model.tflite").run({"x": x}, [1] * 5)
    for t, part in enumerate(parts):
        (y,) = part.values()
        np.testing.assert_allclose(y, model(x[:, : t + 1]), atol=1e-5)


def test_padding_anywhere_in_a_stream_is_skipped(tmp_path):
    model = randomize(STREAMS["tokens_masked"][0]())
    tflite_export.export(model, tmp_path / "model.tflite", batch_size=BATCH, streaming=True, verify=False)
    stream = Stream(tmp_path / "model.tflite")
    for padded in (slice(0, 3), slice(2, 5), slice(4, 9), slice(0, 9)):
        x = np.random.default_rng(0).integers(1, 11, (BATCH, 9)).astype("int32")
        x[0, padded] = 0
        expected = model(x)
        for chunks in ([1] * 9, [2, 2, 5], [9]):
            parts, _ = stream.run({"x": x}, chunks)
            (y,) = parts[-1].values()
            np.testing.assert_allclose(y, expected, atol=1e-5)


def test_a_stream_that_differs_from_keras_is_not_written(tmp_path, monkeypatch):
    honest = tflite_export.convert.convert
    other = as_functional(randomize(STREAMS["lstm"][0](), seed=5))
    monkeypatch.setattr(tflite_export.convert, "convert", lambda model, **options: honest(other, **options))
    with pytest.raises(tflite_export.ExportError, match="fed step by step: the file's outputs differ"):
        tflite_export.export(randomize(STREAMS["lstm"][0]()), tmp_path / "model.tflite", streaming=True)
    assert not list(tmp_path.iterdir())


def test_summary_shows_each_signature(tmp_path):
    result = tflite_export.export(
        STREAMS["classifier"][0](), tmp_path / "model.tflite", streaming=True, verify=False
    )
    lines = str(result).splitlines()
    assert any(line.startswith("  initial_state: nothing -> lstm_c, lstm_h") for line in lines)
    assert any(line.startswith("  step: lstm_c, lstm_h, x -> ") for line in lines)
    assert sum("FULLY_CONNECTED" in line for line in lines) == 3


def test_mixed_precision_streams_in_float32(tmp_path):
    model = randomize(stack(layers.LSTM(5, return_sequences=True, dtype="mixed_float16", name="lstm")))
    result = tflite_export.export(model, tmp_path / "model.tflite", streaming=True)
    assert result.max_abs_error <= 1e-5
    details = Interpreter(str(tmp_path / "model.tflite")).get_signature_runner("step").get_input_details()
    assert {d["dtype"] for d in details.values()} == {np.float32}


def test_exporting_leaves_the_model_as_it_was(tmp_path):
    model = randomize(STREAMS["nested_twice"][0]())
    model.compile("adam", "mse")
    x = np.random.default_rng(0).normal(size=(2, 7, FEATURES)).astype("float32")
    config, weights, outputs = model.get_config(), model.get_weights(), np.array(model(x))
    tflite_export.export(model, tmp_path / "model.tflite", streaming=True, verify=False)
    assert model.get_config() == config
    for before, after in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)
    np.testing.assert_array_equal(model(x), outputs)


def test_models_of_other_backends_stream(on_jax):
    assert on_jax["backend"] == "jax"
    assert on_jax["stream|error"] <= 1e-5
    assert on_jax["stream|states"].tolist() == ["conv1d_window", "lstm_c", "lstm_h"]
    assert "Bidirectional" in str(on_jax["stream|refusal"])
    assert on_jax["stream|files"].tolist() == ["a.tflite"]
