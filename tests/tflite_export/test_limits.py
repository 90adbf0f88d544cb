"""max_metric_drop: a file that loses more than the user allows isn't written."""

import keras
import numpy as np
import pytest
from keras import layers

import tflite_export
from tflite_export.metrics import as_metric

X = np.random.default_rng(0).normal(size=(30, 6, 3)).astype("float32")


def model():
    return keras.Sequential([layers.Input((6, 3)), layers.LSTM(4), layers.Dense(3, activation="softmax")])


def labelled():
    """A model, and data on which it is always right."""
    right = model()
    return right, (X, right.predict(X, verbose=0).argmax(-1))


def ruined():
    """A model whose 8-bit weights are useless: one huge weight that reads zeros takes the whole scale."""
    wide = keras.Sequential([layers.Input((6, 40)), layers.LSTM(64), layers.Dense(3, activation="softmax")])
    kernel = wide.layers[0].cell.kernel
    kernel.assign(np.concatenate([np.full((1, 256), 1e4), kernel.numpy()[1:]]))
    x = np.random.default_rng(0).normal(size=(60, 6, 40)).astype("float32")
    x[..., 0] = 0
    return wide, (x, wide.predict(x, verbose=0).argmax(-1))


def test_a_file_that_keeps_the_metric_is_written_with_a_note(tmp_path):
    right, data = labelled()
    result = tflite_export.export(
        right, tmp_path / "m.tflite", quantize="float16", metric="accuracy", data=data, max_metric_drop=0.0
    )
    assert result.path.exists()
    assert "accuracy: 1, Keras 1" in str(result)


@pytest.mark.parametrize(
    "metric", ["accuracy", keras.metrics.SparseCategoricalAccuracy(), "sparse_categorical_crossentropy"]
)
def test_a_file_that_loses_too_much_is_refused_and_the_old_one_kept(metric, tmp_path):
    wide, data = ruined()
    path = tmp_path / "m.tflite"
    path.write_bytes(b"old")
    with pytest.raises(
        tflite_export.ExportError, match=r"dynamic_int8 takes the metric.*max_metric_drop=0.01"
    ):
        tflite_export.export(
            wide, path, quantize="dynamic_int8", metric=metric, data=data, max_metric_drop=0.01, verify=False
        )
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(("mode", "refused"), [("max", True), ("min", False)])
def test_the_mode_says_which_way_is_a_loss(mode, refused, tmp_path):
    wide, data = ruined()

    def share_right(y, predicted):
        return np.mean(predicted.argmax(-1) == y)

    def export():
        return tflite_export.export(
            wide,
            tmp_path / "m.tflite",
            quantize="dynamic_int8",
            metric=share_right,
            metric_mode=mode,
            data=data,
            max_metric_drop=0.01,
            verify=False,
        )

    if refused:
        with pytest.raises(tflite_export.ExportError, match="share_right"):
            export()
    else:
        assert export().path.exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_metric_drop": 0.1}, "needs `metric`.*`data`"),
        ({"metric": "accuracy"}, "serve only `max_metric_drop`"),
        ({"metric": "accuracy", "data": (X, X), "max_metric_drop": -1}, "at least 0.*-1"),
        ({"metric": "accuracy", "data": (X, X), "max_metric_drop": float("nan")}, "at least 0"),
        ({"metric": "accuracy", "data": X, "max_metric_drop": 0.1}, r"the pair \(x, y\)"),
        ({"metric": "acuracy", "data": (X, X), "max_metric_drop": 0.1}, "name that Keras knows.*acuracy"),
        ({"metric": 3, "data": (X, X), "max_metric_drop": 0.1}, "Expected a function.*metric=3"),
        ({"metric": len, "data": (X, X), "max_metric_drop": 0.1}, 'metric_mode="max" or "min"'),
        (
            {"metric": "mae", "data": (X, np.zeros((30, 7))), "max_metric_drop": 0.1},
            r"'mean_absolute_error' can't judge.*\(30, 7\)",
        ),
        ({"metric_mode": "up"}, '"auto", "max" or "min".*\'up\''),
        ({"metric": "accuracy", "data": (X[:, :2], X), "max_metric_drop": 0.1}, "argument `data`.*6, 3"),
        (
            {"metric": "mae", "data": (X, np.zeros((7, 3))), "max_metric_drop": 0.1},
            "as many samples in y as in x, 30.*7",
        ),
    ],
)
def test_bad_arguments_get_one_sentence_and_no_file(options, message, tmp_path):
    with pytest.raises(tflite_export.ExportError, match=message) as caught:
        tflite_export.export(model(), tmp_path / "m.tflite", **options)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


METRICS = {
    "accuracy": ("accuracy", True),
    "acc": ("accuracy", True),
    "sparse_categorical_accuracy": ("sparse_categorical_accuracy", True),
    "loss by name": ("sparse_categorical_crossentropy", False),
    "metric": (keras.metrics.SparseTopKCategoricalAccuracy(2), True),
    "class": (keras.metrics.SparseCategoricalAccuracy, True),
    "error metric": (keras.metrics.SparseCategoricalCrossentropy(), False),
    "loss": (keras.losses.SparseCategoricalCrossentropy(), False),
    "keras function": (keras.losses.sparse_categorical_crossentropy, False),
    "own function": (lambda y, p: 1.5, None),
}


@pytest.mark.parametrize("name", METRICS)
def test_metrics_are_those_of_keras_and_know_their_direction(name):
    given, larger_is_better = METRICS[name]
    metric = as_metric(given)
    assert metric.larger_is_better is larger_is_better
    y, p = np.array([0, 1, 2, 2]), np.eye(3, dtype="float32")[[0, 1, 2, 1]] * 0.9 + 0.05
    twice = [metric(y, p), metric(y, p)]
    assert twice[0] == twice[1]
    if name == "own function":
        assert twice[0] == 1.5
        return
    judge = keras.Sequential([layers.Input((3,)), layers.Activation("linear")])
    known = given() if isinstance(given, type) else given
    judge.compile(loss="sparse_categorical_crossentropy", metrics=[known])
    results = judge.evaluate(p, y, verbose=0, return_dict=True)
    (expected,) = (value for name, value in results.items() if name != "loss")
    assert twice[0] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("y", "p", "expected"),
    [
        (np.array([[1.0], [0.0]]), np.array([[0.9], [0.8]]), 0.5),
        (np.eye(2), np.array([[0.9, 0.1], [0.8, 0.2]]), 0.5),
        (np.array([[0, 1]]), np.array([[[0.9, 0.1], [0.8, 0.2]]]), 0.5),
    ],
)
def test_accuracy_is_told_from_the_shapes_as_keras_does(y, p, expected):
    assert as_metric("accuracy")(y, p) == pytest.approx(expected)
