"""report: sizes counted by hand, the table, and the pictures."""

import json

import keras
import numpy as np
import pytest
from keras import layers

import keras_iss
from keras_iss.plots import save, sparsity_figure, units_figure


@pytest.fixture
def model():
    return keras.Sequential(
        [
            keras.Input((None,), dtype="int32"),
            layers.Embedding(20, 6),
            layers.LSTM(8, return_sequences=True, name="lstm"),
            layers.Bidirectional(layers.GRU(4), name="both"),
            layers.Dense(3, name="out"),
        ],
        name="reader",
    )


def test_macs_and_parameters_are_those_counted_by_hand(model):
    report = keras_iss.report(model)
    macs = 4 * 8 * (6 + 8) + 2 * 3 * 4 * (8 + 4) + 8 * 3
    biases = 4 * 8 + 2 * 2 * 3 * 4 + 3
    assert report.macs == macs
    assert report.parameters == 20 * 6 + macs + biases == model.count_params()
    assert report.units == 8 + 4 + 4


def test_stripped_counts_are_those_of_the_stripped_model(model):
    pruned = keras_iss.prune(model, {"lstm": 5, "both/forward": 1, "both/backward": 3})
    report = keras_iss.report(pruned)
    small = keras_iss.strip(pruned)
    after = keras_iss.report(small, baseline=model)
    assert report.stripped == {"parameters": after.parameters, "macs": after.macs, "units": after.units}
    assert after.parameters == small.count_params()
    # Keras's Bidirectional needs both directions equally wide.
    assert {s.name: s.units for s in after.structures if s.kind == "hidden"} == {
        "lstm": 5,
        "both/forward": 3,
        "both/backward": 3,
    }
    assert after.baseline == {"parameters": model.count_params(), "macs": report.macs, "units": 16}


def test_zeros_is_the_fraction_of_trainable_weights_that_are_zero(model):
    pruned = keras_iss.prune(model, 0.5)
    values = [keras.ops.convert_to_numpy(v) for v in pruned.trainable_variables]
    expected = sum((v == 0).sum() for v in values) / sum(v.size for v in values)
    assert keras_iss.report(pruned).zeros == pytest.approx(expected)


def test_table_names_every_structure_and_the_reason_column(model):
    text = str(keras_iss.report(model, baseline=model))
    for word in (
        "embedding",
        "lstm",
        "both/forward",
        "both/backward",
        "out",
        "pinned",
        "multiply-adds",
        "baseline",
    ):
        assert word in text


def test_to_dict_survives_json(model):
    data = json.loads(json.dumps(keras_iss.report(model).to_dict()))
    assert data["structures"][1]["name"] == "lstm"
    assert data["structures"][1]["units"] == 8
    assert data["model"] == "reader"
    assert not any(key.startswith("_") for key in data)


def test_plot_shows_zeroed_rows_and_columns_of_the_weights(model, tmp_path):
    pytest.importorskip("matplotlib")
    from matplotlib.image import imread

    pruned = keras_iss.prune(model, {"lstm": 4})
    path = tmp_path / "zeros.png"
    keras_iss.report(pruned).plot(path)
    picture = imread(path)
    assert min(picture.shape[:2]) > 200
    assert picture[..., :3].std() > 0.05
    figure = sparsity_figure({"a/kernel": np.array([[True, False], [True, True]])})
    (axis,) = figure.axes
    assert axis.images[0].get_array().tolist() == [[1, 0], [1, 1]]
    assert "25 %" in axis.get_xlabel()


def test_units_figure_draws_one_line_per_structure():
    pytest.importorskip("matplotlib")
    figure = units_figure({"lstm": [8, 5, 4], "both": [4, 4, 2]}, phases={"warm-up": 0, "ramp": 1})
    drawn = [line for line in figure.axes[0].get_lines() if len(line.get_xdata()) == 3]
    assert [list(line.get_ydata()) for line in drawn] == [[8, 5, 4], [4, 4, 2]]


def test_a_missing_folder_is_named_and_nothing_is_written(tmp_path):
    pytest.importorskip("matplotlib")
    with pytest.raises(FileNotFoundError, match="nowhere"):
        save(units_figure({"a": [1]}), tmp_path / "nowhere" / "x.png")


def test_a_failed_save_leaves_the_old_picture(tmp_path):
    pytest.importorskip("matplotlib")
    target = tmp_path / "x.unknown"
    target.write_text("old")
    with pytest.raises(ValueError, match="unknown"):
        save(units_figure({"a": [1]}), target)
    assert target.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["x.unknown"]
