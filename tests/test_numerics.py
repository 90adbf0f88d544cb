"""Numbers at the edges: short floats, huge and tiny weights, NaN and infinity, no steps and very many, all units gone."""

import contextlib

import keras
import numpy as np
import pytest
from keras import layers

import keras_iss
import tflite_export
from keras_iss.callbacks import ISSPruning

UNITS, FEATURES, STEPS = 6, 3, 5


def model(steps=None, *, mask=False, dtype=None):
    """Two recurrent layers; with weights of their own for every unit."""
    keras.utils.set_random_seed(3)
    # TensorFlow has no orthogonal matrices in bfloat16.
    how = {"dtype": dtype, "recurrent_initializer": "glorot_uniform"}
    stack = [layers.Masking()] if mask else []
    stack += [
        layers.LSTM(UNITS, return_sequences=True, name="first", **how),
        layers.GRU(UNITS, name="second", **how),
        layers.Dense(2, name="head", dtype=dtype),
    ]
    return keras.Sequential([keras.Input((steps, FEATURES)), *stack])


def data(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def outputs(of, x):
    return np.asarray(keras.ops.convert_to_numpy(of(x)), "float64")


def tried(of, x):
    """The outputs, or the error."""
    try:
        return outputs(of, x)
    except Exception as error:
        return error


@pytest.fixture(scope="module")
def small():
    """A model in which a third of the units is zero, what strip makes of it, and their file with an open length."""
    return stripped(model())


@pytest.fixture(scope="module")
def small_masked():
    return stripped(model(mask=True))


def stripped(dense):
    pruned = keras_iss.prune(dense, {"first": 4, "second": 4})
    return pruned, keras_iss.strip(pruned)


@pytest.fixture(scope="module")
def runner(small, tmp_path_factory):
    return run_file(small[1], tmp_path_factory.mktemp("open") / "model.tflite")


@pytest.fixture(scope="module")
def masked_runner(small_masked, tmp_path_factory):
    return run_file(small_masked[1], tmp_path_factory.mktemp("masked") / "model.tflite")


def run_file(small, path):
    from ai_edge_litert.interpreter import Interpreter

    tflite_export.export(small, path, verify=False)
    run = Interpreter(str(path)).get_signature_runner()
    (name,) = run.get_input_details()
    return lambda x: next(iter(run(**{name: x}).values()))


# ------------------------------------------------------------------------------------------------ short floats


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_units_are_learnt_away_and_cut_out_in_half_precision(dtype):
    dense = model(STEPS, dtype=dtype)
    dense.compile("sgd", "mse", run_eagerly=True)
    dense.fit(data(8, STEPS, FEATURES), data(8, 2), epochs=3, verbose=0, callbacks=[ISSPruning(target=0.4)])
    small = keras_iss.strip(dense)
    assert small.count_params() < dense.count_params()
    assert all(str(weight.dtype) == dtype for weight in small.trainable_variables)
    x = data(4, STEPS, FEATURES, seed=1)
    np.testing.assert_allclose(outputs(small, x), outputs(dense, x), atol=2e-2)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_a_model_in_half_precision_is_exported_in_single(dtype, tmp_path):
    result = tflite_export.export(model(STEPS, dtype=dtype), tmp_path / "model.tflite")
    assert result.max_abs_error < 1e-5
    assert any("half precision" in note for note in result.notes)


# --------------------------------------------------------------------------------------- huge and tiny weights


@pytest.mark.parametrize("scale", [1e30, 1e-30], ids=str)
def test_the_weakest_units_are_the_same_at_any_scale(scale):
    plain, scaled = model(STEPS), model(STEPS)
    scaled.set_weights([w * np.float32(scale) for w in plain.get_weights()])
    found = keras_iss.trace(scaled)
    expected = keras_iss.trace(plain)
    for name in ("first", "second"):
        np.testing.assert_allclose(found.norms(name), expected.norms(name) * np.float32(scale), rtol=1e-5)
    gone = [
        np.flatnonzero(keras_iss.trace(keras_iss.prune(each, {"first": 2, "second": 2})).removable(name))
        for name in ("first", "second")
        for each in (plain, scaled)
    ]
    np.testing.assert_array_equal(gone[0], gone[1])
    np.testing.assert_array_equal(gone[2], gone[3])


@pytest.mark.parametrize("scale", [1e30, 1e-30], ids=str)
def test_strip_is_exact_at_any_scale(scale):
    dense = model(STEPS)
    dense.set_weights([w * np.float32(scale) for w in dense.get_weights()])
    pruned = keras_iss.prune(dense, {"first": 4, "second": 4})
    small = keras_iss.strip(pruned)
    x = data(2, STEPS, FEATURES)
    np.testing.assert_allclose(outputs(small, x), outputs(pruned, x), rtol=1e-5)


# ------------------------------------------------------------------------------------------- NaN and infinity


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf], ids=str)
def test_what_is_no_number_stays_in_its_sample(value, small, runner):
    pruned, cut = small
    x = data(3, STEPS, FEATURES)
    clean = outputs(cut, x)
    x[1, 2, 0] = value
    for of in (pruned, cut):
        np.testing.assert_allclose(outputs(of, x)[[0, 2]], clean[[0, 2]], atol=1e-6)
    if np.isnan(value):
        assert np.isnan(outputs(cut, x)[1]).all()
        assert np.isnan(runner(x[1:2])).all(), "the file must not hide it"
    np.testing.assert_allclose(runner(x[:1])[0], clean[0], atol=1e-5)  # nor remember it


# ------------------------------------------------------------------------------------------------- the length


@pytest.mark.parametrize("steps", [1, 2])
def test_a_short_sequence(steps, small, runner):
    pruned, cut = small
    x = data(1, steps, FEATURES)
    np.testing.assert_allclose(outputs(cut, x), outputs(pruned, x), atol=1e-6)
    np.testing.assert_allclose(runner(x), outputs(cut, x), atol=1e-5)


def test_a_sequence_without_steps(small, runner):
    """Keras starts from zero states or refuses it, by backend; a file may refuse it, but still works afterwards."""
    pruned, cut = small
    x = data(1, 0, FEATURES)
    assert type(tried(cut, x)) is type(tried(pruned, x))
    with contextlib.suppress(RuntimeError, ValueError):
        assert np.isfinite(runner(x)).all()
    y = data(1, 2, FEATURES)
    np.testing.assert_allclose(runner(y), outputs(cut, y), atol=1e-5)


def test_a_hundred_thousand_steps(small, runner):
    pruned, cut = small
    x = data(1, 100_000, FEATURES)
    expected = cut.predict_on_batch(x)  # compiled; step by step it takes many minutes
    np.testing.assert_allclose(pruned.predict_on_batch(x), expected, atol=1e-5)
    np.testing.assert_allclose(runner(x), expected, atol=1e-4)


# ---------------------------------------------------------------------------------------------- nothing left


def test_of_a_layer_whose_units_are_all_zero_one_stays(tmp_path):
    dense = model(STEPS)
    for layer in dense.layers[:2]:
        layer.set_weights([0 * w for w in layer.get_weights()])
    dense.layers[-1].bias.assign([1.0, -1.0])
    small = keras_iss.strip(dense)
    assert [small.get_layer(name).units for name in ("first", "second")] == [1, 1]
    x = data(2, STEPS, FEATURES)
    np.testing.assert_array_equal(outputs(small, x), outputs(dense, x))
    assert tflite_export.export(small, tmp_path / "model.tflite").max_abs_error == 0


# ----------------------------------------------------------------------------------------------------- masks

MASKS = {
    "right": [1, 1, 1, 0, 0],
    "left": [0, 0, 1, 1, 1],
    "both ends": [0, 1, 1, 1, 0],
    "hole": [1, 1, 0, 1, 1],
    "alternating": [1, 0, 1, 0, 1],
    "one step": [0, 0, 1, 0, 0],
    "nothing left": [0, 0, 0, 0, 0],
    "nothing masked": [1, 1, 1, 1, 1],
}


def test_masks_of_every_shape(small_masked, masked_runner):
    pruned, cut = small_masked
    x = data(len(MASKS), STEPS, FEATURES) * np.array([*MASKS.values()], "float32")[:, :, None]
    expected = outputs(pruned, x)
    np.testing.assert_allclose(outputs(cut, x), expected, atol=1e-6)
    for row, (name, want) in enumerate(zip(MASKS, expected, strict=True)):
        np.testing.assert_allclose(masked_runner(x[row : row + 1])[0], want, atol=1e-5, err_msg=name)
