"""HLSTM: the numbers against numpy, on TensorFlow and JAX, and every behaviour beside keras.layers.LSTM itself."""

import keras
import numpy as np
import pytest
from keras import layers

import keras_iss
from keras_iss.layers import HLSTM, HLSTMCell
from tests.keras_iss.layers import hlstm_scenarios as scenarios
from tests.keras_iss.layers.hlstm_scenarios import BATCH, FEATURES, GATES, MASK, STEPS, UNITS, WIDTHS

ON_JAX = "tests.keras_iss.layers.hlstm_scenarios"
KINDS = {
    "hlstm": lambda **kw: HLSTM(UNITS, gate_units=(4, (2, 3, 3, 1)), **kw),
    "lstm": lambda **kw: layers.LSTM(UNITS, **kw),
}


@pytest.fixture(scope="module")
def found(on_jax):
    """What the scenarios give, by backend."""
    keras.utils.set_random_seed(0)
    return {"tensorflow": scenarios.everything(), "jax": on_jax}


BACKENDS = pytest.mark.parametrize("backend", ["tensorflow", "jax"])


@BACKENDS
@pytest.mark.parametrize("name", WIDTHS)
def test_outputs_and_states_are_those_of_numpy(found, backend, name):
    x, h, c = scenarios.data()
    weights = scenarios.weights_of(name)
    free = scenarios.reference(name, x, h, c, weights)
    masked = scenarios.reference(name, x, 0 * h, 0 * c, weights, MASK)
    kinds = {"layer": free, "masked": masked} | ({"cell": free} if name in scenarios.LOOPED else {})
    for kind, expected in kinds.items():
        for i, wanted in enumerate(expected):
            got = found[backend][f"forward|{name}|{kind}|{i}"]
            np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-5, err_msg=f"{kind} {i}")


@BACKENDS
@pytest.mark.parametrize("name", ["one", "two uneven"])
def test_gradients_are_those_of_finite_differences(found, backend, name):
    x, h, c = scenarios.data()
    weights = scenarios.weights_of(name)

    def loss():
        outputs, *_ = scenarios.reference(name, x, 0 * h, 0 * c, weights)
        return np.sum(scenarios.projection() * outputs) / BATCH

    for i, weight in enumerate(weights):
        expected = np.zeros_like(weight)
        for place in np.ndindex(weight.shape):
            kept = weight[place]
            ends = []
            for step in (1e-6, -1e-6):
                weight[place] = kept + step
                ends.append(loss())
            weight[place] = kept
            expected[place] = (ends[0] - ends[1]) / 2e-6
        assert np.abs(expected).max() > 1e-3
        np.testing.assert_allclose(found[backend][f"gradient|{name}|{i}"], expected, rtol=0, atol=2e-5)


@BACKENDS
@pytest.mark.parametrize("kind", ["layer", "cell"])
def test_gate_dropout_draws_one_mask_for_a_sequence(found, backend, kind):
    first = found[backend][f"dropped|{kind}|first"]
    mask = first[:, 0] > 0
    assert 0 < mask.sum() < mask.size
    # a = 1 at every unit; what the mask leaves is doubled, and f closed, so that h = i·o·g = 2 at every step.
    np.testing.assert_allclose(first, 2.0 * mask[:, None] * np.ones((1, STEPS, 1)), atol=1e-5)
    if kind == "layer":
        second = found[backend]["dropped|layer|second"]
        assert ((second[:, 0] > 0) != mask).any(), "a call draws its own mask"
        np.testing.assert_allclose(found[backend]["dropped|layer|inference"], 1.0, atol=1e-5)


def inputs(steps=STEPS, batch=BATCH):
    return np.random.default_rng(3).normal(size=(batch, steps, FEATURES)).astype("float32")


def built(*made):
    """Layers of different options with the same, driving weights."""
    for layer in made:
        layer.build((BATCH, STEPS, FEATURES))
        rng = np.random.default_rng(4)
        layer.set_weights([rng.normal(scale=0.5, size=w.shape) for w in layer.weights])
    return made


def pair(kind, first, second):
    return built(KINDS[kind](**first), KINDS[kind](**second))


def same(a, b, atol=1e-6):
    for x, y in zip(keras.tree.flatten(a), keras.tree.flatten(b), strict=True):
        np.testing.assert_allclose(keras.ops.convert_to_numpy(x), keras.ops.convert_to_numpy(y), atol=atol)


MODES = {
    "last output": {},
    "states": {"return_sequences": True, "return_state": True},
    "backwards": {"go_backwards": True, "return_sequences": True},
    "unrolled": {"unroll": True},
    "stateful": {"stateful": True},
    "zeros where masked": {"return_sequences": True, "zero_output_for_mask": True},
    "no bias": {"use_bias": False},
    "activations": {"activation": "softsign", "recurrent_activation": "hard_sigmoid"},
    "dropout": {"dropout": 0.4, "seed": 1},
    "recurrent dropout": {"recurrent_dropout": 0.4, "seed": 1},
    "both dropouts": {"dropout": 0.3, "recurrent_dropout": 0.4, "seed": 1, "return_sequences": True},
}


@pytest.mark.parametrize("mode", MODES)
def test_without_hidden_layers_it_is_an_lstm(mode):
    """Same weights, same outputs and states: twice in inference, then in training, plain and masked."""
    lstm, hlstm = built(layers.LSTM(UNITS, **MODES[mode]), HLSTM(UNITS, gate_units=(), **MODES[mode]))
    assert [w.path.split("/")[-1] for w in hlstm.weights] == [w.path.split("/")[-1] for w in lstm.weights]
    for mask in (None, MASK):
        for training in (False, False, True):
            expected = lstm(inputs(), mask=mask, training=training)
            same(hlstm(inputs(), mask=mask, training=training), expected)


def test_without_hidden_layers_it_starts_and_trains_as_an_lstm():
    weights = []
    for make in (layers.LSTM, HLSTM):
        keras.utils.set_random_seed(0)
        model = keras.Sequential([keras.Input((STEPS, FEATURES)), make(UNITS, seed=2, dropout=0.2)])
        model.compile(keras.optimizers.SGD(0.1), "mse")
        model.fit(inputs(batch=8), np.ones((8, UNITS)), batch_size=4, epochs=2, shuffle=False, verbose=0)
        weights.append(model.get_weights())
    same(*weights)


both_kinds = pytest.mark.parametrize("kind", KINDS)


@both_kinds
def test_unrolled_is_the_same(kind):
    looped, unrolled = pair(kind, {"return_sequences": True}, {"return_sequences": True, "unroll": True})
    same(looped(inputs()), unrolled(inputs()))


@both_kinds
def test_going_backwards_reads_from_the_end(kind):
    ahead, back = pair(kind, {"return_sequences": True}, {"return_sequences": True, "go_backwards": True})
    same(back(inputs()), ahead(inputs()[:, ::-1]))


@both_kinds
def test_a_sequence_goes_on_from_an_initial_state(kind):
    whole, part = pair(kind, {"return_sequences": True}, {"return_state": True})
    y, h, c = part(inputs()[:, :2])
    same(y, h)
    same(y, whole(inputs())[:, 1])
    same(part(inputs()[:, 2:], initial_state=[h, c])[0], whole(inputs())[:, -1])


@both_kinds
def test_stateful_goes_on_from_call_to_call(kind):
    whole, stateful = pair(kind, {}, {"stateful": True})
    stateful(inputs()[:, :2])
    same(stateful(inputs()[:, 2:]), whole(inputs()))
    stateful.reset_state()
    same(stateful(inputs()), whole(inputs()))


@both_kinds
@pytest.mark.parametrize("unroll", [False, True])
def test_masked_steps_keep_the_states_and_repeat_the_output(kind, unroll):
    masked, plain = pair(
        kind,
        {"return_sequences": True, "return_state": True, "unroll": unroll},
        {"return_sequences": True, "return_state": True},
    )
    x = inputs()
    x[~MASK] = np.nan  # whatever stands in a masked step
    y, h, c = (keras.ops.convert_to_numpy(part) for part in masked(x, mask=MASK))
    for k in range(BATCH):
        expected = plain(x[k][MASK[k]][None])
        same((y[k][MASK[k]][None], h[k : k + 1], c[k : k + 1]), expected)
    same(y[0, 1], y[0, 0])
    same(y[1, 0], np.zeros(UNITS))


@both_kinds
def test_bidirectional_is_both_directions_side_by_side(kind):
    ahead, back = pair(kind, {"return_sequences": True}, {"return_sequences": True, "go_backwards": True})
    x = keras.Input((None, FEATURES))
    both = layers.Bidirectional(KINDS[kind](return_sequences=True))
    model = keras.Model(x, both(layers.Masking()(x)))
    model.set_weights([*ahead.get_weights(), *back.get_weights()])
    same(model(inputs()), np.concatenate([ahead(inputs()), np.array(back(inputs()))[:, ::-1]], -1))
    assert not np.array(model(inputs() * 0)).any()  # all steps masked


@both_kinds
def test_mixed_precision_computes_in_half_and_keeps_whole_weights(kind):
    single, half = pair(
        kind, {"return_sequences": True}, {"return_sequences": True, "dtype": "mixed_float16"}
    )
    assert {w.dtype for w in half.weights} == {"float32"}
    y = half(inputs())
    assert keras.backend.standardize_dtype(y.dtype) == "float16"
    same(y, single(inputs()), atol=1e-2)


def test_all_dropouts_and_an_open_length_train():
    hlstm = HLSTM(UNITS, gate_units=(4,), dropout=0.2, recurrent_dropout=0.2, gate_dropout=0.2)
    model = keras.Sequential([keras.Input((None, FEATURES)), hlstm, layers.Dense(1)])
    model.compile("adam", "mse", jit_compile=False)
    before = model.get_weights()
    assert np.isfinite(model.train_on_batch(inputs(), np.ones((BATCH, 1))))
    for old, new in zip(before, model.get_weights(), strict=True):
        assert np.abs(old - new).max() > 0


def test_recurrent_dropout_draws_one_mask_for_a_sequence():
    """A state that starts at 1 and is read by the candidate alone: what the mask leaves is doubled."""
    layer = HLSTM(
        UNITS, "linear", gate_units=(UNITS,), gate_activation="linear", recurrent_dropout=0.5, seed=1
    )
    layer.build((BATCH, STEPS, FEATURES))
    cell, eye, nothing = layer.cell, np.eye(UNITS), np.zeros((UNITS, UNITS))
    cell.kernel.assign(np.zeros(cell.kernel.shape))
    cell.recurrent_kernel.assign(np.concatenate([nothing, nothing, eye, nothing], axis=1))
    for gate in GATES:
        cell.gate_weight("kernel", gate, 2).assign(eye if gate == "candidate_gate" else nothing)
        open_ = {"candidate_gate": 0.0, "forget_gate": -40.0}.get(gate, 40.0)
        cell.gate_weight("bias", gate, 2).assign(np.full(UNITS, open_))
    ones = np.ones((BATCH, UNITS), "float32")
    y = keras.ops.convert_to_numpy(layer(0 * inputs(), initial_state=[ones, ones], training=True))
    assert 0 < (y > 0).sum() < y.size
    np.testing.assert_allclose(y, np.where(y > 0, 2.0**STEPS, 0.0), rtol=1e-5, atol=1e-6)


def test_weights_have_their_names_and_start_as_told():
    layer = HLSTM(UNITS, gate_units=(4, 3))
    layer.build((BATCH, STEPS, FEATURES))
    shapes = {w.path.split("/")[-1]: tuple(w.shape) for w in layer.weights}
    expected = {"kernel": (FEATURES, 16), "recurrent_kernel": (UNITS, 16), "bias": (16,)}
    for number, (above, below) in enumerate([(4, 3), (3, UNITS)], start=2):
        for gate in GATES:
            expected |= {f"{gate}_kernel_{number}": (above, below), f"{gate}_bias_{number}": (below,)}
    assert shapes == expected
    assert list(shapes) == list(expected)
    for weight in layer.weights:
        value, name = keras.ops.convert_to_numpy(weight), weight.path.split("/")[-1]
        if "bias" in name:
            np.testing.assert_array_equal(value, 1.0 if name == "forget_gate_bias_3" else 0.0)
    later = [keras.ops.convert_to_numpy(layer.cell.gate_weight("kernel", gate, 2)) for gate in GATES]
    assert all(np.abs(a - b).max() > 0.1 for k, a in enumerate(later) for b in later[:k])


def test_regularizers_and_constraints_act_on_every_weight():
    options = dict.fromkeys(("kernel_regularizer", "recurrent_regularizer", "bias_regularizer"), "l2")
    options |= dict.fromkeys(("kernel_constraint", "recurrent_constraint", "bias_constraint"), "non_neg")
    layer = HLSTM(UNITS, gate_units=(4,), activity_regularizer="l1", **options)
    layer(inputs())
    assert len(layer.losses) == len(layer.weights) + 1
    assert all(w.constraint is not None for w in layer.trainable_weights)


@pytest.mark.parametrize("kind", ["layer", "cells", "bidirectional"])
def test_a_saved_model_computes_the_same(kind, tmp_path):
    options = {"gate_units": (4, (1, 2, 3, 2)), "gate_dropout": 0.1, "dropout": 0.2, "seed": 1}
    layer = {
        "layer": lambda: HLSTM(UNITS, "softsign", "hard_sigmoid", kernel_regularizer="l2", **options),
        "cells": lambda: layers.RNN([HLSTMCell(UNITS, gate_activation="tanh", **options), HLSTMCell(3)]),
        "bidirectional": lambda: layers.Bidirectional(HLSTM(UNITS, **options)),
    }[kind]()
    model = keras.Sequential([keras.Input((STEPS, FEATURES)), layer])
    model.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras")
    same(loaded(inputs()), model(inputs()), atol=0)
    if kind == "layer":
        assert loaded.layers[0].get_config() == layer.get_config()
        assert loaded.layers[0].gate_units == ((4,) * 4, (1, 2, 3, 2))
        assert loaded.layers[0].gate_activation is layer.gate_activation
        assert (loaded.layers[0].gate_dropout, loaded.layers[0].dropout) == (0.1, 0.2)


@pytest.mark.parametrize("make", [HLSTM, HLSTMCell])
@pytest.mark.parametrize(
    "gate_units",
    [8, "8", None, (0,), (-1,), (2.0,), (True,), (4, None), ((1, 2, 3),), ((1, 2, 3, 0),), ((),), ([4] * 5,)],
    ids=repr,
)
def test_gate_units_that_are_not_positive_integers_are_refused(make, gate_units):
    with pytest.raises(
        ValueError, match=r"Invalid value for argument gate_units\. Expected a tuple .*Received"
    ):
        make(3, gate_units=gate_units)


@pytest.mark.parametrize("options", [{"gate_dropout": 1.0}, {"gate_dropout": "half"}, {"units": 0}])
def test_other_bad_arguments_are_refused(options):
    (name,) = options
    with pytest.raises(ValueError, match=f"Invalid value for argument {name}. Expected .* Received: {name}="):
        HLSTM(**{"units": 3, "gate_units": (2,), **options})


def test_a_gate_shrinks_by_itself_and_the_cost_is_counted():
    model = keras.Sequential(
        [keras.Input((STEPS, FEATURES)), HLSTM(UNITS, gate_units=(4,), name="hlstm"), layers.Dense(2)]
    )
    macs = lambda units, *gates: sum((FEATURES + 2 * units) * g for g in gates) + units * 2  # noqa: E731
    assert keras_iss.report(model).macs == macs(UNITS, 4, 4, 4, 4)
    keep = {"hlstm/forget_gate_1": 1, "hlstm/output_gate_1": 3}
    small = keras_iss.strip(keras_iss.prune(model, keep))
    assert small.get_layer("hlstm").gate_units == ((4, 1, 4, 3),)
    assert keras_iss.report(small).macs == macs(UNITS, 4, 1, 4, 3)
    assert keras_iss.report(small).parameters == small.count_params()


def test_units_of_state_and_gates_are_learned_away_and_stripped():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(64, 6, FEATURES)).astype("float32")
    hlstm = HLSTM(8, gate_units=(6,), name="hlstm")
    model = keras.Sequential([keras.Input((6, FEATURES)), hlstm, layers.Dense(1)])
    model.compile(keras.optimizers.Adam(5e-3), "mse")
    pruning = keras_iss.callbacks.ISSPruning(
        target=0.5, metric="units", warmup_epochs=1, ramp_epochs=2, finetune_epochs=1
    )
    history = model.fit(x, x.mean((1, 2))[:, None], batch_size=8, epochs=4, verbose=0, callbacks=[pruning])
    small = keras_iss.strip(model)
    after = small.get_layer("hlstm")
    assert after.units + sum(after.gate_units[0]) == (8 + 4 * 6) / 2
    same(small(x), model(x), atol=1e-5)
    assert history.history["loss"][-1] < history.history["loss"][0]
