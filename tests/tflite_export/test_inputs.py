"""Random inputs are of the kind the model can read."""

import keras
import numpy as np
import pytest
from keras import layers

from tflite_export.inputs import input_kinds, sample
from tflite_export.signature import as_functional


def kinds_of(inputs, outputs):
    return input_kinds(as_functional(keras.Model(inputs, outputs)))


def through_a_nested_model(x):
    inner = keras.Sequential([layers.Input((None,)), layers.Embedding(7, 2, mask_zero=True)])
    return inner(x)


@pytest.mark.parametrize(
    ("dtype", "read", "vocabulary", "padding"),
    [
        ("int32", layers.Embedding(7, 2), 7, None),
        ("float32", layers.Embedding(7, 2, mask_zero=True), 7, 0.0),
        ("int32", lambda x: layers.Embedding(7, 2)(layers.Reshape((-1,))(x)), 7, None),
        ("int32", lambda x: layers.Embedding(7, 2)(x) + layers.Embedding(5, 2)(x), 5, None),
        ("int32", through_a_nested_model, 7, 0.0),
        ("int32", lambda x: keras.ops.one_hot(x, 6), 6, None),
        ("int32", lambda x: keras.ops.cast(x, "float32")[:, :, None], 2, None),
    ],
)
def test_whole_numbers_stay_within_what_reads_them(dtype, read, vocabulary, padding):
    x = keras.Input((None,), dtype=dtype)
    (kind,) = kinds_of(x, layers.LSTM(2)(read(x)))
    assert (kind.vocabulary, kind.padding) == (vocabulary, padding)
    (values,) = sample([kind], 4, 50, np.random.default_rng(0))
    assert values.dtype == dtype
    assert set(np.unique(values)) == set(range(vocabulary))


def test_numbers_behind_weights_are_not_taken_for_indices():
    x = keras.Input((5, 3))
    (kind,) = kinds_of(x, layers.Embedding(7, 2)(keras.ops.argmax(layers.Dense(4)(x), -1)))
    assert kind.vocabulary is None


def test_a_nested_model_is_followed_where_its_input_brings_a_mask():
    inner_x = keras.Input((None, 2))
    inner = keras.Model(inner_x, layers.LSTM(3, return_sequences=True)(inner_x))
    x = keras.Input((None,), dtype="int32")
    with pytest.warns(UserWarning, match="destroy the mask"):
        y = inner(layers.Embedding(7, 2, mask_zero=True)(x))
    (kind,) = kinds_of(x, y)
    assert (kind.vocabulary, kind.padding) == (7, 0.0)


@pytest.mark.parametrize("pad", ["right", "left", "mixed"])
def test_padding_is_what_the_mask_is_computed_from(pad):
    x = keras.Input((20, 3))
    (kind,) = kinds_of(x, layers.LSTM(2)(layers.Masking(mask_value=-9.0)(x)))
    (values,) = sample([kind], 6, None, np.random.default_rng(1), pad)
    padded = (values == -9.0).all(-1)
    assert padded.any()
    assert not padded.all()
    for row, length in zip(padded, padded.sum(-1), strict=True):
        assert row[20 - length :].all() or row[:length].all()
    if pad == "mixed":
        assert padded[0].all()


def test_flags_are_flags():
    x, mask = keras.Input((5, 3)), keras.Input((5,), dtype="bool")
    kinds = kinds_of([x, mask], layers.LSTM(2)(x, mask=mask))
    _, values = sample(kinds, 4, None, np.random.default_rng(0))
    assert values.dtype == bool
    assert values.any()
    assert not values.all()
