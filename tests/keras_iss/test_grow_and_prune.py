"""`GrowAndPrune` from the user's side: what grows, what goes, what is undone, and what is left; real trainings."""

import keras
import numpy as np
import pytest

import keras_iss
from keras_iss.callbacks import ISSPruning
from tests.keras_iss.growing import (
    Quality,
    Watch,
    fit,
    grow_and_prune,
    kernels,
    masks_of,
    on_tensorflow,
    sgd,
    small,
    state,
)
from tests.keras_iss.growth_scenarios import SCENARIOS, data, network, train

ON_JAX = "tests.keras_iss.growth_scenarios"


@on_tensorflow
@pytest.mark.parametrize("batches", [None, 3])
def test_growth_picks_what_numpy_picks_from_gradients_computed_apart(batches):
    import tensorflow as tf

    rate, ratio = 0.1, 0.3
    model = network()
    model.compile(keras.optimizers.SGD(rate), "mse")
    watch = Watch()
    callback = grow_and_prune(growth_ratio=ratio, growth_epochs=1, growth_batches=batches)
    fit(model, callback, watch, epochs=4)
    seeded, begin = watch.begin[0]
    grown, end = watch.end[0]

    reference = network()
    pairs = [
        (v.path, w) for v, w in zip(model.trainable_variables, reference.trainable_variables, strict=True)
    ]
    for path, variable in pairs:
        if path in begin:
            variable.assign(begin[path])
    sums = dict.fromkeys(begin, 0.0)
    x, y = data()
    for step in range(5):
        at = slice(8 * step, 8 * step + 8)
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.square(reference(x[at], training=True) - y[at]))
        gradients = tape.gradient(loss, [v.value for v in reference.trainable_variables])
        for (path, variable), gradient in zip(pairs, gradients, strict=True):
            gradient = np.array(gradient, "float64")
            if path in sums:
                if step >= 5 - (batches or 5):
                    sums[path] = sums[path] + gradient / (batches or 5)
                gradient = gradient * seeded[path]
            variable.assign(variable - rate * gradient)

    for path, mean in sums.items():
        dormant = ~seeded[path]
        order = np.argsort(-np.abs(mean[dormant]))
        chosen = np.zeros(dormant.sum(), bool)
        chosen[order[: int(ratio * dormant.sum() + 0.5)]] = True
        expected = seeded[path].copy()
        expected[dormant] = chosen
        np.testing.assert_array_equal(grown[path], expected)
        new = grown[path] & dormant
        np.testing.assert_allclose(end[path][new], -rate * mean[new], atol=1e-6)
    assert sum((grown[p] & ~seeded[p]).sum() for p in sums) > 10


@pytest.mark.parametrize("scope", ["layer", "global"])
def test_a_round_prunes_exactly_the_smallest(scope):
    model, watch = small(), Watch()
    model.compile(sgd(), "mse")
    fit(model, grow_and_prune(scope=scope), watch, epochs=5)  # rounds begin with epochs 3 and 4
    for epoch in (3, 4):
        before, weights = watch.end[epoch - 1]
        after = watch.begin[epoch][0]
        for paths in [list(before)] if scope == "global" else [[p] for p in before]:
            sizes = np.concatenate([np.abs(weights[p][before[p]]) for p in paths])
            left = np.concatenate([after[p][before[p]] for p in paths])
            assert (~left).sum() == int(0.3 * sizes.size + 0.5)
            assert sizes[~left].max() < sizes[left].min()
        assert all((after[p] <= before[p]).all() for p in before)
    np.testing.assert_array_equal([np.count_nonzero(w) for w in kernels(model).values()],
                                  [m.sum() for m in masks_of(model).values()])  # fmt: skip


@on_tensorflow
def test_masks_hold_after_every_one_of_200_steps():
    class Check(keras.callbacks.Callback):
        steps = 0

        def on_train_batch_end(self, batch, logs=None):
            for path, mask in masks_of(self.model).items():
                assert not weights[path].numpy()[~mask].any()
            self.steps += 1

    model, check = small(), Check()
    weights = {v.path: v.value for v in model.trainable_variables}
    optimizer = keras.optimizers.AdamW(
        0.05, weight_decay=0.1, use_ema=True, ema_momentum=0.5, ema_overwrite_frequency=3
    )
    model.compile(optimizer, "mse", jit_compile=True)
    fit(model, grow_and_prune(), check, epochs=5, batch_size=1)
    assert check.steps == 200
    assert all((w == 0).sum() >= (~masks_of(model)[p]).sum() > 0 for p, w in kernels(model).items())


@pytest.mark.parametrize("name", SCENARIOS)
def test_same_weights_and_zeros_on_jax(on_jax, name):
    weights = SCENARIOS[name]().get_weights()
    assert any((w == 0).mean() > 0.3 for w in weights)
    for i, weight in enumerate(weights):
        np.testing.assert_allclose(weight, on_jax[f"{name}|{i}"], atol=2e-4)
        np.testing.assert_array_equal(weight == 0, on_jax[f"{name}|{i}"] == 0)


def test_same_weights_when_parts_of_the_step_are_compiled_by_xla(on_jax, monkeypatch):
    monkeypatch.setattr("keras_iss.optimizers.FUSED_FROM", 0)  # as for a large model
    for i, weight in enumerate(SCENARIOS["columns"](jit_compile=False).get_weights()):
        np.testing.assert_allclose(weight, on_jax[f"columns|{i}"], atol=2e-4)


def test_a_round_that_costs_too_much_is_undone_and_the_next_one_prunes_half_as_much():
    model, watch = small(), Watch()
    model.compile(keras.optimizers.Adam(0.01), "mse")
    quality = Quality([0.5, 0.6, 0.70, 0.69, 0.40, 0.66, 0.67])
    callback = grow_and_prune(prune_epochs=4, monitor="quality", tolerance=0.05, mode="max")
    history = fit(model, quality, callback, watch, epochs=7)
    alive = [sum(m.sum() for m in masks.values()) for masks, _ in watch.end]
    tried = [sum(m.sum() for m in masks.values()) for masks, _ in watch.begin]
    assert tried[4] < alive[3] == alive[4], "the second round pruned and was undone"
    for got, want in zip(watch.states[4], watch.states[3], strict=True):
        np.testing.assert_array_equal(got, want)
    assert alive[3] - tried[5] == sum(int(0.15 * m.sum() + 0.5) for m in watch.end[3][0].values())
    assert history["gp_connections"][-1] == pytest.approx(tried[5] / alive[0] * history["gp_connections"][0])
    for got, want in zip(kernels(model).values(), watch.end[6][1].values(), strict=True):
        np.testing.assert_array_equal(got, want, err_msg="of the smallest models, the best one comes back")


def test_of_the_models_within_tolerance_the_smallest_at_its_best_is_put_back():
    model, watch = small(), Watch()
    model.compile(sgd(), "mse")
    quality = Quality([0.1, 0.1, 0.10, 0.14, 0.12, 0.11, 0.13, 0.30])
    callback = grow_and_prune(
        prune_epochs=4, rounds=1, monitor="quality", tolerance=0.05
    )  # a loss: less is better
    fit(model, quality, callback, watch, epochs=8)
    for got, want in zip(state(model)[: len(model.variables)], watch.states[5], strict=False):
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("granularity", ["row", "column"])
def test_strip_removes_dormant_rows_and_columns(granularity):
    model, history = train(
        keras.optimizers.Adam(0.01),
        grow_and_prune(granularity=granularity, pruning=0.5),
    )
    dead = {name: int(keras_iss.trace(model).removable(name).sum()) for name in ("rnn", "hidden")}
    assert dead["rnn"] > 3
    assert dead["hidden"] > 1
    small_model = keras_iss.strip(model)  # which compares the outputs
    assert small_model.get_layer("rnn").units == 8 - dead["rnn"]
    assert small_model.get_layer("hidden").units == 6 - dead["hidden"]
    assert keras_iss.report(small_model).macs <= history["gp_macs"][-1]
    small_model.fit(*data(), epochs=1, verbose=0)


@pytest.mark.parametrize("granularity", ["weight", "block"])
def test_strip_works_where_little_or_nothing_is_to_be_removed(granularity):
    model = small()
    model.compile(sgd(), "mse")
    fit(model, grow_and_prune(granularity=granularity), epochs=5)
    keras_iss.strip(model)


def test_layers_that_are_named_are_masked_and_no_others():
    model = small()
    model.compile(sgd(), "mse")
    history = fit(model, grow_and_prune(layers=["hidden"]), epochs=5)
    (mask,) = masks_of(model).values()
    assert mask.shape == (4, 8)
    assert history["gp_connections"][-1] == mask.sum() / mask.size
    assert history["gp_macs"][-1] == keras_iss.report(model).macs - (mask.size - mask.sum())


RECURRENT = {
    "LSTM": lambda: keras.layers.LSTM(3, name="recurrent"),
    "GRU": lambda: keras.layers.GRU(3, name="recurrent"),
    "HLSTM": lambda: keras_iss.layers.HLSTM(3, gate_units=(2,), name="recurrent"),
    "RHN": lambda: keras_iss.layers.RHN(3, depth=2, name="recurrent"),
    "Bidirectional": lambda: keras.layers.Bidirectional(
        keras.layers.SimpleRNN(3, name="inner"), name="recurrent"
    ),
}


@pytest.mark.parametrize("kind", RECURRENT)
def test_all_recurrent_layers_are_masked_but_for_their_biases(kind):
    layer = RECURRENT[kind]()
    model = keras.Sequential([keras.Input((6, 4)), layer, keras.layers.Dense(2)])
    model.compile("sgd", "mse")
    callback = grow_and_prune(layers=["recurrent"])
    callback.set_model(model)
    expected = {v.path for v in layer.trainable_variables if "kernel" in v.name}
    assert set(callback.optimizer.masked) == expected
    assert len(expected) >= 2


def test_units_that_iss_removed_stay_removed_and_masks_outlive_a_later_iss_pruning():
    model = network()
    model.compile(keras.optimizers.Adam(0.01), "mse")
    fit(model, ISSPruning(target=0.4, metric="units", structures=["rnn"]), epochs=2)
    gone = keras_iss.trace(model).removable("rnn")
    assert gone.sum() == 4
    fit(model, grow_and_prune(), epochs=5)
    assert keras_iss.trace(model).removable("rnn")[gone].all()
    masks = masks_of(model)
    assert not masks["model/rnn/simple_rnn_cell/recurrent_kernel"][gone].any()
    fit(model, ISSPruning(target=0.6, metric="units", structures=["rnn"]), epochs=2)
    for path, mask in masks_of(model).items():
        np.testing.assert_array_equal(mask, masks[path])
        assert not kernels(model)[path][~mask].any()
    assert keras_iss.trace(model).removable("rnn").sum() >= 5
    fit(model, epochs=1)  # without a callback
    assert all(not kernels(model)[path][~mask].any() for path, mask in masks.items())


def test_two_callbacks_that_prune_in_one_fit_are_refused():
    model = network()
    model.compile("sgd", "mse")
    for pair in [(grow_and_prune(), ISSPruning(target=0.4)), (ISSPruning(target=0.4), grow_and_prune())]:
        with pytest.raises(ValueError, match="one callback that prunes"):
            fit(model, *pair)
