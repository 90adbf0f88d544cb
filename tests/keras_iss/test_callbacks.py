"""`ISSPruning` from the user's side: real trainings, their logs, what is left of the model, and resuming."""

import keras
import numpy as np
import pytest

import keras_iss
from keras_iss.callbacks import ISSPruning, SparsityLogger
from keras_iss.optimizers import SparseOptimizer
from tests.keras_iss.learning_scenarios import two_layers
from tests.keras_iss.target_scenarios import SAMPLES, compiled, eager, fit, task

ON_JAX = "tests.keras_iss.target_scenarios"


def zero_units(model, name):
    return keras_iss.trace(model).removable(name)


@pytest.mark.parametrize("metric", ["macs", "parameters", "units"])
def test_target_is_met_within_two_points_and_strip_removes_as_much(metric):
    model, x, y = task((32, 24))
    history = fit(compiled(model), x, y, ISSPruning(target=0.6, metric=metric), epochs=8)
    assert history["iss_removed"][-1] == pytest.approx(0.6, abs=0.02)
    assert history["iss_removed"][0] == 0
    assert history["iss_removed"][3:] == [history["iss_removed"][-1]] * 5, "held in fine-tuning"
    small = keras_iss.strip(model)
    cost, small_cost = keras_iss.trace(model).cost, keras_iss.trace(small).cost
    removed = 1 - small_cost.measure(metric) / cost.measure(metric)
    assert removed == pytest.approx(history["iss_removed"][-1], abs=1e-9)
    assert history["accuracy"][-1] > 0.7
    assert sum(s.size for s in keras_iss.trace(small).structures) == history["iss_units"][-1]


@pytest.mark.parametrize("epochs", [1, 2, 3])
def test_target_is_met_in_few_epochs_too(epochs):
    model, x, y = task()
    history = fit(compiled(model), x, y, ISSPruning(target=0.5, metric="units"), epochs=epochs)
    assert history["iss_units"][-1] == 14


def test_target_is_met_when_nobody_knows_how_long_an_epoch_is():
    model, x, y = task()

    def batches():
        for i in range(0, SAMPLES, 16):
            yield x[i : i + 16], y[i : i + 16]

    callback = ISSPruning(target=0.5, metric="units")
    history = eager(model).fit(batches(), epochs=1, verbose=0, callbacks=[callback]).history
    assert history["iss_units"] == [14]
    assert zero_units(model, "first").sum() + zero_units(model, "second").sum() == 14


def test_named_structures_alone_are_pruned():
    model, x, y = task()
    fit(eager(model), x, y, ISSPruning(target=0.3, metric="units", structures=["second"]), epochs=2)
    assert zero_units(model, "first").sum() == 0
    assert zero_units(model, "second").sum() == 9  # the fewest that reach 30 % of 28


def test_strength_presses_in_the_ramp_and_what_is_gone_stays_gone_under_momentum():
    model, x, y = task()
    callback = ISSPruning(12.0, warmup_epochs=1, ramp_epochs=2, finetune_epochs=2)
    history = fit(compiled(model), x, y, callback, epochs=5)
    assert history["iss_strength"] == [0.0, 6.0, 12.0, 0.0, 0.0]
    units = history["iss_units"]
    assert units[0] == 28 > units[2] == units[3] == units[4]
    gone = zero_units(model, "first")
    assert gone.any()
    bias = keras.ops.convert_to_numpy(model.get_layer("first").cell.bias)
    assert not bias[gone].any()
    fit(model, x, y, epochs=1)  # without the callback
    np.testing.assert_array_equal(zero_units(model, "first"), gone)


def test_strength_by_name_leaves_the_others_alone():
    model, x, y = task()
    fit(eager(model), x, y, ISSPruning({"second": 30.0}, warmup_epochs=0), epochs=2)
    assert zero_units(model, "second").any()
    assert not zero_units(model, "first").any()
    assert [s.name for s in model.optimizer.structures] == ["second"]


def test_paper_s_method_presses_from_the_first_epoch_to_the_last():
    model, x, y = task()
    optimizer = keras.optimizers.SGD(0.5, clipnorm=1.0)
    history = fit(compiled(model, optimizer), x, y, ISSPruning(0.03, method="subgradient"), epochs=4)
    assert history["iss_strength"] == [0.03] * 4
    kernel = keras.ops.convert_to_numpy(model.get_layer("first").cell.kernel)
    assert np.abs(kernel[kernel != 0]).min() >= 1e-4


def test_later_callbacks_see_the_logs(tmp_path):
    model, x, y = task()
    csv = keras.callbacks.CSVLogger(tmp_path / "log.csv")
    fit(eager(model), x, y, ISSPruning(target=0.5), csv, epochs=1)
    header = (tmp_path / "log.csv").read_text().splitlines()[0].split(",")
    assert {"iss_units", "iss_removed", "iss_strength"} <= set(header)


def test_a_second_fit_goes_on_from_the_masks_with_the_same_callback_or_a_new_one():
    model, x, y = task()
    callback = ISSPruning(target=0.5, metric="units")
    fit(compiled(model), x, y, callback, epochs=2)
    gone = zero_units(model, "first")
    assert fit(model, x, y, callback, epochs=2)["iss_units"] == [14, 14]
    np.testing.assert_array_equal(zero_units(model, "first"), gone)
    further = ISSPruning(target=0.75, metric="units", structures=["first", "second"])
    assert fit(model, x, y, further, epochs=2)["iss_units"] == [14, 7]
    assert zero_units(model, "first")[gone].all()
    assert isinstance(model.optimizer.inner_optimizer, keras.optimizers.Adam)


def test_masks_of_structures_no_longer_named_hold_on():
    model, x, y = task()
    fit(eager(model), x, y, ISSPruning(target=0.4, metric="units", structures=["first"]), epochs=1)
    gone = zero_units(model, "first")
    fit(model, x, y, ISSPruning(target=0.3, metric="units", structures=["second"]), epochs=1)
    np.testing.assert_array_equal(zero_units(model, "first"), gone)
    assert gone.sum() == 12
    assert zero_units(model, "second").sum() == 9


class Interrupt(keras.callbacks.Callback):
    def __init__(self, epoch):
        super().__init__()
        self.epoch = epoch

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == self.epoch:
            raise KeyboardInterrupt


HOW = {"target": {"target": 0.5, "metric": "units"}, "strength": {"strength": 12.0, "warmup_epochs": 1}}


def start():
    keras.utils.set_random_seed(1)
    model, x, y = task()
    return compiled(model), x, y


@pytest.fixture(scope="module", params=HOW)
def uninterrupted(request, tmp_path_factory):
    """How it was trained, the weights in the end, and a folder with the model after every epoch."""
    folder = tmp_path_factory.mktemp("models")
    keras.utils.clear_session(free_memory=False)
    model, x, y = start()
    checkpoint = keras.callbacks.ModelCheckpoint(folder / "{epoch}.keras")
    fit(model, x, y, ISSPruning(**HOW[request.param]), checkpoint, epochs=5)
    return HOW[request.param], model.get_weights(), folder


def assert_same(model, weights):
    for got, want in zip(model.get_weights(), weights, strict=True):
        np.testing.assert_allclose(got, want, atol=1e-7)
        np.testing.assert_array_equal(got == 0, want == 0)


@pytest.mark.parametrize("at", [2, 3])
def test_backup_and_restore_resumes_exactly(tmp_path, uninterrupted, at):
    how, weights, _ = uninterrupted

    def pair():
        both = [ISSPruning(**how), keras.callbacks.BackupAndRestore(tmp_path / "backup")]
        return both if at == 2 else both[::-1]

    model, x, y = start()
    with pytest.raises(KeyboardInterrupt):
        fit(model, x, y, *pair(), Interrupt(at), epochs=5)
    model, x, y = start()
    history = fit(model, x, y, *pair(), epochs=5)
    assert len(history["loss"]) == 5 - at
    assert_same(model, weights)


def test_a_model_saved_in_mid_training_goes_on_exactly(uninterrupted):
    how, weights, folder = uninterrupted
    _, x, y = task()
    loaded = keras.models.load_model(folder / "3.keras")
    assert isinstance(loaded.optimizer, SparseOptimizer)
    fit(loaded, x, y, ISSPruning(**how), epochs=5, initial_epoch=3)
    assert_same(loaded, weights)


def test_phases_count_from_the_epoch_in_which_the_callback_starts():
    model, x, y = task()
    fit(compiled(model), x, y, epochs=2)
    history = fit(model, x, y, ISSPruning(target=0.5, metric="units"), epochs=6, initial_epoch=2)
    assert history["iss_units"] == [28, 14, 14, 14]


def test_options_of_compile_keep_working_under_the_callback():
    model, x, y = task()
    callback = ISSPruning(target=0.5, metric="units")
    compiled(model, jit_compile=True, steps_per_execution=3)
    assert fit(model, x, y, callback, epochs=2)["iss_units"] == [28, 14]
    model, x, y = task()
    compiled(model, run_eagerly=True)
    assert fit(model, x[:16], y[:16], callback, epochs=1, batch_size=8)["iss_units"] == [14]


def test_mixed_precision_moving_averages_and_accumulation_under_the_callback(tmp_path):
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model, x, y = task()
    finally:
        keras.config.set_dtype_policy("float32")
    inner = keras.optimizers.Adam(1e-2, use_ema=True, gradient_accumulation_steps=2)
    history = fit(compiled(model, inner), x, y, ISSPruning(target=0.5, metric="units"), epochs=3)
    assert history["iss_units"] == [28, 14, 14]
    assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    assert zero_units(model, "first").sum() + zero_units(model, "second").sum() == 14
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras").optimizer
    assert isinstance(loaded, keras.optimizers.LossScaleOptimizer)
    sparse = loaded.inner_optimizer
    assert isinstance(sparse, SparseOptimizer)
    assert isinstance(sparse.inner_optimizer, keras.optimizers.Adam)
    np.testing.assert_array_equal(sparse.deadlines("first") >= 0, zero_units(model, "first"))


def test_nan_stops_training_with_the_weights_of_the_last_good_epoch():
    model, x, y = task()
    compiled(model)

    class Poison(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 2:
                self.model.optimizer.learning_rate = float("nan")

        def on_epoch_end(self, epoch, logs=None):
            if epoch == 1:
                self.good = self.model.get_weights()

    poison = Poison()
    callback = ISSPruning(target=0.5, metric="units")
    with pytest.warns(RuntimeWarning, match="epoch 3.*learning rate"):
        history = fit(model, x, y, callback, poison, epochs=6)
    assert len(history["loss"]) == 3
    for got, want in zip(model.get_weights(), poison.good, strict=True):
        np.testing.assert_array_equal(got, want)
    for variable in model.optimizer.variables:
        assert np.isfinite(keras.ops.convert_to_numpy(variable)).all() or "learning_rate" in variable.path
    assert history["iss_units"][-1] == int(
        sum((keras_iss.trace(model).norms(n) > 0).sum() for n in ("first", "second"))
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "exactly one"),
        ({"strength": 1.0, "target": 0.5}, "exactly one"),
        ({"strength": 0}, "strength"),
        ({"strength": -1.0}, "strength"),
        ({"strength": float("nan")}, "strength"),
        ({"strength": {"first": -1.0}}, "first"),
        ({"target": 0.0}, "target"),
        ({"target": 1}, "target"),
        ({"target": 60}, "target"),
        ({"target": float("nan")}, "target"),
        ({"target": "most"}, "target"),
        ({"target": 0.5, "metric": "flops"}, "metric"),
        ({"target": 0.5, "method": "lasso"}, "method"),
        ({"target": 0.5, "structures": []}, "structures"),
        ({"target": 0.5, "warmup_epochs": -1}, "warmup_epochs"),
        ({"target": 0.5, "ramp_epochs": 0}, "ramp_epochs"),
        ({"target": 0.5, "finetune_epochs": 0.5}, "finetune_epochs"),
        ({"strength": 1.0, "threshold": float("nan")}, "threshold"),
    ],
)
def test_arguments_out_of_range_are_refused_at_once(arguments, message):
    with pytest.raises(ValueError, match=message):
        ISSPruning(**arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"target": 0.5, "structures": ["frist"]}, "'first'"),
        ({"strength": {"secnd": 1.0}}, "'second'"),
        ({"target": 0.5, "structures": ["dense"]}, r"can't be pruned.*output"),
        ({"target": 0.99}, r"at most 0\.9\d+ is removed"),
        ({"target": 0.5, "ramp_epochs": 5}, "phases"),
        ({"strength": 1.0, "warmup_epochs": 2, "finetune_epochs": 2}, "phases"),
    ],
)
def test_what_does_not_fit_the_model_or_the_training_is_refused_when_training_begins(arguments, message):
    model, x, y = task()
    before = model.get_weights()
    with pytest.raises(ValueError, match=message):
        fit(compiled(model), x, y, ISSPruning(**arguments), epochs=3)
    for got, want in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(got, want)


def test_frozen_weights_of_a_structure_are_refused():
    model, x, y = task()
    model.get_layer("second").trainable = False
    compiled(model)
    with pytest.raises(ValueError, match=r"'first'.*frozen.*trainable=True"):
        fit(model, x, y, ISSPruning(target=0.2), epochs=1)


def test_a_model_without_a_structure_is_refused():
    model = keras.Sequential([keras.Input((8, 3)), keras.layers.LSTM(4, name="lstm")])
    model.compile("adam", "mse")
    with pytest.raises(ValueError, match=r"at least one structure.*lstm.*output"):
        model.fit(np.zeros((4, 8, 3)), np.zeros((4, 4)), verbose=0, callbacks=[ISSPruning(target=0.2)])


def test_two_inner_models_with_equal_paths_one_of_them_frozen():
    """Keys of weights number equal paths; among the trained weights alone the numbers differ."""

    def inner(name):
        keras.utils.clear_session(free_memory=False)
        return keras.Sequential(
            [
                keras.Input((8, 3)),
                keras.layers.LSTM(4, name="lstm", return_sequences=True),
                keras.layers.Dense(3),
            ],
            name=name,
        )

    frozen, trained = inner("a"), inner("b")
    frozen.trainable = False
    inputs = keras.Input((8, 3))
    model = keras.Model(inputs, keras.layers.Add()([frozen(inputs), trained(inputs)]))
    model.compile("adam", "mse", run_eagerly=True)
    found = keras_iss.trace(model)
    free = [s.name for s in found.structures if all(v.trainable for v in map(found.weights.get, s.paths))]
    assert len(free) == 1
    paths = [v.path for v in model.variables]
    assert len(set(paths)) < len(paths), "the case that this is about"
    before = frozen.get_weights()
    x = np.random.default_rng(0).normal(size=(16, 8, 3))
    callback = ISSPruning(target=0.2, metric="units", structures=free)
    model.fit(x, x, verbose=0, epochs=1, callbacks=[callback])
    assert keras_iss.trace(model).removable(free[0]).sum() == 2
    for got, want in zip(frozen.get_weights(), before, strict=True):
        np.testing.assert_array_equal(got, want)


def test_sparsity_logger_writes_units_norms_and_sparsity(tmp_path):
    tf = pytest.importorskip("tensorflow")
    model, x, y = task()
    fit(eager(model), x, y, ISSPruning(target=0.5, metric="units", log_dir=str(tmp_path)), epochs=2)
    seen = {}
    for file in tmp_path.iterdir():
        for event in tf.compat.v1.train.summary_iterator(str(file)):
            for value in event.summary.value:
                seen.setdefault(value.tag, []).append(tf.make_ndarray(value.tensor))
    assert {
        "iss_units",
        "iss_removed",
        "iss/first/units_alive",
        "iss/first/norms",
        "iss/second/sparsity",
    } <= set(seen)
    assert [int(v) for v in seen["iss_units"]] == [28, 14]
    assert int(seen["iss/first/units_alive"][-1]) == (~zero_units(model, "first")).sum()
    assert seen["iss/second/sparsity"][-1] > seen["iss/second/sparsity"][0] == 0


def test_sparsity_logger_works_alone(tmp_path):
    pytest.importorskip("tensorflow")
    model = two_layers()
    model.compile("sgd", "mse", run_eagerly=True)
    model.fit(np.zeros((4, 7, 5)), np.zeros((4, 2)), verbose=0, callbacks=[SparsityLogger(tmp_path)])
    assert list(tmp_path.iterdir())


def test_target_is_met_within_two_points_on_jax(on_jax):
    for logged, stripped in on_jax.values():
        assert logged == pytest.approx(0.6, abs=0.02)
        assert stripped == pytest.approx(logged, abs=1e-9)
