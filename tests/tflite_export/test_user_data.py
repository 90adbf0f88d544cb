"""The user's inputs are checked at the boundary, and cut into the batches that a file takes."""

import keras
import numpy as np
import pytest
from keras import layers

import tflite_export
from tflite_export.quantize import RECIPES
from tflite_export.user_data import as_inputs, recut, representative_samples


def sounds(time=6):
    return keras.Sequential([layers.Input((time, 3), name="sound"), layers.LSTM(4)])


def words():
    return keras.Sequential(
        [layers.Input((6,), dtype="int32", name="word"), layers.Embedding(9, 4), layers.LSTM(4)]
    )


def two():
    sound, word = keras.Input((6, 3), name="sound"), keras.Input((2,), name="speaker")
    return keras.Model([sound, word], layers.concatenate([layers.LSTM(4)(sound), word]))


def good(count=5, time=6):
    return np.random.default_rng(0).normal(size=(count, time, 3)).astype("float32")


BAD = {
    "missing": (sounds, None, "needs `representative_data`.*dynamic_int8"),
    "no_array": (sounds, 3, "array, a dictionary.*Received: representative_data=int"),
    "text": (sounds, "data.npy", "Received: representative_data=str"),
    "empty_array": (sounds, np.zeros((0, 6, 3)), "at least one sample.*empty"),
    "empty_iterable": (sounds, iter([]), "at least one batch"),
    "wrong_shape": (sounds, np.zeros((5, 7, 3)), r"'sound'.*\(samples, 6, 3\).*\(5, 7, 3\)"),
    "wrong_rank": (sounds, np.zeros((6, 3)), r"\(samples, 6, 3\).*\(6, 3\)"),
    "nan": (sounds, np.full((2, 6, 3), np.nan), "without NaN.*36 of them"),
    "infinite": (sounds, [good(), np.full((1, 6, 3), np.inf)], "without NaN"),
    "strings": (sounds, np.full((2, 6, 3), "a"), "float32.*dtype"),
    "ragged": (sounds, [[[1.0], [2.0, 3.0]]], "sound"),
    "wrong_name": (sounds, {"noise": good()}, "inputs 'sound'.*'noise'"),
    "one_of_two": (two, {"sound": good()}, "'sound', 'speaker'.*Received: 'sound'"),
    "array_for_two": (two, good(), "dictionary with the model's inputs 'sound', 'speaker'"),
    "counts_differ": (two, {"sound": good(5), "speaker": np.zeros((4, 2))}, "5 for 'sound', 4 for 'speaker'"),
    "out_of_vocabulary": (words, np.full((2, 6), 9), "from 0 to 8.*from 9 to 9"),
    "negative": (words, np.full((2, 6), -1), "from 0 to 8.*from -1"),
    "fractions": (words, np.full((2, 6), 0.5), "int32.*fractions"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_representative_data_gets_one_sentence_and_no_file(name, tmp_path):
    model, data, message = BAD[name]
    with pytest.raises(tflite_export.ExportError, match=message) as caught:
        tflite_export.export(model(), tmp_path / "m.tflite", quantize="int8", representative_data=data)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("quantize", [None, "float16", "dynamic_int8", "sparse"])
def test_data_that_a_recipe_does_not_use_is_refused(quantize, tmp_path):
    with pytest.raises(tflite_export.ExportError, match=r"serves only quantize=\"int8\""):
        tflite_export.export(sounds(), tmp_path / "m.tflite", quantize=quantize, representative_data=good())


@pytest.mark.parametrize(
    ("steps", "streaming", "message"), [(8, False, "Expected 8"), (8, True, "at least 8")]
)
def test_sequences_of_a_length_that_the_file_does_not_take_are_refused(steps, streaming, message, tmp_path):
    with pytest.raises(tflite_export.ExportError, match=message):
        tflite_export.export(
            sounds(None),
            tmp_path / "m.tflite",
            quantize="int8",
            time_steps=steps,
            streaming=streaming,
            representative_data=good(),
        )


def cut(data, model=None, batch_size=2):
    model = model or sounds()
    functional = keras.Model(model.inputs, model.outputs)
    options = {"batch_size": batch_size, "time_steps": None, "streaming": False}
    return representative_samples(functional, RECIPES["int8"], data, **options)


FORMS = {
    "array": good(),
    "list_of_numbers": [good().tolist()],
    "dictionary": {"sound": good()},
    "batches": [good()[:3], good()[3:]],
    "generator_of_dictionaries": ({"sound": part} for part in (good()[:4], good()[4:])),
    "tensor": keras.ops.convert_to_tensor(good()),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_the_data_gives_whole_batches(form):
    samples = cut(FORMS[form])
    assert {x["sound"].shape for x in samples} == {(2, 6, 3)}
    seen = np.concatenate([x["sound"] for x in samples])
    assert all((row == seen).all((1, 2)).any() for row in good())


def test_endless_iterables_are_read_in_part():
    def endless():
        while True:
            yield good(1)

    assert len(cut(endless(), batch_size=1)) == 512


def test_several_inputs_may_come_as_a_list():
    inputs = as_inputs(two(), [good(), np.zeros((5, 2))], "data")
    assert {name: x.dtype for name, x in inputs.items()} == {"sound": np.float32, "speaker": np.float32}


def test_integers_without_a_known_vocabulary_may_be_anything():
    x = keras.Input((4,), dtype="int32", name="x")
    model = keras.Model(x, layers.Rescaling(0.1)(x))
    assert as_inputs(model, np.full((2, 4), -7), "data")["x"].min() == -7


@pytest.mark.parametrize(("total", "rows"), [(5, 2), (1, 4), (4, 4), (3, 7)])
def test_recut_keeps_every_sample_once_and_fills_the_last_batch(total, rows):
    x = np.arange(total)
    parts = list(recut({"x": x}, rows))
    assert all(len(part["x"]) == rows for part, _ in parts)
    np.testing.assert_array_equal(np.concatenate([part["x"][:count] for part, count in parts]), x)
