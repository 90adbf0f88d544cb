"""Trainings with `GrowAndPrune` that are interrupted, diverge, or run under other options of compile."""

import keras
import numpy as np
import pytest

from keras_iss.optimizers import SparseOptimizer
from tests.keras_iss.growing import Quality, Watch, fit, grow_and_prune, kernels, masks_of, sgd, small


class Interrupt(keras.callbacks.Callback):
    def __init__(self, epoch):
        super().__init__()
        self.epoch = epoch

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == self.epoch:
            raise KeyboardInterrupt


RESUMED = {"prune_epochs": 5, "rounds": 2, "monitor": "quality", "tolerance": 0.1}
QUALITIES = [0.5, 0.5, 0.5, 0.52, 0.51, 0.9, 0.9, 0.5]  # the second round, epochs 5 and 6, is undone


def resumable(*callbacks, model=None, **kwargs):
    if model is None:
        keras.utils.set_random_seed(1)
        model = small()
        model.compile(keras.optimizers.Adam(0.02), "mse")
    fit(model, Quality(QUALITIES), *callbacks, epochs=8, **kwargs)
    return model


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    checkpoint = keras.callbacks.ModelCheckpoint(folder / "{epoch}.keras")
    watch = Watch()
    model = resumable(grow_and_prune(**RESUMED), checkpoint, watch)
    return model.get_weights(), folder, watch


def assert_resumed(model, expected):
    for got, want in zip(model.get_weights(), expected, strict=True):
        np.testing.assert_allclose(got, want, atol=1e-7)
        np.testing.assert_array_equal(got == 0, want == 0)


def test_backup_and_restore_resumes_exactly_in_a_round_that_will_be_undone(tmp_path, uninterrupted):
    def callbacks():
        return grow_and_prune(**RESUMED), keras.callbacks.BackupAndRestore(tmp_path / "backup")

    with pytest.raises(KeyboardInterrupt):
        resumable(*callbacks(), Interrupt(6))
    watch = Watch()
    assert_resumed(resumable(*callbacks(), watch), uninterrupted[0])
    assert len(watch.end) == 2


def test_a_model_saved_in_the_middle_of_a_round_goes_on_exactly(uninterrupted):
    weights, folder, _ = uninterrupted
    loaded = keras.models.load_model(folder / "6.keras")
    assert isinstance(loaded.optimizer, SparseOptimizer)
    assert_resumed(resumable(grow_and_prune(**RESUMED), model=loaded, initial_epoch=6), weights)
    assert not loaded.optimizer.notes.arrays, "a finished training keeps no second model"


def test_a_backup_written_before_the_callback_s_turn_still_grows_what_the_window_chose(
    tmp_path, uninterrupted
):
    def callbacks():
        return keras.callbacks.BackupAndRestore(tmp_path / "backup"), grow_and_prune(**RESUMED)

    with pytest.raises(KeyboardInterrupt):
        resumable(*callbacks(), Interrupt(1))
    watch = Watch()
    resumable(*callbacks(), watch)
    for path, mask in uninterrupted[2].begin[1][0].items():
        np.testing.assert_array_equal(watch.begin[0][0][path], mask)


def test_nan_stops_training_with_the_last_good_state():
    class Poison(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 4:
                self.model.optimizer.learning_rate = float("nan")

    model, watch = small(), Watch()
    model.compile(sgd(), "mse")
    with pytest.warns(RuntimeWarning, match="epoch 5.*learning rate"):
        fit(model, grow_and_prune(), Poison(), watch)
    assert len(watch.end) == 5
    for got, want in zip(model.get_weights(), watch.states[3], strict=False):
        np.testing.assert_array_equal(got, want)


def test_options_of_compile_and_the_inner_optimizer_keep_working():
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = small()
    finally:
        keras.config.set_dtype_policy("float32")
    inner = keras.optimizers.Adam(0.01, gradient_accumulation_steps=2, global_clipnorm=1.0)
    model.compile(inner, "mse", jit_compile=True)
    history = fit(model, grow_and_prune(), epochs=6)
    assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    assert history["gp_connections"][1] > history["gp_connections"][0] > history["gp_connections"][-1]
    for path, mask in masks_of(model).items():
        assert not kernels(model)[path][~mask].any()


def test_a_loss_scale_does_not_change_what_grows():
    def grown(factor):
        model = small()
        model.set_weights([np.random.default_rng(5).normal(size=w.shape) for w in model.get_weights()])
        model.compile(keras.optimizers.SGD(0.01, loss_scale_factor=factor), "mse")
        fit(model, grow_and_prune(growth_epochs=1, prune_epochs=1), watch := Watch(), epochs=2)
        return watch.end[0]

    plain, scaled = grown(None), grown(256.0)
    for path, mask in plain[0].items():
        np.testing.assert_array_equal(scaled[0][path], mask)
        np.testing.assert_allclose(scaled[1][path], plain[1][path], atol=1e-6)
