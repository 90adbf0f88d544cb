"""Every layer and topology computes in LiteRT what it computes in Keras."""

import keras
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from keras import layers

import tflite_export
from tests.tflite_export.topologies import FEATURES, MASKED, TOPOLOGIES, bidirectional, randomize

BATCH = 3


@pytest.mark.parametrize("lowering", ["loop", "unroll"])
@pytest.mark.parametrize("name", [*TOPOLOGIES, *MASKED])
def test_file_gives_what_keras_gives(name, lowering, tmp_path):
    model = randomize({**TOPOLOGIES, **MASKED}[name]())
    result = tflite_export.export(model, tmp_path / "model.tflite", batch_size=BATCH, lowering=lowering)
    assert result.max_abs_error <= 1e-5
    assert not [op for op in result.ops if op.startswith("Flex")]


NORMALIZED = {
    "plain": lambda x: layers.UnitNormalization()(x),
    "over time": lambda x: layers.TimeDistributed(layers.UnitNormalization())(x),
    "product": lambda x: layers.Dot(axes=-1, normalize=True)([x, x]),
}


@pytest.mark.parametrize("norm", NORMALIZED)
def test_normalized_zeros_are_zeros(norm, tmp_path):
    """XNNPACK's 1 / sqrt(0) is NaN, so that Keras's own graph would give NaN."""
    x = keras.Input((4, FEATURES), name="x")
    model = keras.Model(x, layers.SimpleRNN(2, return_sequences=True)(NORMALIZED[norm](x)))
    tflite_export.export(model, tmp_path / "model.tflite")
    run = Interpreter(str(tmp_path / "model.tflite")).get_signature_runner()
    value = np.random.default_rng(0).normal(size=(1, 4, FEATURES)).astype("float32")
    value[:, 1] = 0
    value[:, 2] *= 1e-7
    (got,) = run(x=value).values()
    np.testing.assert_allclose(got, keras.ops.convert_to_numpy(model(value)), atol=1e-5)


def open_stack(*stack):
    return keras.Sequential([layers.Input((None, FEATURES)), *stack])


OPEN = {
    "lstm": lambda: open_stack(layers.LSTM(5, return_sequences=True), layers.LSTM(4)),
    "gru": lambda: open_stack(layers.GRU(5, return_sequences=True), layers.Dense(2)),
    "bidirectional": lambda: open_stack(bidirectional("concat", return_sequences=True), bidirectional("sum")),
    "backwards": lambda: open_stack(layers.SimpleRNN(5, go_backwards=True, return_sequences=True)),
    "masked": lambda: open_stack(
        layers.Masking(), layers.LSTM(5, return_sequences=True), layers.TimeDistributed(layers.Dense(2))
    ),
}


@pytest.mark.parametrize("name", OPEN)
def test_length_is_chosen_at_run_time(name, tmp_path):
    model = randomize(OPEN[name]())
    tflite_export.export(model, tmp_path / "model.tflite", batch_size=2)
    run = Interpreter(str(tmp_path / "model.tflite")).get_signature_runner()
    ((feed, _),) = run.get_input_details().items()
    for steps in (1, 3, 16, 17, 50):
        x = np.random.default_rng(steps).normal(size=(2, steps, FEATURES)).astype("float32")
        x[1, steps // 2 :] = 0.0
        (y,) = run(**{feed: x}).values()
        np.testing.assert_allclose(y, model(x), rtol=1e-5, atol=1e-6)


def test_final_states_of_an_open_length_are_those_of_the_last_step(tmp_path):
    x = keras.Input((None, FEATURES), name="x")
    y, h, c = layers.LSTM(4, return_sequences=True, return_state=True)(x)
    model = randomize(keras.Model(x, {"y": y, "h": h, "c": c}))
    tflite_export.export(model, tmp_path / "model.tflite")
    run = Interpreter(str(tmp_path / "model.tflite")).get_signature_runner()
    x = np.random.default_rng(0).normal(size=(1, 19, FEATURES)).astype("float32")
    got, expected = run(x=x), model(x)
    for name in ("y", "h", "c"):
        np.testing.assert_allclose(got[name], expected[name], rtol=1e-5, atol=1e-6)


def test_whatever_stands_in_a_masked_step_is_ignored(tmp_path):
    model = randomize(MASKED["mask_explicit"]())
    tflite_export.export(model, tmp_path / "model.tflite")
    run = Interpreter(str(tmp_path / "model.tflite")).get_signature_runner()
    x = np.random.default_rng(0).normal(size=(1, 6, FEATURES)).astype("float32")
    mask = np.array([[True, False, True, True, False, False]])
    x[~mask] = np.nan
    (y,) = run(x=x, mask=mask).values()
    np.testing.assert_allclose(y, model([x, mask]), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("steps", [2, 3, 5, 31, 127, 128, 130, 256])
def test_chunks_and_turns_of_any_length_fit(steps, tmp_path):
    """Short of a turn, whole turns, a turn and odd steps, one chunk, whole chunks, a short last chunk."""
    x = keras.Input((steps, FEATURES))
    model = randomize(keras.Model(x, layers.GRU(3, return_sequences=True, return_state=True)(x)))
    result = tflite_export.export(model, tmp_path / "model.tflite", lowering="loop")
    assert result.max_abs_error <= 1e-5
    assert "WHILE" in result.ops


def test_one_step_needs_no_loop(tmp_path):
    result = tflite_export.export(open_stack(layers.LSTM(4)), tmp_path / "model.tflite", time_steps=1)
    assert "WHILE" not in result.ops


def test_input_projection_stands_outside_the_loop(tmp_path):
    """One product for x·W of all steps and one for h·R; Keras's own export has both in the loop."""
    model = open_stack(layers.LSTM(4))
    result = tflite_export.export(model, tmp_path / "model.tflite", time_steps=8, lowering="loop")
    assert (result.ops["WHILE"], result.ops["FULLY_CONNECTED"]) == (1, 1 + 4)  # four steps a turn


def test_original_model_is_left_as_it_was(tmp_path):
    model = randomize(TOPOLOGIES["nested_models"]())
    model.compile("adam", "mse")
    weights, config = model.get_weights(), model.get_config()
    tflite_export.export(model, tmp_path / "model.tflite")
    assert model.get_config() == config
    for before, after in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)
    model.fit(np.ones((2, 6, FEATURES)), np.ones((2, 3)), verbose=0)


def test_stateful_layer_starts_from_zero_and_keeps_its_state_in_keras(tmp_path):
    model = randomize(TOPOLOGIES["stateful"]())
    x = np.random.default_rng(0).normal(size=(3, 6, FEATURES)).astype("float32")
    first = np.array(model(x))
    model.layers[0].reset_state()
    model(x)
    states = [keras.ops.convert_to_numpy(state) for state in model.layers[0].states]
    result = tflite_export.export(model, tmp_path / "model.tflite", batch_size=3)
    assert "stateful" in str(result)
    for before, after in zip(states, model.layers[0].states, strict=True):
        np.testing.assert_array_equal(before, keras.ops.convert_to_numpy(after))
    run = Interpreter(str(tmp_path / "model.tflite")).get_signature_runner()
    (feed,) = run.get_input_details()
    for _ in range(2):
        np.testing.assert_allclose(next(iter(run(**{feed: x}).values())), first, rtol=1e-5, atol=1e-6)


class Squared(keras.layers.LSTM):
    """Computes something else than its base."""

    def call(self, sequences, initial_state=None, mask=None, training=False):
        return super().call(sequences, initial_state, mask, training) ** 2


class Minimal(keras.layers.Layer):
    """A cell of the user's own."""

    state_size = output_size = 4

    def build(self, shape):
        self.kernel = self.add_weight(shape=(shape[-1], 4))

    def call(self, inputs, states):
        output = keras.ops.tanh(inputs @ self.kernel + states[0])
        return output, [output]


@pytest.mark.parametrize(
    "layer", [lambda: Squared(4), lambda: layers.RNN(Minimal())], ids=["subclass", "cell"]
)
def test_layers_of_the_user_convert_as_keras_does(layer, tmp_path):
    model = randomize(open_stack(layers.GRU(4, return_sequences=True), layer()))
    assert tflite_export.export(model, tmp_path / "model.tflite", time_steps=5).max_abs_error <= 1e-5


def test_mixed_precision_model_is_exported_in_float32(tmp_path):
    stack = [
        layers.LSTM(5, return_sequences=True, dtype="mixed_float16"),
        layers.Dense(2, dtype="mixed_float16"),
    ]
    model = randomize(open_stack(*stack))
    result = tflite_export.export(model, tmp_path / "model.tflite", time_steps=5)
    assert result.max_abs_error <= 1e-5
    assert "float32" in str(result)


def test_what_a_mixed_precision_model_adapted_to_stays(tmp_path):
    x = (3 * np.random.default_rng(0).normal(size=(1, 5, FEATURES)) + 2).astype("float32")
    normal = layers.Normalization(dtype="mixed_float16")
    normal.adapt(np.concatenate([x, x + 1]))
    model = randomize(open_stack(normal, layers.LSTM(5, dtype="mixed_float16")))
    normal.finalize_state()  # it reckons with what `randomize` has put there
    tflite_export.export(model, tmp_path / "model.tflite", time_steps=5)
    run = Interpreter(str(tmp_path / "model.tflite")).get_signature_runner()
    ((name, _),) = run.get_input_details().items()
    (output,) = run(**{name: x}).values()
    np.testing.assert_allclose(output, keras.ops.convert_to_numpy(model(x)), atol=0.01)


@pytest.mark.parametrize(
    ("stack", "options", "words"),
    [
        ([layers.TimeDistributed(layers.LSTM(3))], {}, "must be fixed"),
        ([layers.Masking(), layers.TimeDistributed(layers.LSTM(3))], {"time_steps": 3}, "mask"),
    ],
    ids=["open_length", "mask"],
)
def test_time_distributed_recurrence_that_cannot_be_exact_is_refused(stack, options, words, tmp_path):
    model = keras.Sequential([layers.Input((None, 4, FEATURES)), *stack])
    with pytest.raises(tflite_export.ExportError, match=words):
        tflite_export.export(model, tmp_path / "model.tflite", **options)
    assert not list(tmp_path.iterdir())
