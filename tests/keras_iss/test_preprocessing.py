"""Layers that learn from data by `adapt`, and layers that Keras has quantized or adapted: what they learned goes along."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

import keras_iss

X = (3 * np.random.default_rng(0).normal(size=(12, 5, 4)) + 2).astype("float32")
WORDS = np.array([list("abcab"), list("cbaab")], object)


def adapted(layer, data):
    layer.adapt(data)
    return layer


class Front(layers.Layer):
    """A layer of a user's, with others in a list and in a dictionary."""

    def __init__(self, **options):
        super().__init__(**options)
        self.parts = [layers.Normalization(), layers.Dense(6)]
        self.more = {"last": layers.Normalization()}

    def build(self, shape):
        for part in self.parts:
            part.build(shape)
            shape = part.compute_output_shape(shape)
        self.more["last"].build(shape)

    def call(self, x):
        for part in self.parts:
            x = part(x)
        return self.more["last"](x)


def behind(*front):
    return keras.Sequential([*front, layers.LSTM(6, name="lstm"), layers.Dense(2, name="out")])


def normalized(**options):
    return behind(keras.Input((5, 4)), adapted(layers.Normalization(**options), X))


def normalized_step_by_step():
    norm = adapted(layers.Normalization(), X.reshape(-1, 4))
    return behind(keras.Input((5, 4)), layers.TimeDistributed(norm))


def normalized_in_an_inner_model():
    x = keras.Input((None, 4))
    inner = keras.Model(x, layers.Dense(3)(adapted(layers.Normalization(), X)(x)), name="inner")
    return behind(keras.Input((5, 4)), inner)


def normalized_in_a_layer_of_ones_own():
    front = Front()
    model = behind(keras.Input((5, 4)), front)
    front.parts[0].adapt(X)
    front.more["last"].adapt(np.tile(X, 2)[..., :6])
    return model


def looked_up(kind, shape, dtype, data, **options):
    table = adapted(kind(**options), data)
    return behind(keras.Input(shape, dtype=dtype), table, layers.Embedding(9, 3, name="embedding"))


CASES = {
    "Normalization": (normalized, X),
    "Normalization over all": (lambda: normalized(axis=None), X),
    "Normalization over time, too": (lambda: normalized(axis=(1, 2)), X),
    "Normalization in TimeDistributed": (normalized_step_by_step, X),
    "Normalization in an inner model": (normalized_in_an_inner_model, X),
    "Normalization in a layer of one's own": (normalized_in_a_layer_of_ones_own, X),
    "Discretization": (lambda: looked_up(layers.Discretization, (5,), "float32", X, num_bins=9), X[:, :, 0]),
    "IntegerLookup": (
        lambda: looked_up(layers.IntegerLookup, (5,), "int64", [50, 70, 90]),
        np.array([[50, 70, 90, 1, 70]]),
    ),
    "StringLookup": (lambda: looked_up(layers.StringLookup, (5,), "string", ["a", "b", "c"]), WORDS),
    "TextVectorization": (
        lambda: looked_up(
            layers.TextVectorization, (1,), "string", ["a b c", "b c"], output_sequence_length=4
        ),
        np.array([["b c a"], ["c c d"]], object),
    ),
}


def outputs(model, x):
    return keras.ops.convert_to_numpy(model(x, training=False))


@pytest.mark.parametrize("case", CASES)
def test_what_adapt_learned_goes_along(case):
    build, x = CASES[case]
    model = build()
    expected = outputs(model, x)
    copy = keras_iss.prune(model, 1.0)
    np.testing.assert_allclose(outputs(copy, x), expected, atol=1e-6)
    pruned = keras_iss.prune(model, 0.5)
    small = keras_iss.strip(pruned)
    assert small.get_layer("lstm").units == 3
    np.testing.assert_allclose(outputs(small, x), outputs(pruned, x), atol=1e-6)
    np.testing.assert_array_equal(outputs(model, x), expected)


def test_a_model_that_hears_strings_is_checked_before_it_is_stripped(monkeypatch):
    model = keras_iss.prune(CASES["StringLookup"][0](), 0.5)
    monkeypatch.setattr("keras_iss.surgery.rebuild", lambda model, *_: shifted(model))
    with pytest.raises(keras_iss.StripError, match="The stripped model is wrong: output 0 .* differs by 1"):
        keras_iss.strip(model)


def shifted(model):
    return keras.Model(model.inputs[0], model.outputs[0] + 1)


# --- quantized and adapted by Keras


def reader():
    front = [keras.Input((5, 4)), layers.LSTM(6, return_sequences=True, name="first")]
    return behind(*front, layers.Dense(4, name="reader"))


def quantized(mode):
    model = reader()
    model.get_layer("reader").quantize(mode)
    return model


def with_lora():
    model = reader()
    model.get_layer("reader").enable_lora(2)
    return model


@pytest.mark.parametrize(
    "build", [lambda: quantized("int8"), lambda: quantized("int4"), with_lora], ids=["int8", "int4", "LoRA"]
)
def test_what_a_quantized_or_adapted_layer_reads_stays_and_the_rest_can_go(build):
    model = build()
    pinned = keras_iss.trace(model).pinned
    for name in ("first", "reader"):
        assert "quantized, adapted (LoRA)" in pinned[name]
    pruned = keras_iss.prune(model, 0.5)
    small = keras_iss.strip(pruned)
    assert [small.get_layer(name).units for name in ("first", "lstm")] == [6, 3]
    np.testing.assert_allclose(outputs(small, X), outputs(pruned, X), atol=1e-6)


def test_the_rows_of_a_quantized_embedding_stay():
    model = keras.Sequential([keras.Input((5,), dtype="int32"), layers.Embedding(9, 4, name="embedding")])
    model.add(layers.LSTM(6))
    model.add(layers.Dense(2))
    model.get_layer("embedding").quantize("int8")
    assert "quantized" in keras_iss.trace(model).pinned["embedding"]
