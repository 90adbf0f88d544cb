"""The table of files beside the Keras model: right numbers, files of any batch size and length, strangers noted."""

import json
import re

import keras
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter
from keras import layers

import tflite_export
from tflite_export.convert import keras_export

ON_JAX = "tests.tflite_export.jax_scenarios"
X = np.random.default_rng(0).normal(size=(11, 6, 3)).astype("float32")
Y = np.random.default_rng(1).normal(size=(11, 2)).astype("float32")


def model(time=6):
    return keras.Sequential(
        [layers.Input((time, 3), name="sound"), layers.LSTM(16), layers.Dense(2, name="word")]
    )


def compare(*arguments, **options):
    return tflite_export.compare(*arguments, runs=1, **options)


def written_by_hand(path, shape, names=("x",), width=2):
    """A file of something else: constants, with inputs of any names."""

    @tf.function(input_signature=[tf.TensorSpec(shape, name=name) for name in names])
    def f(*inputs):
        return sum(tf.reduce_sum(x) for x in inputs) * 0.0 + tf.ones((shape[0], width))

    path.write_bytes(tf.lite.TFLiteConverter.from_concrete_functions([f.get_concrete_function()]).convert())
    return path


def test_errors_and_metric_are_those_of_all_samples(tmp_path):
    source = model()
    path = tmp_path / "m.tflite"
    tflite_export.export(source, path, batch_size=4, quantize="float16")
    report = compare(source, path, (X, Y), "mean_squared_error")
    (row,) = report.rows
    run = Interpreter(str(path)).get_signature_runner()
    filled = np.concatenate([X, X[:1]])
    got = np.concatenate([run(sound=filled[i : i + 4])["word"] for i in (0, 4, 8)])[:11]
    expected = source.predict(X, verbose=0)
    assert row.max_abs_error == pytest.approx(np.abs(got - expected).max(), rel=1e-3)
    assert row.rms_error == pytest.approx(np.linalg.norm(got - expected) / np.linalg.norm(expected), rel=1e-3)
    assert row.metric == pytest.approx(np.mean((got - Y) ** 2), rel=1e-5)
    assert report.keras_metric == pytest.approx(np.mean((expected - Y) ** 2), rel=1e-5)
    assert row.metric_change == row.metric - report.keras_metric
    assert (row.size_bytes, report.samples) == (path.stat().st_size, 11)
    assert row.median_ms > 0


def test_report_is_a_table_and_json(tmp_path):
    source = model()
    paths = [
        tflite_export.export(source, tmp_path / f"{q}.tflite", quantize=q).path for q in (None, "float16")
    ]
    report = compare(source, paths, (X, Y), "mae")
    lines = str(report).splitlines()
    assert lines[0].split()[-2:] == ["mean_absolute_error", "change"]
    assert [line.split()[0] for line in lines[1:4]] == ["Keras", "None.tflite", "float16.tflite"]
    assert "11 samples, 1 thread" in lines[4]
    report.to_json(tmp_path / "report.json")
    assert json.loads((tmp_path / "report.json").read_text()) == json.loads(json.dumps(report.to_dict()))
    plain = str(compare(source, paths, (X, Y)))
    assert "change" not in plain
    assert "Keras" not in plain.splitlines()[1]


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("time_steps", [None, 4])
def test_open_lengths_and_streams_are_compared_on_the_data_s_own_length(streaming, time_steps, tmp_path):
    source = model(None)
    if not streaming and time_steps:
        pytest.skip("a whole file of 4 steps doesn't take 6")
    path = tmp_path / "m.tflite"
    tflite_export.export(source, path, batch_size=2, time_steps=time_steps, streaming=streaming)
    (row,) = compare(source, [path], (X, Y)).rows
    assert row.note == ""
    assert row.max_abs_error < 1e-5


def test_several_outputs_reach_the_metric_as_a_list(tmp_path):
    x = keras.Input((6, 3), name="x")
    source = keras.Model(x, [layers.LSTM(3, name="a")(x), layers.GRU(2, name="b")(x)])
    path = tmp_path / "m.tflite"
    tflite_export.export(source, path, quantize="dynamic_int8")

    def shapes(y, predicted):
        return float(sum(part.shape[1] for part in predicted))

    report = compare(source, path, ({"x": X}, None), shapes)
    assert (report.keras_metric, report.rows[0].metric, report.metric_name) == (5.0, 5.0, "shapes")


def test_keras_s_own_export_is_compared_though_its_names_are_others(tmp_path):
    source = model()
    path = keras_export(source, tmp_path / "keras.tflite", batch_size=3)
    assert compare(source, path, (X, Y)).rows[0].max_abs_error < 1e-5


def test_quantized_inputs_and_outputs_are_scaled(tmp_path):
    dense = keras.Sequential([layers.Input((3,)), layers.Dense(2)])
    converter = tf.lite.TFLiteConverter.from_keras_model(dense)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([x[:1]] for x in X)
    converter.inference_input_type = converter.inference_output_type = tf.int8
    path = tmp_path / "int8.tflite"
    path.write_bytes(converter.convert())
    (row,) = compare(dense, path, (X[:, 0], Y)).rows
    assert 0 < row.rms_error < 0.05


@pytest.mark.parametrize(
    ("shape", "names", "width", "note"),
    [
        ((4, 5, 3), ("x",), 2, r"takes the shape \(4, 5, 3\).*\(11, 6, 3\)"),
        ((4, 18), ("x",), 2, r"\(4, 18\)"),
        ((4, 6, 3), ("x", "y"), 2, "inputs are.*the model's are 'sound'"),
        ((4, 6, 3), ("x",), 5, r"output of shape \(11, 5\), the model \(11, 2\)"),
    ],
)
def test_a_file_that_does_not_fit_the_model_gets_a_note_and_is_timed(shape, names, width, note, tmp_path):
    source = model()
    fits = tflite_export.export(source, tmp_path / "fits.tflite").path
    stranger = written_by_hand(tmp_path / "stranger.tflite", shape, names, width)
    report = compare(source, [stranger, fits], (X, Y), "mae")
    assert report.rows[0].note.startswith("not compared")
    assert (report.rows[0].max_abs_error, report.rows[0].metric) == (None, None)
    assert report.rows[0].median_ms > 0
    assert report.rows[1].metric is not None
    assert re.search(note, report.rows[0].note)
    assert report.rows[0].note in str(report)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (X, r"pair \(x, y\)"),
        ((X[:, :4], Y), "argument `data`.*6, 3"),
        ((X, Y[:3]), "as many samples in y as in x, 11.*3"),
        ((np.full_like(X, np.nan), Y), "without NaN"),
    ],
)
def test_bad_data_is_refused(data, message, tmp_path):
    with pytest.raises(tflite_export.ExportError, match=message):
        compare(model(), tmp_path / "m.tflite", data)


def test_missing_and_broken_files_are_refused(tmp_path):
    with pytest.raises(tflite_export.ExportError, match="Can't read"):
        compare(model(), tmp_path / "m.tflite", (X, Y))
    (tmp_path / "m.tflite").write_bytes(b"no model")
    with pytest.raises(tflite_export.ExportError, match="isn't a TFLite file"):
        compare(model(), tmp_path / "m.tflite", (X, Y))


def test_int8_and_compare_work_on_another_backend(on_jax):
    assert on_jax["backend"] == "jax"
    assert 0 < on_jax["integers|metric"] < 0.01
