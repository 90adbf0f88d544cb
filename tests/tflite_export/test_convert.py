"""The export as a whole: names, result, errors, other backends, and files that are whole or absent."""

import os

import keras
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from keras import layers

import tflite_export
from tests.full_disk import files_end_at
from tflite_export import convert, files
from tflite_export.convert import keras_export

ON_JAX = "tests.tflite_export.jax_scenarios"


def small_model(time=5):
    return keras.Sequential(
        [layers.Input((time, 3), name="sound"), layers.LSTM(4), layers.Dense(2, name="word")]
    )


def test_result_describes_the_file(tmp_path):
    path = tmp_path / "model.tflite"
    result = tflite_export.export(small_model(), path, lowering="loop")
    assert result.path == path
    assert result.size_bytes == path.stat().st_size
    assert result.signatures == {"serving_default": {"inputs": ["sound"], "outputs": ["word"]}}
    assert result.ops["WHILE"] == 2  # a turn of four steps, and the fifth
    for word in (str(path), "FULLY_CONNECTED", "sound -> word", "largest difference"):
        assert word in str(result)


def test_check_can_be_left_out(tmp_path):
    result = tflite_export.export(small_model(), tmp_path / "model.tflite", verify=False)
    assert result.max_abs_error is None
    assert "not checked" in str(result)


def test_outputs_of_one_layer_are_numbered(tmp_path):
    x = keras.Input((5, 3), name="x")
    model = keras.Model(x, list(layers.LSTM(4, return_state=True, name="lstm")(x)))
    result = tflite_export.export(model, tmp_path / "model.tflite")
    assert result.signatures["serving_default"]["outputs"] == ["lstm", "lstm_1", "lstm_2"]


def test_batch_is_fixed_and_the_open_length_filled_in(tmp_path):
    tflite_export.export(small_model(None), tmp_path / "model.tflite", batch_size=4, time_steps=7)
    (details,) = Interpreter(str(tmp_path / "model.tflite")).get_input_details()
    assert list(details["shape_signature"]) == [4, 7, 3]


def lstm_on(shape, **options):
    return keras.Sequential([layers.Input(shape, **options), layers.LSTM(3)])


def subclassed():
    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.lstm = layers.LSTM(3)

        def call(self, x):
            return self.lstm(x)

    model = Own()
    model(np.ones((1, 2, 3)))
    return model


def nan_model():
    model = small_model()
    model.layers[0].cell.recurrent_kernel.assign(np.full((4, 16), np.nan))
    return model


def flex_model():
    x = keras.Input((5, 3))
    return keras.Model(x, layers.LSTM(3)(layers.Lambda(lambda h: keras.ops.erfinv(h / 9), name="odd")(x)))


def quantized_model():
    model = small_model()
    model.layers[-1].quantize("int8")
    return model


def model_of_words():
    words = layers.TextVectorization(output_sequence_length=5)
    words.adapt(["one two"])
    return keras.Sequential(
        [keras.Input((1,), dtype="string"), words, layers.Embedding(9, 3), layers.LSTM(3)]
    )


@pytest.mark.parametrize(
    ("model", "options", "words"),
    [
        (small_model, {"quantize": "int4"}, 'None, "float16", "dynamic_int8", "int8", "sparse".*int4'),
        (
            lambda: keras.Sequential([layers.Input((5, 3)), layers.Bidirectional(layers.LSTM(3))]),
            {"streaming": True},
            "Bidirectional.*can't be streamed.*from its end",
        ),
        (small_model, {"batch_size": 0}, "batch_size.*at least 1.*batch_size=0"),
        (small_model, {"time_steps": 2.5}, "time_steps.*time_steps=2.5"),
        (small_model, {"time_steps": 9}, "fix the length to 5.*time_steps=9"),
        (lambda: keras.Sequential([layers.LSTM(3)]), {}, "isn't built"),
        (
            lambda: keras.Sequential([layers.Input((2, 3), batch_size=2), layers.LSTM(3)]),
            {},
            "Expected 2.*batch_size=1",
        ),
        (
            lambda: keras.Sequential([layers.Input((2, None, 3)), layers.TimeDistributed(layers.LSTM(3))]),
            {},
            "axis 1",
        ),
        (subclassed, {}, "subclassed model.*Functional"),
        (lambda: "model.keras", {}, "Expected a Keras model.*str"),
        (nan_model, {}, "NaN"),
        (flex_model, {}, "Erfinv.*odd"),
        (quantized_model, {}, "'word' .Dense. was quantized by Keras .int8..*dynamic_int8"),
        (model_of_words, {}, "'text_vectorization.*' .TextVectorization. looks its input up in a table"),
    ],
)
def test_what_cannot_be_exported_gets_one_sentence_and_leaves_no_file(model, options, words, tmp_path):
    with pytest.raises(tflite_export.ExportError, match=words) as caught:
        tflite_export.export(model(), tmp_path / "model.tflite", **options)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_failed_check_leaves_an_existing_file_alone(tmp_path, monkeypatch):
    path = tmp_path / "model.tflite"
    path.write_bytes(b"old")
    other = small_model()
    honest = convert.convert

    def another_model(functional, **options):
        return honest(convert.as_functional(other), **options)

    monkeypatch.setattr(convert, "convert", another_model)
    with pytest.raises(tflite_export.ExportError, match="differ from Keras's"):
        tflite_export.export(small_model(), path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("place", "words"), [("missing/model.tflite", "doesn't exist; create it"), ("", "is a folder")]
)
def test_bad_path_is_refused_before_the_work(place, words, tmp_path):
    with pytest.raises(tflite_export.ExportError, match=words):
        tflite_export.export("not even a model", tmp_path / place)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_folder_without_permission_is_refused(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(tflite_export.ExportError, match="no permission"):
        tflite_export.export(small_model(), tmp_path / "model.tflite")


def test_disk_that_fills_up_leaves_the_old_file_whole(tmp_path):
    path = tmp_path / "model.tflite"
    path.write_bytes(b"old")
    with files_end_at(1000), pytest.raises(tflite_export.ExportError, match="Nothing was changed"):
        files.write_whole(path, b"x" * 5000)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_temporary_folder_that_fills_up_is_told(tmp_path):
    """TensorFlow's converter reads the model from a folder of its own."""
    model = keras.Sequential([layers.Input((8, 100)), layers.LSTM(100)])
    with files_end_at(20000), pytest.raises(tflite_export.ExportError, match="temporary folder .*TMPDIR"):
        tflite_export.export(model, tmp_path / "model.tflite")
    assert not list(tmp_path.iterdir())


def test_written_file_has_ordinary_permissions(tmp_path):
    files.write_whole(tmp_path / "a", b"1")
    (tmp_path / "b").write_bytes(b"1")
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "b").stat().st_mode


def test_model_of_another_backend_is_exported_and_checked_there(on_jax):
    assert on_jax["backend"] == "jax"
    assert on_jax["whole|error"] <= 1e-5
    assert "doesn't know 'Unknown'" in str(on_jax["whole|refusal"])
    assert "custom_objects" in str(on_jax["whole|refusal"])
    assert on_jax["whole|files"].tolist() == ["a.tflite"]


@pytest.mark.parametrize("quantize", [None, "dynamic_int8"])
def test_keras_export_is_keras_s_own_with_fixed_sizes(quantize, tmp_path):
    model = small_model(None)
    path = keras_export(model, tmp_path / "model.tflite", batch_size=2, time_steps=6, quantize=quantize)
    interpreter = Interpreter(str(path))
    interpreter.allocate_tensors()
    (feed,), (read,) = interpreter.get_input_details(), interpreter.get_output_details()
    assert list(feed["shape_signature"]) == [2, 6, 3]
    x = np.random.default_rng(0).normal(size=(2, 6, 3)).astype("float32")
    interpreter.set_tensor(feed["index"], x)
    interpreter.invoke()
    np.testing.assert_allclose(
        interpreter.get_tensor(read["index"]), model(x), atol=1e-2 if quantize else 1e-5
    )
