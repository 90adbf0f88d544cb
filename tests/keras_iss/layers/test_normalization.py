"""StrippedLayerNormalization, StrippedRMSNormalization: Keras's own on the same units and zeros, on TensorFlow and JAX."""

import keras
import numpy as np
import pytest
from keras import layers

import keras_iss
import tflite_export
from keras_iss.layers import StrippedLayerNormalization, StrippedRMSNormalization
from tests.keras_iss.layers import normalization_scenarios as scenarios
from tests.keras_iss.layers.normalization_scenarios import DTYPES, LEFT, SETTINGS, STEPS, STRIPPED, TOTAL

ON_JAX = "tests.keras_iss.layers.normalization_scenarios"
BACKENDS = pytest.mark.parametrize("backend", ["tensorflow", "jax"])
KINDS = pytest.mark.parametrize("kind", SETTINGS)


@pytest.fixture(scope="module")
def found(on_jax):
    """What the scenarios give, by backend."""
    keras.utils.set_random_seed(0)
    return {"tensorflow": scenarios.everything(), "jax": on_jax}


@BACKENDS
@KINDS
@pytest.mark.parametrize("dtype", DTYPES)
def test_outputs_are_those_of_all_units(found, backend, kind, dtype):
    for number in range(len(SETTINGS[kind])):
        wanted, received = (found[backend][f"{kind}|{dtype}|{number}{end}"] for end in ("|wanted", ""))
        assert np.abs(wanted).max() > 0.1
        tolerance = {"float32": 2e-6, "bfloat16": 0.05}.get(dtype, 5e-3)
        np.testing.assert_allclose(received, wanted, rtol=0, atol=tolerance)


@BACKENDS
@KINDS
@pytest.mark.parametrize("size", ["zeros", "tiny", "huge"])
def test_inputs_of_any_size_give_what_all_units_give(found, backend, kind, size):
    wanted, received = (found[backend][f"{kind}|{size}{end}"] for end in ("|wanted", ""))
    assert np.isfinite(wanted).all()
    np.testing.assert_allclose(received, wanted, rtol=2e-5, atol=2e-6)


@BACKENDS
@KINDS
def test_it_trains_on_as_all_units_would(found, backend, kind):
    wanted, received = (found[backend][f"{kind}|trained{end}"] for end in ("|wanted", ""))
    np.testing.assert_allclose(received, wanted, rtol=0, atol=2e-5)


@KINDS
def test_it_is_saved_with_its_count(kind, tmp_path):
    model = keras.Sequential([keras.Input((STEPS, LEFT)), STRIPPED[kind](total_units=TOTAL, epsilon=0.1)])
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.layers[0].total_units == TOTAL
    np.testing.assert_array_equal(loaded(scenarios.inputs()), model(scenarios.inputs()))


@KINDS
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"total_units": 0}, "positive integer"),
        ({"total_units": 2.0}, "positive integer"),
        ({"total_units": True}, "positive integer"),
        ({"total_units": LEFT - 1}, f"at most total_units={LEFT - 1}"),
        ({"total_units": TOTAL, "axis": 1}, "Expected -1, the features"),
        ({"total_units": TOTAL, "axis": [1, 2]}, "Expected -1, the features"),
    ],
)
def test_what_it_cannot_do_is_refused(kind, options, message):
    with pytest.raises(ValueError, match=message):
        STRIPPED[kind](**options).build((None, STEPS, LEFT))


def normalized(norm) -> keras.Model:
    """Two LSTMs, each normalized, as speech recognizers have them."""
    x = keras.Input((STEPS, 3))
    y = x
    for name in ("first", "second"):
        y = norm(name=f"{name}_norm")(layers.LSTM(12, return_sequences=True, name=name)(y))
    return keras.Model(x, layers.Dense(2)(y))


@pytest.mark.parametrize(
    ("norm", "kind"),
    [
        (layers.LayerNormalization, StrippedLayerNormalization),
        (layers.RMSNormalization, StrippedRMSNormalization),
    ],
)
def test_units_are_learned_away_before_a_normalization(norm, kind, tmp_path):
    keras.utils.set_random_seed(0)
    draw = np.random.default_rng(0)
    x, y = draw.normal(size=(64, STEPS, 3)).astype("float32"), draw.normal(size=(64, STEPS, 2))
    model = normalized(norm)
    model.compile(keras.optimizers.Adam(1e-2), "mse")
    pruning = keras_iss.callbacks.ISSPruning(target=0.6)
    model.fit(x, y, epochs=6, batch_size=16, verbose=0, callbacks=[pruning])

    small = keras_iss.strip(model)

    assert keras_iss.report(small).macs <= 0.45 * keras_iss.report(model).macs
    for name in ("first", "second"):
        stripped = small.get_layer(f"{name}_norm")
        assert type(stripped) is kind
        assert stripped.total_units == 12
        assert small.get_layer(name).units == stripped.weights[0].shape[0] < 12
    np.testing.assert_allclose(small.predict(x, verbose=0), model.predict(x, verbose=0), rtol=0, atol=1e-5)

    smaller = keras_iss.strip(keras_iss.prune(small, 0.5))  # a second time
    assert smaller.get_layer("first_norm").total_units == 12
    assert smaller.get_layer("first").units < small.get_layer("first").units
    result = tflite_export.export(smaller, tmp_path / "smaller.tflite", streaming=True)
    assert not any(operator.startswith("Flex") for operator in result.ops)


def test_a_normalization_that_loses_nothing_stays_what_it_is():
    model = normalized(layers.LayerNormalization)
    small = keras_iss.strip(keras_iss.prune(model, {"second": 6}))
    assert type(small.get_layer("first_norm")) is layers.LayerNormalization
    assert type(small.get_layer("second_norm")) is StrippedLayerNormalization


@pytest.mark.filterwarnings("ignore:You passed `rms_scaling")
def test_a_normalization_by_the_variance_stays_pinned():
    norm = layers.LayerNormalization(rms_scaling=True)
    model = keras.Sequential([keras.Input((STEPS, 3)), layers.LSTM(4, name="lstm"), norm, layers.Dense(1)])
    assert "normalizes" in keras_iss.trace(model).pinned["lstm"]
