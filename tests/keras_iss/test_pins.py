"""Why what is pinned is pinned: without the unit the outputs would be others, though it is 0 or nothing reads it.

For each reason a model of n units is compared with one built with n - 1, the weights cut by hand.
"""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers, ops

import keras_iss
from tests.topologies import BATCH, FEATURES, STEPS, Mean, inputs_for, outputs_of, randomise

UNITS, GONE = 5, 1


def chain(lstm, *parts):
    return keras.Sequential([keras.Input((STEPS, FEATURES)), lstm, *parts, layers.Dense(2, name="out")])


def lstm(units, **options):
    return layers.LSTM(units, **{"return_sequences": True, "name": "lstm", **options})


def _output(n):
    return keras.Sequential([keras.Input((STEPS, FEATURES)), lstm(n)])


def _residual(n):
    x = keras.Input((STEPS, UNITS))
    return keras.Model(x, layers.Dense(2)(layers.Add()([x, lstm(n)(x)])))


def _beside_in_time(n):
    x = keras.Input((STEPS, UNITS))
    return keras.Model(x, layers.Dense(2)(layers.Concatenate(axis=1)([x, lstm(n)(x)])))


def _states_are_inputs(n):
    x, h, c = keras.Input((STEPS, FEATURES)), keras.Input((n,)), keras.Input((n,))
    return keras.Model([x, h, c], layers.Dense(2)(lstm(n)(x, initial_state=[h, c])))


def _states_are_constants(n):
    x = keras.Input((STEPS, FEATURES), batch_size=BATCH)
    states = [np.ones((BATCH, UNITS), "float32")] * 2
    return keras.Model(x, layers.Dense(2)(lstm(n)(x, initial_state=states)))


def _shared_reader(n):
    x = keras.Input((STEPS, UNITS))
    reader = layers.Dense(2)
    return keras.Model(x, [reader(x), reader(lstm(n)(x))])


def _attention_to_an_input(n):
    x = keras.Input((STEPS, UNITS))
    return keras.Model(x, layers.Dense(2)(layers.Attention()([lstm(n)(x), x])))


def _attention_to_sigmoids(n):
    x = keras.Input((STEPS, FEATURES))
    y = lstm(n, activation="sigmoid")(x)
    return keras.Model(x, layers.Dense(2)(layers.Attention()([y, x, y])))


def _taken_by_index(n):
    x = keras.Input((STEPS, FEATURES))
    return keras.Model(x, layers.Dense(2)(lstm(n)(x)[:, :, 1:3]))


def _one_number_for_all(n):
    x = keras.Input((STEPS, FEATURES))
    y = ops.mean(lstm(n)(x), axis=-1, keepdims=True)
    return keras.Model(x, layers.Dense(2)(y))


def _summed_up(n):
    x = keras.Input((STEPS, FEATURES))
    return keras.Model(x, layers.Dense(2)(ops.cumsum(lstm(n)(x), axis=-1)))


def _summed_up_in_a_product(n):
    x = keras.Input((STEPS, FEATURES))
    return keras.Model(x, layers.Dense(2)(ops.einsum("btd,bsf->bts", ops.sigmoid(lstm(n)(x)), x)))


def _sorted(n):
    x = keras.Input((STEPS, FEATURES))
    return keras.Model(x, layers.Dense(2)(ops.sort(lstm(n)(x), axis=-1)))


PINNED = {
    "output of the model": (_output, "output"),
    "mean over steps and units": (
        lambda n: chain(lstm(n), layers.LayerNormalization(axis=[1, 2])),
        "normalizes",
    ),
    "mean square within a wrapper": (
        lambda n: chain(lstm(n), layers.TimeDistributed(layers.RMSNormalization())),
        "normalizes",
    ),
    "statistics of groups": (lambda n: chain(lstm(n), layers.GroupNormalization(1)), "normalizes"),
    "softmax layer": (lambda n: chain(lstm(n), layers.Softmax()), "softmax"),
    "softmax activation": (lambda n: chain(lstm(n), layers.Activation("softmax")), "activation"),
    "activation of the cell": (lambda n: chain(lstm(n, activation="softmax")), "activation"),
    "pooling over units": (
        lambda n: chain(lstm(n), layers.GlobalAveragePooling1D(data_format="channels_first")),
        "units' axis",
    ),
    "units on another axis": (lambda n: chain(lstm(n), layers.Permute((2, 1))), "another axis"),
    "reshape across units": (lambda n: chain(lstm(n), layers.Reshape((2 * n, 2))), "spreads"),
    "taken by index": (_taken_by_index, "index"),
    "layer that isn't known": (lambda n: chain(lstm(n), Mean()), "keras_iss.register"),
    "mean over units by an operation": (_one_number_for_all, "puts its units together"),
    "summed up along the units": (_summed_up, "units' axis"),
    "summed up in a product": (_summed_up_in_a_product, "puts its units together"),
    "operation that isn't known": (_sorted, "isn't known"),
    "added to an input": (_residual, "merges"),
    "beside an input in time": (_beside_in_time, "beside"),
    "initial state from outside": (_states_are_inputs, "initial state"),
    "initial state is a constant": (_states_are_constants, "is a constant"),
    "reader shared with an input": (_shared_reader, "shared"),
    "compared with an input": (_attention_to_an_input, "compares"),
    "compared, and not 0": (_attention_to_sigmoids, "reads it without a weight"),
    "convolution in groups": (lambda n: chain(lstm(n), layers.Conv1D(UNITS, 2, groups=UNITS)), "groups"),
}


def silence(model: keras.Model) -> None:
    """Sets the incoming weights of one unit to 0."""
    for variable in model.get_layer("lstm").weights:
        value = ops.convert_to_numpy(variable).copy()
        value[..., [gate * UNITS + GONE for gate in range(4)]] = 0
        variable.assign(value)


def cut_by_hand(model: keras.Model, small: keras.Model) -> keras.Model:
    """Gives the model of one unit less the other's weights without the unit's."""
    for old, new in zip(model.variables, small.variables, strict=True):
        value = ops.convert_to_numpy(old)
        for axis, (now, then) in enumerate(zip(old.shape, new.shape, strict=True)):
            doomed = [block * UNITS + GONE for block in range(now - then)]
            value = np.delete(value, doomed, axis=axis)
        new.assign(value)
    return small


def changes(build) -> bool:
    """Whether a silent unit's removal shows; a model that can't even be built or fed without it counts as changed."""
    model = build(UNITS)
    randomise(model)
    silence(model)
    inputs = inputs_for(model)
    expected = outputs_of(model, inputs)
    try:
        small = build(UNITS - 1)
    except ValueError:
        return True
    small = cut_by_hand(model, small)
    shorter = [
        np.delete(value, GONE, -1) if value.shape[-1] > entry.shape[-1] else value
        for value, entry in zip(keras.tree.flatten(inputs), small.inputs, strict=True)
    ]
    shorter = keras.tree.pack_sequence_as(inputs, shorter)
    try:
        received = outputs_of(small, shorter)
    except Exception:  # widths that don't fit: each backend has its own error
        return True
    return any(
        a.shape != b.shape or np.max(np.abs(a - b)) > 1e-3 for a, b in zip(expected, received, strict=True)
    )


@pytest.mark.parametrize("reason", PINNED)
def test_removing_a_pinned_unit_would_have_changed_the_outputs(reason):
    build, word = PINNED[reason]
    assert word in keras_iss.trace(build(UNITS)).pinned["lstm"]
    assert changes(build)


@pytest.mark.parametrize(
    "build",
    [lambda n: chain(lstm(n)), lambda n: chain(lstm(n), layers.LeakyReLU(), layers.GlobalMaxPooling1D())],
    ids=["read by a dense layer", "read after pooling"],
)
def test_the_comparison_finds_no_change_where_a_unit_may_go(build):
    assert not keras_iss.trace(build(UNITS)).pinned.get("lstm")
    assert not changes(build)


def test_a_mask_that_compares_units_with_another_value_than_0():
    """All other units are -1, the masked value; the one that is 0 keeps the step from being masked."""

    def build(n):
        rnn = layers.SimpleRNN(n, activation="linear", return_sequences=True, name="rnn")
        parts = [keras.Input((STEPS, FEATURES)), rnn, layers.Masking(-1.0), layers.GRU(3), layers.Dense(2)]
        return keras.Sequential(parts)

    model = build(UNITS)
    randomise(model)
    cell = model.get_layer("rnn").cell
    bias = -np.ones(UNITS, "float32")
    bias[GONE] = 0
    for variable, value in ((cell.kernel, 0), (cell.recurrent_kernel, 0), (cell.bias, bias)):
        variable.assign(np.broadcast_to(np.float32(value), variable.shape))
    assert (
        "compares" in keras_iss.trace(model).pinned["rnn"]
        or "not as 0" in keras_iss.trace(model).pinned["rnn"]
    )
    inputs = inputs_for(model)
    small = cut_by_hand(model, build(UNITS - 1))
    assert np.max(np.abs(outputs_of(model, inputs)[0] - outputs_of(small, inputs)[0])) > 1e-3


ROOTS = {
    "std": (lambda y: ops.std(y, axis=1), False),
    "square root": (lambda y: ops.sqrt(ops.var(y, axis=1)), False),
    "power below 1": (lambda y: ops.abs(y[:, -1]) ** 0.5, False),
    "logarithm": (lambda y: ops.log(ops.max(y, axis=1)), False),
    "square root of something more": (lambda y: ops.sqrt(ops.var(y, axis=1) + 1e-5), True),
    "square": (lambda y: ops.var(y, axis=1) ** 2, True),
}


@pytest.mark.parametrize("name", ROOTS)
def test_a_root_of_units_that_are_0_would_have_ended_training(name):
    root, finite = ROOTS[name]
    x = keras.Input((STEPS, FEATURES))
    model = keras.Model(x, layers.Dense(2)(root(lstm(UNITS)(x))))
    assert ("lstm" in keras_iss.trace(model).pinned) != finite
    randomise(model)
    silence(model)
    model.compile("sgd", "mse")
    model.train_on_batch(inputs_for(model), np.ones((BATCH, 2), "float32"))
    weights = np.concatenate([ops.convert_to_numpy(w).ravel() for w in model.get_layer("lstm").weights])
    assert np.isfinite(weights).all() == finite
