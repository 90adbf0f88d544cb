"""quantize="sparse": what grow-and-prune leaves is all that the file stores, and it computes the same."""

import keras
import numpy as np
import pytest
from keras import layers

import tflite_export
from keras_iss.callbacks import GrowAndPrune
from keras_iss.layers import HLSTM, RHN
from tflite_export.census import Sparse, sparse_weights

FEATURES = 32
RECURRENT = {
    "lstm": (lambda: layers.LSTM(48, return_sequences=True), "loop"),
    "gru_without_a_loop": (lambda: layers.GRU(48), "unroll"),
    "hlstm": (lambda: HLSTM(48, gate_units=(32,), return_sequences=True), "loop"),
}


def pruned(layer, share=0.95, block=1, time=6):
    """A model with that share of every matrix's weights at zero, in blocks of inputs of one output."""
    model = keras.Sequential([layers.Input((time, FEATURES)), layer, layers.Dense(16)])
    rng = np.random.default_rng(0)

    def thinned(w):
        if w.ndim < 2:
            return rng.normal(size=w.shape)
        kept = rng.random((*w.shape[:-2], w.shape[-2] // block, w.shape[-1])) >= share
        return rng.normal(size=w.shape) * np.repeat(kept, block, axis=-2)

    model.set_weights([thinned(w) for w in model.get_weights()])
    return model


def counts(model):
    """The weights of the matrices, and those of them that aren't zero."""
    matrices = [
        keras.ops.convert_to_numpy(v)
        for v in model.weights
        if v.name.endswith("kernel") or "kernel_" in v.name
    ]
    return sum(w.size for w in matrices), sum(int(np.count_nonzero(w)) for w in matrices)


@pytest.mark.parametrize("kind", RECURRENT)
def test_only_what_is_not_zero_is_stored(kind, tmp_path):
    layer, lowering = RECURRENT[kind]
    model = pruned(layer())
    weights, nonzero = counts(model)
    result = tflite_export.export(model, tmp_path / "sparse.tflite", lowering=lowering, quantize="sparse")
    assert result.max_abs_error <= 1e-5
    found = sparse_weights(result.path.read_bytes())
    assert (found.weights, found.stored, found.direct) == (weights, nonzero, 0)
    assert result.size_bytes < 0.5 * 4 * weights
    (note,) = result.notes
    assert note.startswith(
        f"{nonzero:,} of {weights:,} weights stored in {found.matrices} sparse matrices, unpacked"
    )
    assert f"the model has {nonzero:,} weights that aren't 0" in note


def test_a_stream_stores_each_matrix_once(tmp_path):
    model = pruned(RHN(48, depth=2, return_sequences=True), time=None)
    result = tflite_export.export(model, tmp_path / "m.tflite", quantize="sparse", streaming=True)
    assert result.max_abs_error <= 1e-5
    weights, nonzero = counts(model)
    assert sparse_weights(result.path.read_bytes()) == Sparse(
        matrices=4, weights=weights, stored=nonzero, direct=0
    )


def test_blocks_are_stored_and_multiplied_as_blocks(tmp_path):
    scattered = pruned(layers.LSTM(48), share=0.9)
    blocks = pruned(layers.LSTM(48), share=0.9, block=16)
    plain, result = (
        tflite_export.export(model, tmp_path / f"{i}.tflite", quantize="sparse")
        for i, model in enumerate((scattered, blocks))
    )
    assert "DENSIFY" in plain.ops
    assert "DENSIFY" not in result.ops
    assert result.max_abs_error <= 1e-5
    weights, nonzero = counts(blocks)
    found = sparse_weights(result.path.read_bytes())
    assert found == Sparse(matrices=3, weights=weights, stored=nonzero, direct=3)
    assert result.size_bytes - 4 * nonzero < plain.size_bytes - 4 * counts(scattered)[1], (
        "places of blocks only"
    )
    assert "3 sparse matrices, 3 of which LiteRT multiplies as they are" in result.notes[0]


@pytest.mark.parametrize(("units", "streaming"), [(50, False), (50, True), (302, False)])
def test_inputs_that_do_not_fill_blocks_of_four_lose_nothing(units, streaming, tmp_path):
    # So few weights are left that the converter stores blocks of four, and of these inputs the last two fill none.
    model = pruned(layers.LSTM(units, return_sequences=True), share=0.99, time=None if streaming else 6)
    recurrent = model.layers[0].cell
    assert np.count_nonzero(keras.ops.convert_to_numpy(recurrent.recurrent_kernel)[units - 2 :])
    result = tflite_export.export(model, tmp_path / "m.tflite", quantize="sparse", streaming=streaming)
    assert result.max_abs_error <= 1e-5
    weights, nonzero = counts(model)
    found = sparse_weights(result.path.read_bytes())
    assert (found.matrices, found.weights, found.direct) == (3, weights, 3)
    of_kernel = np.count_nonzero(keras.ops.convert_to_numpy(recurrent.kernel))
    assert found.stored <= nonzero + 3 * of_kernel, (
        "32 inputs are stored in blocks, the others weight by weight"
    )


def test_a_small_matrix_whose_inputs_do_not_fill_a_block_is_stored_as_it_is(tmp_path):
    """Of 6 inputs a third would be lost, which the converter takes for zeros."""
    keras.utils.set_random_seed(1)
    model = keras.Sequential([layers.Input((8, 5)), layers.LSTM(6), layers.Dense(3, name="answer")])
    rng = np.random.default_rng(1)
    model.set_weights([w * (rng.random(w.shape) < 0.5) for w in model.get_weights()])
    answer = rng.permutation([1.0] * 12 + [0.0] * 6).reshape(6, 3)
    model.get_layer("answer").set_weights([answer, np.zeros(3)])
    result = tflite_export.export(model, tmp_path / "m.tflite", quantize="sparse")
    assert result.max_abs_error <= 1e-5


def test_masks_of_grow_and_prune_are_what_is_stored(tmp_path):
    model = keras.Sequential([layers.Input((4, FEATURES)), RHN(32, depth=2), layers.Dense(16)])
    model.compile("adam", "mse", jit_compile=False)
    schedule = {"growth_ratio": 0.05, "growth_epochs": 1, "pruning": 0.2, "prune_epochs": 1}
    masks = GrowAndPrune(0.9, **schedule, monitor="loss", tolerance=1.0, verbose=0)
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(32, 4, FEATURES)), rng.normal(size=(32, 16))
    model.fit(x, y, epochs=2, verbose=0, callbacks=[masks])
    result = tflite_export.export(model, tmp_path / "m.tflite", quantize="sparse")
    weights, nonzero = counts(model)
    assert nonzero < 0.2 * weights
    assert sparse_weights(result.path.read_bytes()) == Sparse(
        matrices=4, weights=weights, stored=nonzero, direct=0
    )


def test_a_matrix_with_few_zeros_is_stored_whole(tmp_path):
    model = pruned(layers.LSTM(48))
    dense = model.layers[-1]
    dense.set_weights([np.random.default_rng(1).normal(size=w.shape) for w in dense.get_weights()])
    result = tflite_export.export(model, tmp_path / "m.tflite", quantize="sparse")
    found = sparse_weights(result.path.read_bytes())
    assert (found.matrices, found.stored) == (2, counts(model)[1] - 48 * 16)
    assert f"{found.stored:,} of {4 * 48 * (FEATURES + 48):,} weights stored in 2" in result.notes[0]


def test_a_model_with_few_zeros_is_refused(tmp_path):
    model = pruned(layers.LSTM(48), share=0.2)
    with pytest.raises(tflite_export.ExportError, match=r"would save nothing.*exactly zero"):
        tflite_export.export(model, tmp_path / "m.tflite", quantize="sparse")
    assert not list(tmp_path.iterdir())
