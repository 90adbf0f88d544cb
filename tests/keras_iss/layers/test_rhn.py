"""RHN: the numbers against numpy, on TensorFlow and JAX, and every behaviour beside keras.layers.LSTM itself."""

import keras
import numpy as np
import pytest
from keras import layers

import keras_iss
from keras_iss.layers import RHN, RHNCell
from tests.keras_iss.layers import rhn_scenarios as scenarios
from tests.keras_iss.layers.rhn_scenarios import BATCH, DEPTHS, FEATURES, STEPS, UNITS

ON_JAX = "tests.keras_iss.layers.rhn_scenarios"
KINDS = {"rhn": lambda **kw: RHN(UNITS, depth=2, **kw), "lstm": lambda **kw: layers.LSTM(UNITS, **kw)}


@pytest.fixture(scope="module")
def found(on_jax):
    """What the scenarios give, by backend."""
    keras.utils.set_random_seed(0)
    return {"tensorflow": scenarios.everything(), "jax": on_jax}


BACKENDS = pytest.mark.parametrize("backend", ["tensorflow", "jax"])


@BACKENDS
@pytest.mark.parametrize("depth", DEPTHS)
def test_outputs_and_state_are_those_of_numpy(found, backend, depth):
    x, start = scenarios.data()
    expected = scenarios.reference(x, *scenarios.weights_of(depth), state=start)
    for i, wanted in enumerate(expected):
        np.testing.assert_allclose(found[backend][f"forward|{depth}|{i}"], wanted, rtol=0, atol=1e-5)


@BACKENDS
def test_gradients_are_those_of_finite_differences(found, backend):
    x, _ = scenarios.data()
    weights = scenarios.weights_of(2)

    def loss():
        return np.sum(scenarios.projection() * scenarios.reference(x, *weights)[0]) / BATCH

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
        assert np.abs(expected).max() > 0.1
        np.testing.assert_allclose(found[backend][f"gradient|{i}"], expected, rtol=0, atol=2e-5)


@BACKENDS
@pytest.mark.parametrize(("wrap", "kind"), scenarios.DROPPED)
def test_dropout_draws_one_mask_for_all_steps_and_depths(found, backend, wrap, kind):
    got = found[backend]
    first = got[f"{kind}|{wrap}|first|y"]
    mask = first[:, 0] > 0
    assert 0 < mask.sum() < mask.size
    # What a mask leaves is doubled: the state at every depth where it is read.
    reads = 3 * np.arange(1, STEPS + 1) if kind == "recurrent_dropout" else np.ones(STEPS)
    np.testing.assert_allclose(first, mask[:, None] * 2.0 ** reads[:, None], rtol=1e-5, atol=1e-6)
    if kind == "output_dropout":
        np.testing.assert_allclose(got[f"{kind}|{wrap}|first|state"], 1.0, rtol=1e-5)
    if wrap == "layer":
        second = got[f"{kind}|{wrap}|second|y"]
        assert ((second[:, 0] > 0) != mask).any(), "a call draws its own mask"
        np.testing.assert_allclose(got[f"{kind}|{wrap}|inference|y"], 1.0, rtol=1e-5)


def test_half_of_the_units_are_learned_away_and_stripped():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(64, 6, FEATURES)).astype("float32")
    model = keras.Sequential([keras.Input((6, FEATURES)), RHN(8, depth=3, name="rhn"), layers.Dense(1)])
    model.compile(keras.optimizers.Adam(5e-3), "mse", jit_compile=False)
    pruning = keras_iss.callbacks.ISSPruning(
        target=0.5, metric="units", warmup_epochs=1, ramp_epochs=2, finetune_epochs=1
    )
    history = model.fit(x, x.mean((1, 2))[:, None], batch_size=8, epochs=4, verbose=0, callbacks=[pruning])
    small = keras_iss.strip(model)
    assert (small.get_layer("rhn").units, small.get_layer("rhn").depth) == (4, 3)
    same(small(x), model(x), atol=1e-5)
    assert history.history["loss"][-1] < history.history["loss"][0]


def inputs(steps=STEPS, batch=BATCH):
    return np.random.default_rng(3).normal(size=(batch, steps, FEATURES)).astype("float32")


def pair(kind, first, second):
    """Two layers of different options with the same, driving weights."""
    made = [KINDS[kind](**options) for options in (first, second)]
    for layer in made:
        layer.build((BATCH, STEPS, FEATURES))
        rng = np.random.default_rng(4)
        layer.set_weights([rng.normal(scale=0.5, size=w.shape) for w in layer.weights])
    return made


def same(a, b, atol=1e-6):
    for x, y in zip(keras.tree.flatten(a), keras.tree.flatten(b), strict=True):
        np.testing.assert_allclose(keras.ops.convert_to_numpy(x), keras.ops.convert_to_numpy(y), atol=atol)


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
def test_last_output_and_states_are_returned(kind):
    every, last = pair(kind, {"return_sequences": True}, {"return_state": True})
    y, state, *_ = last(inputs())
    same(y, every(inputs())[:, -1])
    same(y, state)


@both_kinds
def test_a_sequence_goes_on_from_an_initial_state(kind):
    whole, part = pair(kind, {}, {"return_state": True})
    _, *states = part(inputs()[:, :2])
    expected = whole(inputs())
    same(part(inputs()[:, 2:], initial_state=states)[0], expected)
    if kind == "rhn":
        same(part(inputs()[:, 2:], initial_state=states[0])[0], expected)


@both_kinds
def test_stateful_goes_on_from_call_to_call(kind):
    whole, stateful = pair(kind, {}, {"stateful": True})
    stateful(inputs()[:, :2])
    same(stateful(inputs()[:, 2:]), whole(inputs()))
    stateful.reset_state()
    same(stateful(inputs()), whole(inputs()))


@both_kinds
@pytest.mark.parametrize("unroll", [False, True])
def test_masked_steps_keep_the_state_and_repeat_the_output(kind, unroll):
    masked, plain = pair(kind, {"return_sequences": True, "return_state": True, "unroll": unroll}, {})
    mask = np.array([[True, False, True, False], [False, True, True, True]])
    y, state, *_ = masked(inputs(), mask=mask)
    y = np.array(y)
    same(y[0, 1], y[0, 0])
    same(y[1, 0], np.zeros(UNITS))
    short = np.stack([inputs()[0][[0, 2]], inputs()[1][[1, 2]]])
    same(y[0, 2], plain(short)[0])
    same(state[0], plain(short)[0])


def test_masked_steps_output_zeros_where_asked_to():
    layer = RHN(UNITS, return_sequences=True, zero_output_for_mask=True)
    y = np.array(layer(inputs(), mask=np.array([[True, False, True, True]] * BATCH)))
    assert not y[:, 1].any()
    assert y[:, 2].all()


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


def test_open_lengths_and_batches_train():
    rhn = RHN(UNITS, depth=1, dropout=0.2, recurrent_dropout=0.2, output_dropout=0.2)
    model = keras.Sequential([keras.Input((None, FEATURES)), rhn, layers.Dense(1)])
    model.compile("adam", "mse", jit_compile=False)
    for steps, batch in ((3, 2), (5, 4)):
        loss = model.train_on_batch(inputs(steps, batch), np.zeros((batch, 1)))
        assert np.isfinite(loss)


def test_a_cell_in_a_loop_computes_what_the_layer_does():
    layer, _ = pair("rhn", {"return_sequences": True}, {})
    loop = layers.RNN(RHNCell(UNITS, depth=2), return_sequences=True)
    loop.build((BATCH, STEPS, FEATURES))
    loop.set_weights(layer.get_weights())
    same(loop(inputs()), layer(inputs()))


def test_without_biases_there_are_none():
    layer = RHN(UNITS, depth=2, use_bias=False, return_sequences=True)
    layer.build((BATCH, STEPS, FEATURES))
    kernel, recurrent = layer.get_weights()
    bias = np.zeros((2, 2 * UNITS))
    same(layer(inputs()), scenarios.reference(inputs(), kernel, recurrent, bias)[0], atol=1e-5)


def test_weights_start_as_told():
    layer = RHN(UNITS, depth=4, bias_initializer="ones", transform_bias=-3.5)
    layer.build((BATCH, STEPS, FEATURES))
    kernel, recurrent, bias = layer.get_weights()
    assert kernel.shape == (FEATURES, 2 * UNITS)
    np.testing.assert_array_equal(bias[:, :UNITS], 1.0)
    np.testing.assert_array_equal(bias[:, UNITS:], -3.5)
    for first, matrix in enumerate(recurrent):
        np.testing.assert_allclose(matrix @ matrix.T, np.eye(UNITS), atol=1e-5)
        assert all(np.abs(matrix - other).max() > 0.1 for other in recurrent[:first])
    np.testing.assert_array_equal(RHNCell(3).transform_bias, -2.0)


def test_a_seeded_initializer_draws_the_same_again_and_each_depth_its_own():
    drawn = []
    for _ in range(2):
        cell = RHNCell(UNITS, depth=2, recurrent_initializer=keras.initializers.GlorotUniform(seed=5))
        cell.build((BATCH, FEATURES))
        drawn.append(keras.ops.convert_to_numpy(cell.recurrent_kernel))
    np.testing.assert_array_equal(*drawn)
    assert np.abs(drawn[0][0] - drawn[0][1]).max() > 0.1
    assert np.abs(drawn[0]).max() <= np.sqrt(6 / (3 * UNITS))  # the fans of one depth


def test_regularizers_and_constraints_act():
    layer = RHN(
        UNITS,
        kernel_regularizer=keras.regularizers.L2(1.0),
        recurrent_regularizer=keras.regularizers.L1(1.0),
        bias_regularizer=keras.regularizers.L1(1.0),
        activity_regularizer=keras.regularizers.L1(1.0),
        kernel_constraint="non_neg",
        recurrent_constraint="non_neg",
        bias_constraint="non_neg",
    )
    layer(inputs())
    assert len(layer.losses) == 4
    assert all(w.constraint is not None for w in layer.trainable_weights)


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_saved_model_computes_the_same(wrapped, tmp_path):
    options = {
        "transform_bias": -1.0,
        "dropout": 0.1,
        "recurrent_dropout": 0.2,
        "output_dropout": 0.3,
        "seed": 1,
    }
    rhn = RHN(UNITS, 2, "softsign", "hard_sigmoid", name="rhn", kernel_regularizer="l2", **options)
    inner = layers.RNN([RHNCell(UNITS, **options)], name="rnn") if wrapped else rhn
    model = keras.Sequential([keras.Input((STEPS, FEATURES)), inner])
    model.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras")
    same(loaded(inputs()), model(inputs()), atol=0)
    if not wrapped:
        assert loaded.layers[0].get_config() == rhn.get_config()
        assert {name: getattr(loaded.layers[0], name) for name in options} == options
        assert loaded.layers[0].activation is keras.activations.softsign


@pytest.mark.parametrize("make", [RHN, RHNCell])
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"depth": 0}, "depth. Expected a positive integer. Received: depth=0"),
        ({"depth": 2.0}, "depth. Expected a positive integer"),
        ({"depth": True}, "depth. Expected a positive integer"),
        ({"units": -1}, "units. Expected a positive integer"),
        ({"dropout": 1.0}, r"dropout. Expected the fraction to drop, in \[0, 1\). Received: dropout=1.0"),
        ({"recurrent_dropout": -0.1}, "recurrent_dropout. Expected the fraction"),
        ({"output_dropout": "half"}, "output_dropout. Expected the fraction"),
        ({"transform_bias": float("nan")}, "transform_bias. Expected a finite number"),
    ],
)
def test_bad_arguments_are_refused(make, options, expected):
    with pytest.raises(ValueError, match=f"Invalid value for argument {expected}"):
        make(**{"units": 3, **options})


def test_multiply_adds_of_all_depths_are_counted():
    model = keras.Sequential(
        [keras.Input((STEPS, FEATURES)), RHN(UNITS, depth=7, name="rhn"), layers.Dense(2)]
    )
    report = keras_iss.report(model)
    assert report.macs == 2 * UNITS * (FEATURES + 7 * UNITS) + UNITS * 2
    assert report.parameters == model.count_params()
    small = keras_iss.strip(keras_iss.prune(model, {"rhn": 3}))
    assert small.get_layer("rhn").units == 3
    assert keras_iss.report(small).macs == 2 * 3 * (FEATURES + 7 * 3) + 3 * 2


def test_tracing_finds_one_structure_for_all_depths():
    model = keras.Sequential(
        [keras.Input((STEPS, FEATURES)), RHN(UNITS, depth=3, name="rhn"), layers.Dense(2)]
    )
    structure = keras_iss.trace(model)["rhn"]
    assert (structure.kind, structure.size) == ("hidden", UNITS)
    lies = {(s.path.rpartition("/")[2], s.axis, s.width, s.role.value) for s in structure.slices}
    assert lies == {
        ("kernel", 1, 2, "incoming"),
        ("recurrent_kernel", 2, 2, "incoming"),
        ("recurrent_kernel", 1, 1, "outgoing"),
        ("bias", 1, 2, "incoming"),
        ("kernel", 0, 1, "outgoing"),
    }
