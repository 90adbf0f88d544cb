"""Pruning while a model learns from another, by Keras's own `Distiller` or by code around a model."""

import keras
import numpy as np
import pytest
from keras.distillation import FeatureDistillation

import keras_iss
from keras_iss.callbacks import Backup, GrowAndPrune, ISSPruning
from tests.keras_iss.distillation_scenarios import everything, logits, taught
from tests.keras_iss.target_scenarios import compiled, fit, task

ON_JAX = "tests.keras_iss.distillation_scenarios"


def check_units_went(found):
    assert found["alive"] == 14 == sum(found["units"])
    assert found["moved"] == 0, "the teacher learns nothing"
    assert found["accuracy"] > 0.6
    assert found["difference"] < 1e-5


def test_a_student_loses_the_units_that_were_asked_for_and_the_teacher_stays():
    check_units_went(everything())


def test_so_it_is_on_jax(on_jax):
    check_units_went(on_jax)


def test_features_of_a_layer_that_is_pruned_may_be_taught():
    layer = FeatureDistillation(teacher_layer_name="first", student_layer_name="first")
    distiller, x, y = taught([logits(), layer], units=(16, 12))
    fit(distiller, x, y, ISSPruning(target=0.5, metric="units"))
    found = keras_iss.trace(distiller.student)
    assert sum(found.removable(name).sum() for name in ("first", "second")) == 14


def test_a_student_grows_and_is_pruned(tmp_path):
    distiller, x, y = taught()
    ratios = {"growth_ratio": 0.2, "pruning": 0.3, "growth_epochs": 1, "prune_epochs": 3, "rounds": 2}
    callback = GrowAndPrune(0.5, granularity="column", monitor="student_loss", tolerance=9, **ratios)
    fit(distiller, x, y, callback, epochs=5)
    callback.save_masks(tmp_path / "masks.npz")
    names = [name.split("/")[0] for name in np.load(tmp_path / "masks.npz")]
    assert set(names) == {"first", "second"}, "without the numbers and names that Keras gives to models"
    small = keras_iss.strip(distiller.student)
    assert small.get_layer("first").units + small.get_layer("second").units < 20
    np.testing.assert_allclose(
        small.predict(x, verbose=0), distiller.student.predict(x, verbose=0), atol=1e-5
    )


def test_an_interrupted_distillation_goes_on_as_if_it_had_not_been(tmp_path):
    class Stop(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 2:
                raise RuntimeError("stopped")

    def run(*callbacks):
        keras.utils.set_random_seed(1)
        distiller, x, y = taught()
        fit(distiller, x, y, ISSPruning(target=0.5, metric="units"), *callbacks)
        return distiller.student.get_weights()

    whole = run()
    with pytest.raises(RuntimeError, match="stopped"):
        run(Backup(tmp_path / "backup"), Stop())
    for expected, found in zip(whole, run(Backup(tmp_path / "backup")), strict=True):
        np.testing.assert_array_equal(found, expected)


class Around(keras.Model):
    """Code of one's own around a model, as for contrastive losses."""

    def __init__(self, inner, head=None):
        super().__init__()
        self.inner, self.head = inner, head

    def call(self, inputs, training=None):
        outputs = self.inner(inputs, training=training)
        return outputs if self.head is None else self.head(outputs)


@pytest.mark.parametrize("head", [None, keras.layers.Dropout(0.1)])
def test_the_model_inside_a_subclassed_one_is_pruned(head):
    inner, x, y = task()
    model = compiled(Around(inner, head))
    model(x[:1])
    fit(model, x, y, ISSPruning(target=0.5, metric="units"))
    assert sum(keras_iss.trace(inner).removable(name).sum() for name in ("first", "second")) == 14


@pytest.mark.parametrize("built", [True, False])
def test_a_subclassed_model_with_weights_of_its_own_is_refused(built):
    inner, x, y = task()
    model = compiled(Around(inner, keras.layers.Dense(3)))
    if built:
        model(x[:1])
    with pytest.raises(keras_iss.TraceError, match="is subclassed .*Rebuild it"):
        fit(model, x, y, ISSPruning(target=0.5, metric="units"))


@pytest.mark.parametrize("use", [keras_iss.trace, keras_iss.strip])
def test_a_distiller_itself_is_refused_with_the_name_of_its_student(use):
    distiller, _, _ = taught()
    with pytest.raises(keras_iss.TraceError, match=f"the model '{distiller.student.name}' in it: give that"):
        use(distiller)
