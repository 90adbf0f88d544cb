"""What `SparseOptimizer` does in a step, against numpy; on every backend; under every optimizer."""

import itertools

import keras
import numpy as np
import pytest

from keras_iss.optimizers import SparseOptimizer
from keras_iss.tracing import trace
from tests.keras_iss.learning_scenarios import FIRST, SCENARIOS, SECOND, data, sparse, train, two_layers

ON_JAX = "tests.keras_iss.learning_scenarios"


def groups(model):
    """For each unit of both layers, from the paper's figure 3: [(index in trainable_variables, where in it)]."""
    place = {id(v): i for i, v in enumerate(model.trainable_variables)}
    first, second, dense = (model.get_layer(name) for name in ("first", "second", "dense"))
    found = []
    for layer, reader, size in ((first, second.cell.kernel, FIRST), (second, dense.kernel, SECOND)):
        kernel, recurrent = place[id(layer.cell.kernel)], place[id(layer.cell.recurrent_kernel)]
        for k in range(size):
            columns = [(w, (slice(None), gate * size + k)) for w in (kernel, recurrent) for gate in range(4)]
            found.append([*columns, (recurrent, (k, slice(None))), (place[id(reader)], (k, slice(None)))])
    return found


def gradient_function(model):
    """The gradient of the mean squared error at the model's present weights, as numpy arrays."""
    import tensorflow as tf

    @tf.function
    def gradients(x, y):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.square(model(x, training=True) - y))
        return tape.gradient(loss, [v.value for v in model.trainable_variables])

    return lambda x, y: [np.array(g, "float64") for g in gradients(x, y)]


def values(model):
    return [np.array(w, "float64") for w in model.get_weights()]


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="takes gradients with TensorFlow")
def test_subgradient_method_is_the_paper_s_recipe_step_for_step():
    """Subgradient added before clipping, SGD with clipnorm, small weights zeroed, every step (DESIGN 5)."""
    rate, clip, strength, threshold = 0.2, 0.3, 0.05, 2e-3
    model, reference = two_layers(), two_layers()
    found = trace(model)
    inner = keras.optimizers.SGD(rate, clipnorm=clip)
    model.compile(
        SparseOptimizer(inner, [found["first"], found["second"]], strength=strength, method="subgradient",
                        threshold=threshold), "mse",
    )  # fmt: skip
    penalised = [len(w.shape) == 2 for w in model.trainable_variables]
    x, y = data()
    clipped, zeros, gradients = 0, 0, gradient_function(reference)
    for step in range(12):
        batch = slice(8 * (step % 4), 8 * (step % 4) + 8)
        weights, gradient = values(reference), gradients(x[batch], y[batch])
        for group in groups(reference):
            norm = np.sqrt(sum(np.sum(weights[w][at] ** 2) for w, at in group) + 1e-8)
            for w, at in group:
                gradient[w][at] += strength * weights[w][at] / norm
        for i, g in enumerate(gradient):
            norm = np.sqrt(np.sum(g**2))
            clipped += norm > clip
            weights[i] = weights[i] - rate * g * min(1.0, clip / norm)
            if penalised[i]:
                zeros += np.sum(np.abs(weights[i]) < threshold)
                weights[i][np.abs(weights[i]) < threshold] = 0.0
        reference.set_weights(weights)
        model.train_on_batch(x[batch], y[batch])
        for got, want in zip(values(model), weights, strict=True):
            np.testing.assert_allclose(got, want, atol=1e-5)
    assert clipped > 10, "the order of subgradient and clipping has to show"
    assert zeros > 3


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="takes gradients with TensorFlow")
def test_proximal_method_shrinks_after_the_step_from_one_snapshot():
    rate, strength = 0.1, 0.5
    model, reference = two_layers(), two_layers()
    found = trace(model)
    inner = keras.optimizers.SGD(rate)
    model.compile(SparseOptimizer(inner, [found["first"], found["second"]], strength=strength), "mse")
    x, y = data(8)
    gradients = gradient_function(reference)
    for _ in range(5):
        weights = [w - rate * g for w, g in zip(values(reference), gradients(x, y), strict=True)]
        factors = [
            max(0.0, 1 - rate * strength / np.sqrt(sum(np.sum(weights[w][at] ** 2) for w, at in group)))
            for group in groups(reference)
        ]
        for group, factor in zip(groups(reference), factors, strict=True):
            for w, at in group:
                weights[w][at] *= factor
        reference.set_weights(weights)
        model.train_on_batch(x, y)
        for got, want in zip(values(model), weights, strict=True):
            np.testing.assert_allclose(got, want, atol=1e-5)


def assert_same(weights, expected, atol):
    for here, there in zip(weights, expected, strict=True):
        np.testing.assert_allclose(here, there, atol=atol)
        np.testing.assert_array_equal(here == 0, there == 0)
    assert any((w == 0).any() for w in weights)


@pytest.mark.parametrize("name", SCENARIOS)
def test_same_weights_on_jax_from_the_same_start(on_jax, name):
    weights = SCENARIOS[name]().get_weights()
    assert_same(weights, [on_jax[f"{name}|{i}"] for i in range(len(weights))], atol=2e-4)


@pytest.mark.parametrize("name", ["proximal", "subgradient"])
def test_same_weights_when_the_step_is_compiled_by_xla_whole_or_in_part(on_jax, name, monkeypatch):
    whole = SCENARIOS[name](jit_compile=True).get_weights()
    monkeypatch.setattr("keras_iss.optimizers.FUSED_FROM", 0)  # as for a large model
    in_part = SCENARIOS[name]().get_weights()
    expected = [on_jax[f"{name}|{i}"] for i in range(len(whole))]
    assert_same(whole, expected, atol=2e-4)
    assert_same(in_part, expected, atol=2e-4)


OPTIMIZERS = {
    "SGD": lambda: keras.optimizers.SGD(0.05, momentum=0.9, nesterov=True),
    "Adam": lambda: keras.optimizers.Adam(0.01, amsgrad=True),
    "AdamW": lambda: keras.optimizers.AdamW(0.01, weight_decay=0.1),
    "Adamax": lambda: keras.optimizers.Adamax(0.01),
    "Nadam": lambda: keras.optimizers.Nadam(0.01),
    "RMSprop": lambda: keras.optimizers.RMSprop(0.01, momentum=0.9, centered=True),
    "Adagrad": lambda: keras.optimizers.Adagrad(0.1),
    "Adadelta": lambda: keras.optimizers.Adadelta(1.0),
    "Ftrl": lambda: keras.optimizers.Ftrl(0.05),
    "Lion": lambda: keras.optimizers.Lion(0.01),
    "Adafactor": lambda: keras.optimizers.Adafactor(0.01),
    "Lamb": lambda: keras.optimizers.Lamb(0.01),
    "clipnorm": lambda: keras.optimizers.SGD(0.1, clipnorm=0.5),
    "clipvalue": lambda: keras.optimizers.SGD(0.1, clipvalue=0.01),
    "global_clipnorm": lambda: keras.optimizers.Adam(0.01, global_clipnorm=0.5),
    "moving average": lambda: keras.optimizers.Adam(0.01, use_ema=True, ema_momentum=0.9),
    "moving average written back": lambda: keras.optimizers.Adam(
        0.01, use_ema=True, ema_momentum=0.9, ema_overwrite_frequency=4
    ),
    "loss scale": lambda: keras.optimizers.Adam(0.01, loss_scale_factor=8.0),
    "schedule": lambda: keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(0.01, 20)),
    "accumulation": lambda: keras.optimizers.Adam(0.01, gradient_accumulation_steps=3),
}
LOOKS_AT_WHOLE_MATRICES = {"Adafactor", "Lamb"}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_removed_units_stay_zero_and_the_others_train_as_without_pruning(name):
    """Random gradients, 15 steps: the inner optimizer sees the same ones, with and without the wrapper."""
    pruned, plain = two_layers(), two_layers()
    found = trace(pruned)
    optimizer, inner = (
        SparseOptimizer(OPTIMIZERS[name](), [found["first"], found["second"]]),
        OPTIMIZERS[name](),
    )
    optimizer.build(pruned.trainable_variables)
    inner.build(plain.trainable_variables)
    optimizer.set_deadlines("first", [-1, 4, -1, 0, -1, -1])
    generator = np.random.default_rng(2)
    scale = 8.0 if name == "loss scale" else 1.0
    for _ in range(15):
        gradient = [
            keras.ops.convert_to_tensor(scale * generator.normal(size=v.shape).astype("float32"))
            for v in pruned.trainable_variables
        ]
        optimizer.apply(gradient, pruned.trainable_variables)
        inner.apply(gradient, plain.trainable_variables)
    optimizer.finalize_variable_values(pruned.trainable_variables)
    inner.finalize_variable_values(plain.trainable_variables)

    np.testing.assert_array_equal(optimizer.alive("first"), [True, False, True, False, True, True])
    np.testing.assert_array_equal(trace(pruned).removable("first"), [False, True, False, True, False, False])
    cell = pruned.get_layer("first").cell
    assert not np.asarray(cell.bias).reshape(4, FIRST)[:, [1, 3]].any()
    if name not in LOOKS_AT_WHOLE_MATRICES and "written back" not in name and "AdamW" not in name:
        survives = np.ones((4, FIRST), bool)
        survives[:, [1, 3]] = False
        np.testing.assert_allclose(
            np.asarray(cell.kernel)[:, survives.ravel()],
            np.asarray(plain.get_layer("first").cell.kernel)[:, survives.ravel()],
            atol=1e-6,
        )


def test_a_unit_falls_to_zero_in_a_straight_line_by_its_deadline():
    model, optimizer = sparse(keras.optimizers.SGD(0.1))
    optimizer.set_deadlines("first", [-1, 5, -1, -1, -1, -1])
    before = optimizer.norms("first")
    nothing = [keras.ops.zeros(v.shape) for v in model.trainable_variables]
    seen = []
    for _ in range(6):
        optimizer.apply(nothing, model.trainable_variables)
        seen.append(optimizer.norms("first") / before)
    # A weight that two units hold counts in both, so the others lose a little of their norm.
    np.testing.assert_allclose([s[1] for s in seen[:4]], [0.8, 0.6, 0.4, 0.2], atol=0.02)
    assert seen[4][1] == seen[5][1] == 0
    assert np.delete(seen[5], 1).min() > 0.8


def test_gradient_accumulation_shrinks_only_when_weights_are_updated():
    model, optimizer = sparse(keras.optimizers.SGD(0.1, gradient_accumulation_steps=3), strength=1.0)
    nothing = [keras.ops.zeros(v.shape) for v in model.trainable_variables]
    seen = [optimizer.norms("second")]
    for _ in range(6):
        optimizer.apply(nothing, model.trainable_variables)
        seen.append(optimizer.norms("second"))
    changed = [not np.array_equal(a, b) for a, b in itertools.pairwise(seen)]
    assert changed == [False, False, True, False, False, True]


def test_a_loss_scale_does_not_change_the_subgradient_s_share():
    def run(factor):
        inner = keras.optimizers.SGD(0.1, clipnorm=0.3, loss_scale_factor=factor)
        model, optimizer = sparse(inner, strength=0.1, method="subgradient")
        return train(optimizer, model=model, epochs=1).get_weights()

    for scaled, plain in zip(run(1024.0), run(None), strict=True):
        np.testing.assert_allclose(scaled, plain, atol=1e-5)


def test_nan_is_never_shrunk_to_zero():
    for method in ("proximal", "subgradient"):
        model, optimizer = sparse(keras.optimizers.SGD(0.1), strength=1e6, method=method, threshold=1e6)
        broken = [keras.ops.full(v.shape, float("nan")) for v in model.trainable_variables]
        optimizer.apply(broken, model.trainable_variables)
        assert all(np.isnan(w).all() for w in model.get_weights())


def test_threshold_leaves_weights_outside_of_the_structures_alone():
    model, optimizer = sparse(keras.optimizers.SGD(0.1), strength=1e-9, method="subgradient", threshold=1e6)
    nothing = [keras.ops.zeros(v.shape) for v in model.trainable_variables]
    optimizer.apply(nothing, model.trainable_variables)
    kinds = {len(v.shape): bool(np.any(np.asarray(v))) for v in model.trainable_variables}
    assert kinds == {2: False, 1: True}, "kernels all zero, biases as they were"

    sequence, extra = keras.Input((7, 5)), keras.Input((3,))
    units = keras.layers.Flatten()(keras.layers.LSTM(4, return_sequences=True, name="lstm")(sequence))
    wide = keras.layers.Dense(2)
    both = keras.Model([sequence, extra], wide(keras.layers.Concatenate()([units, extra])))
    optimizer = SparseOptimizer(
        keras.optimizers.SGD(0.1), [trace(both)["lstm"]], strength=1e-9, method="subgradient", threshold=1e6
    )
    variables = both.trainable_variables
    optimizer.apply([keras.ops.zeros(v.shape) for v in variables], variables)
    rows = np.any(np.asarray(wide.kernel), axis=1)
    np.testing.assert_array_equal(rows, [False] * 28 + [True] * 3)


@pytest.mark.parametrize("method", ["proximal", "subgradient"])
def test_mixed_precision_with_the_loss_scaling_that_compile_adds(method):
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model, optimizer = sparse(keras.optimizers.Adam(1e-2), strength=1.0, method=method)
    finally:
        keras.config.set_dtype_policy("float32")
    train(optimizer, model=model)
    assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    assert model.optimizer.inner_optimizer is optimizer
    assert optimizer.alive("first").tolist() == [True, False, True, True, True, True]
    assert all(np.isfinite(w).all() for w in model.get_weights())


def test_a_saved_model_brings_back_masks_strength_and_the_inner_optimizer_s_state(tmp_path):
    inner = keras.optimizers.Adam(1e-2, clipnorm=1.0, loss_scale_factor=2.0)
    model, optimizer = sparse(inner, strength={"second": 0.5}, method="subgradient", threshold=1e-3)
    train(optimizer, model=model)
    optimizer.set_strength("first", np.arange(6.0))
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras").optimizer
    assert isinstance(loaded, SparseOptimizer)
    assert loaded.get_config() == optimizer.get_config()
    assert loaded.deadlines("first").tolist() == [-1, 3, -1, -1, -1, -1]
    assert loaded.strength("first").tolist() == [0, 1, 2, 3, 4, 5]
    assert loaded.strength("second").tolist() == [0.5] * 4
    assert len(loaded.variables) == len(optimizer.variables)
    for got, want in zip(loaded.variables, optimizer.variables, strict=True):
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(got), keras.ops.convert_to_numpy(want))


def test_learning_rate_is_the_inner_optimizer_s():
    _, optimizer = sparse(keras.optimizers.Adam(0.5))
    optimizer.learning_rate = 0.25
    assert float(optimizer.inner_optimizer.learning_rate) == float(optimizer.learning_rate) == 0.25


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"method": "lasso"}, "method"),
        ({"threshold": -1.0}, "threshold"),
        ({"strength": {"frist": 1.0}}, "frist"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        sparse(keras.optimizers.SGD(), **arguments)


def test_wrapping_the_wrong_way_round_is_refused():
    found = trace(two_layers())
    with pytest.raises(ValueError, match="outside"):
        SparseOptimizer(keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD()), [found["first"]])
    with pytest.raises(ValueError, match="SparseOptimizer itself"):
        SparseOptimizer(SparseOptimizer(keras.optimizers.SGD(), [found["first"]]), [found["first"]])
    with pytest.raises(ValueError, match="at least one structure"):
        SparseOptimizer(keras.optimizers.SGD(), [])


def test_strength_can_t_be_set_on_an_optimizer_made_without():
    _, optimizer = sparse(keras.optimizers.SGD())
    with pytest.raises(ValueError, match="strength=None"):
        optimizer.set_strength("first", 1.0)
