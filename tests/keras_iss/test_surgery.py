"""prune and strip: what they accept, what they keep, and that training goes on."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers, ops

import keras_iss
from keras_iss.structures import scale
from tests.keras_iss.surgery_scenarios import X, Y, small_model
from tests.on_backend import computed, load
from tests.topologies import ZOO, inputs_for, outputs_of, randomise, zero_some_units

ON_JAX = "tests.keras_iss.surgery_scenarios"


def zero(model: keras.Model, name: str, units: list[int]) -> None:
    found = keras_iss.trace(model)
    factors = np.ones(found[name].size, "float32")
    factors[units] = 0
    for path, value in scale(found[name], found.weights, factors, penalised_only=False).items():
        found.weights[path].assign(value)


def widths(model: keras.Model) -> dict[str, int]:
    return {s.name: s.size for s in keras_iss.trace(model).structures}


# --- prune --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keep", "expected"),
    [
        ({"first": 4}, {"first": 4, "second": 4}),
        ({"first": 6, "second": 1}, {"first": 6, "second": 1}),
        ({"first": 0.5}, {"first": 3, "second": 4}),
        ({"first": np.int64(2)}, {"first": 2, "second": 4}),
        ({"first": 1.0}, {"first": 6, "second": 4}),
        (0.5, {"first": 3, "second": 2}),
        (0.4, {"first": 3, "second": 2}),  # rounded up
        (1e-9, {"first": 1, "second": 1}),
    ],
)
def test_prune_keeps_as_many_units_as_asked(keep, expected):
    model = small_model()
    assert widths(keras_iss.strip(keras_iss.prune(model, keep))) == expected


def test_prune_keeps_the_strongest_and_changes_a_copy_only():
    model = small_model()
    before = [ops.convert_to_numpy(v) for v in model.variables]
    norms = keras_iss.trace(model).norms("first")
    pruned = keras_iss.trace(keras_iss.prune(model, {"first": 2}))
    assert set(np.flatnonzero(pruned.norms("first"))) >= set(np.argsort(-norms)[:2])
    assert pruned.removable("first").sum() == 4
    for variable, value in zip(model.variables, before, strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(variable), value)


@pytest.mark.parametrize(
    "keep",
    [0, 0.0, -1, 7, 1.5, True, float("nan"), float("inf"), "half", None],
)
def test_prune_refuses_a_width_out_of_range(keep):
    with pytest.raises(
        ValueError, match="Invalid value for argument keep.*'first'.*from 1 to 6.*Received"
    ) as caught:
        keras_iss.prune(small_model(), {"first": keep})
    assert repr(keep) in str(caught.value)


@pytest.mark.parametrize("keep", [0.0, -0.5, 1.5, float("nan"), 3, True, "half", None])
def test_prune_refuses_a_fraction_out_of_range(keep):
    with pytest.raises(ValueError, match="Invalid value for argument keep"):
        keras_iss.prune(small_model(), keep)


def test_prune_refuses_names_that_are_not_there_or_pinned():
    with pytest.raises(keras_iss.TraceError, match="no structure named 'firts'.*'first'"):
        keras_iss.prune(small_model(), {"firts": 2})
    with pytest.raises(keras_iss.TraceError, match="'out' can't be pruned: it is an output"):
        keras_iss.prune(small_model(), {"out": 1})


def test_prune_of_a_model_without_hidden_structures_is_refused():
    model = keras.Sequential([keras.Input((3,)), layers.Dense(4), layers.Dense(2)])
    with pytest.raises(ValueError, match="no hidden structure"):
        keras_iss.prune(model, 0.5)


def test_a_trace_of_another_model_is_refused():
    with pytest.raises(ValueError, match="its weights differ"):
        keras_iss.prune(small_model(), 0.5, trace=keras_iss.trace(small_model(5)))
    with pytest.raises(ValueError, match="its weights differ"):
        keras_iss.prune(small_model(), 0.5, trace=keras_iss.trace(small_model()))


def test_a_fitting_trace_is_used():
    model = small_model()
    assert widths(keras_iss.strip(keras_iss.prune(model, 0.5, trace=keras_iss.trace(model))))["first"] == 3


# --- strip --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("zeros", "options", "width"),
    [
        (4, {}, 2),
        (4, {"multiple_of": 4}, 4),
        (4, {"multiple_of": 8}, 6),  # no wider than it is
        (6, {}, 1),
        (6, {"min_units": 3}, 3),
        (5, {"min_units": 2, "multiple_of": 3}, 3),
        (0, {"multiple_of": 4}, 6),
    ],
)
def test_strip_rounds_widths_up(zeros, options, width):
    model = small_model()
    zero(model, "first", list(range(zeros)))
    assert widths(keras_iss.strip(model, **options))["first"] == width


def test_of_the_removable_units_the_strongest_stay():
    model = small_model()
    found = keras_iss.trace(model)
    readers = [p for p in found["first"].slices if p.role.value == "outgoing"]
    for part in readers:  # units 0-3 are read by nothing, but their incoming weights differ
        value = ops.convert_to_numpy(found.weights[part.path]).copy()
        value[:4] = 0
        found.weights[part.path].assign(value)
    kernel = model.get_layer("first").cell.kernel
    value = ops.convert_to_numpy(kernel).copy()
    value[:, 2::6] *= 100
    kernel.assign(value)
    small = keras_iss.strip(model, multiple_of=3)
    assert np.abs(ops.convert_to_numpy(small.get_layer("first").cell.kernel)).max() > 10


@pytest.mark.parametrize("name", ["multiple_of", "min_units"])
@pytest.mark.parametrize("value", [0, -1, 1.5, True, "4", None])
def test_strip_refuses_numbers_that_are_not_positive_integers(name, value):
    with pytest.raises(ValueError, match=f"Invalid value for argument {name}.*positive integer"):
        keras_iss.strip(small_model(), **{name: value})


@keras.saving.register_keras_serializable("keras_iss_tests")
class Shifted(layers.Layer):
    """Adds 1 to each unit and sums with the weights of a reader: not 0 at 0."""

    def call(self, x):
        return x + 1.0


def test_a_wrong_rule_is_caught_by_the_check():
    keras_iss.register(Shifted, lambda call: call.args[0].passed(zero=True))  # wrong: 0 becomes 1
    model = keras.Sequential(
        [keras.Input((4, 3)), layers.LSTM(5, name="lstm"), Shifted(), layers.Dense(2, name="out")]
    )
    found = keras_iss.trace(model)
    for part in found["lstm"].slices:
        if part.role.value == "incoming":
            value = ops.convert_to_numpy(found.weights[part.path]).copy()
            value[..., part.indices(5)[3]] = 0
            found.weights[part.path].assign(value)
    with pytest.raises(keras_iss.StripError, match="output 0 .* differs by"):
        keras_iss.strip(model)
    assert keras_iss.strip(model, verify=False).get_layer("lstm").units == 4


# --- what the new model keeps -------------------------------------------------------------------------------------

OPTIMIZERS = {
    "adam": lambda: keras.optimizers.Adam(1e-2, amsgrad=True),
    "momentum": lambda: keras.optimizers.SGD(1e-2, momentum=0.9),
    "rmsprop": lambda: keras.optimizers.RMSprop(1e-2, momentum=0.5, centered=True),
    "adagrad": lambda: keras.optimizers.Adagrad(1e-2),
    "lion": lambda: keras.optimizers.Lion(1e-3),
    "clipped": lambda: keras.optimizers.AdamW(1e-2, clipnorm=1.0, use_ema=True),
}


def hand_cut(value: np.ndarray, shape: tuple[int, ...], gone: list[int], size: int) -> np.ndarray:
    """Removes units from each axis that must shrink, gate by gate."""
    for axis, (now, then) in enumerate(zip(value.shape, shape, strict=True)):
        if now != then:
            gates = now // size
            value = np.delete(value, [g * size + k for g in range(gates) for k in gone], axis=axis)
    return value


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_compiled_model_stays_compiled_with_the_optimizer_state_of_the_kept_units(optimizer):
    model = small_model()
    # The compiled step is tried once; it takes seconds to start.
    model.compile(OPTIMIZERS[optimizer](), "mse", metrics=["mae"], run_eagerly=optimizer != "adam")
    model.fit(X, Y, epochs=2, batch_size=4, verbose=0)
    zero(model, "first", [1, 4])
    small = keras_iss.strip(model)

    assert small.compiled
    assert type(small.optimizer) is type(model.optimizer)
    assert int(small.optimizer.iterations) == int(model.optimizer.iterations) == 4
    cut = 0
    for old, new in zip(model.optimizer.variables, small.optimizer.variables, strict=True):
        value = hand_cut(ops.convert_to_numpy(old), tuple(new.shape), [1, 4], 6)
        np.testing.assert_array_equal(ops.convert_to_numpy(new), value)
        cut += tuple(old.shape) != tuple(new.shape)
    assert cut >= 4, "kernel, recurrent kernel and bias of the first layer, kernel of the second"
    np.testing.assert_allclose(small.evaluate(X, Y, verbose=0), model.evaluate(X, Y, verbose=0), rtol=1e-5)
    before = small.evaluate(X, Y, verbose=0)[0]
    small.fit(X, Y, epochs=3, batch_size=4, verbose=0)
    assert small.evaluate(X, Y, verbose=0)[0] != before


def test_factored_optimizer_state_starts_afresh_and_training_goes_on():
    model = small_model()
    model.compile(keras.optimizers.Adafactor(1e-2), "mse", run_eagerly=True)
    model.fit(X, Y, verbose=0)
    zero(model, "first", [0])
    small = keras_iss.strip(model)
    assert np.isfinite(small.fit(X, Y, verbose=0).history["loss"][0])


def test_optimizer_state_of_inner_models_with_equal_weight_paths():
    model = ZOO["inner_models_with_equal_weight_paths"].build()
    model.compile(keras.optimizers.SGD(1e-2, momentum=0.9), "mse", run_eagerly=True)
    model.fit(X, Y, verbose=0)
    zero(model, "left/lstm", [0])
    zero(model, "right/lstm", [3])
    small = keras_iss.strip(model)
    state = {id(v): i for i, v in enumerate(model.trainable_variables)}
    inner = [model.get_layer(n).get_layer("lstm").cell.bias for n in ("left", "right")]
    for bias, gone in zip(inner, ([0], [3]), strict=True):
        index = 2 + state[id(bias)]  # after iterations and learning rate
        value = hand_cut(ops.convert_to_numpy(model.optimizer.variables[index]), (12,), gone, 4)
        np.testing.assert_array_equal(ops.convert_to_numpy(small.optimizer.variables[index]), value)


def squared(y_true, y_pred):
    return ops.mean(ops.square(y_true - y_pred))


def test_a_loss_function_needs_no_registration():
    model = small_model()
    model.compile("sgd", squared, run_eagerly=True)
    model.fit(X, Y, verbose=0)
    zero(model, "first", [2])
    small = keras_iss.strip(model)
    np.testing.assert_allclose(small.evaluate(X, Y, verbose=0), model.evaluate(X, Y, verbose=0), rtol=1e-5)


def test_a_model_that_is_not_compiled_stays_so():
    assert not keras_iss.strip(small_model()).compiled


def test_frozen_layers_stay_frozen():
    inner = keras.Sequential(
        [keras.Input((None, 4)), layers.GRU(4, return_sequences=True, name="gru")], name="inner"
    )
    both = layers.Bidirectional(layers.LSTM(3, return_sequences=True), name="both")
    model = keras.Sequential(
        [
            keras.Input((4, 3)),
            layers.LSTM(4, return_sequences=True, name="lstm"),
            inner,
            both,
            layers.BatchNormalization(name="norm"),
            layers.Dense(2, name="out"),
        ]
    )
    model.get_layer("lstm").trainable = False
    inner.trainable = False
    both.forward_layer.trainable = False
    small = keras_iss.strip(model)
    assert [v.trainable for v in small.variables] == [v.trainable for v in model.variables]
    assert [v.path for v in small.trainable_variables] == [v.path for v in model.trainable_variables]
    assert not small.get_layer("inner").trainable
    assert small.get_layer("both").trainable
    model.trainable = False
    assert not keras_iss.strip(model).trainable_variables


def test_mixed_precision_stays():
    model = small_model(dtype="mixed_float16")
    zero(model, "first", [0, 5])
    small = keras_iss.strip(model)
    assert small.get_layer("first").dtype_policy.name == "mixed_float16"
    assert small.get_layer("first").units == 4


def test_layer_names_and_regularizers_stay():
    model = small_model(kernel_regularizer=keras.regularizers.L2(0.1), dropout=0.25)
    zero(model, "first", [0])
    small = keras_iss.strip(model)
    assert [layer.name for layer in small.layers] == [layer.name for layer in model.layers]
    first = small.get_layer("first")
    assert first.cell.kernel_regularizer.l2 == pytest.approx(0.1)
    assert first.dropout == 0.25


def test_a_loaded_model_is_stripped(tmp_path):
    model = ZOO["bidirectional_stacked"].build()
    randomise(model)
    zero_some_units(model)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    inputs = inputs_for(model)
    small = keras_iss.strip(loaded)
    assert widths(small) == widths(keras_iss.strip(model, verify=False))
    np.testing.assert_allclose(
        outputs_of(small, inputs)[0], outputs_of(model, inputs)[0], rtol=1e-4, atol=1e-6
    )


@keras.saving.register_keras_serializable("tests")
class Scaled(layers.Layer):
    """Keras tracks what it holds, the dict as well, so that its configuration can't be deeply copied."""

    def __init__(self, options: dict, **kwargs):
        super().__init__(**kwargs)
        self.options = options

    def call(self, x):
        return x * self.options["factors"][0]

    def get_config(self):
        return super().get_config() | {"options": self.options}


def test_a_layer_whose_configuration_keras_tracks_is_copied():
    model = small_model()
    scaled = keras.Sequential([keras.Input(model.input_shape[1:]), *model.layers, Scaled({"factors": [2.0]})])
    zero(scaled, "first", [1, 2])
    small = keras_iss.strip(scaled)
    assert widths(small)["first"] == 4
    assert small.layers[-1].options == {"factors": [2.0]}


def test_a_model_that_keras_can_t_run_is_not_stripped():
    x = keras.Input((5, 3))
    state = layers.Dense(4)(layers.GlobalAveragePooling1D()(x))
    y = layers.LSTM(4)(
        x, initial_state=[state]
    )  # one state too few, which Keras doesn't see before the first batch
    with pytest.raises(keras_iss.StripError, match="Keras itself can't run model 'broken' .* list index"):
        keras_iss.strip(keras.Model(x, layers.Dense(1)(y), name="broken"))


@keras.saving.register_keras_serializable("tests")
class Forgetful(layers.Dense):
    """Its configuration says another width than it has."""

    def get_config(self):
        return super().get_config() | {"units": self.units + 1}


@pytest.mark.parametrize("cut", [keras_iss.strip, lambda model: keras_iss.prune(model, 0.5)])
def test_a_model_that_can_t_be_built_again_is_named(cut):
    first = small_model()
    model = keras.Sequential([keras.Input(first.input_shape[1:]), *first.layers, Forgetful(3)], name="torn")
    with pytest.raises(keras_iss.StripError, match=r"Model 'torn' can't be built again .*shape.*clone_model"):
        cut(model)


def test_stripping_twice_changes_nothing_more():
    model = small_model()
    zero(model, "first", [1, 2])
    once = keras_iss.strip(model)
    assert widths(keras_iss.strip(once)) == widths(once)


def assert_went_on(found):
    assert found["units"] == 3
    np.testing.assert_allclose(found["pruned"], found["stripped"], rtol=0, atol=1e-6)
    assert np.isfinite(found["loss"]).all()


def test_prune_strip_and_training_on_jax(on_jax):
    assert_went_on(on_jax)


def test_prune_strip_and_training_on_torch(tmp_path):
    pytest.importorskip("torch")
    said = computed("torch", [ON_JAX], tmp_path)
    assert_went_on(load(ON_JAX, tmp_path, said))
