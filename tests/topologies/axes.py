"""Units on other axes than the last, and operations that index, reorder, add and drop axes."""

from __future__ import annotations

import keras
from keras import layers, ops

from tests.topologies.zoo import FEATURES, OUT, STEPS, Units, chain, dense, out, sequence, topology


@topology({"lstm": Units(4)})
def permuted_and_flattened():
    return chain(
        layers.LSTM(4, return_sequences=True, name="lstm"),
        layers.Permute((2, 1)),
        layers.Flatten(),
        steps=STEPS,
    )


@topology({"lstm": Units(4)})
def permuted_there_and_back():
    return chain(
        layers.LSTM(4, return_sequences=True, name="lstm"),
        layers.Permute((2, 1)),
        layers.Activation("relu"),
        layers.Permute((2, 1)),
        steps=STEPS,
    )


@topology({}, {"lstm": "another axis", **OUT})
def read_along_time():
    return chain(layers.LSTM(4, return_sequences=True, name="lstm"), layers.Permute((2, 1)), steps=STEPS)


@topology({"a": Units(4)}, {"b": "another axis", **OUT})
def concatenated_beside_units_on_another_axis():
    x = sequence(steps=STEPS)
    a = layers.LSTM(4, return_sequences=True, name="a")(x)
    b = layers.Permute((2, 1))(layers.LSTM(STEPS, return_sequences=True, name="b")(x))
    return keras.Model(x, out()(layers.Concatenate()([b, a])))


@topology({}, {"lstm": "merges", **OUT})
def weighted_along_units_on_another_axis():
    """(units, steps) times (units, 1): the weights have one number for each unit."""
    x, weights = sequence(steps=STEPS), keras.Input((5, 1), name="weights")
    y = layers.Permute((2, 1))(layers.LSTM(5, return_sequences=True, name="lstm")(x))
    y = layers.Permute((2, 1))(layers.Multiply()([y, weights]))
    return keras.Model([x, weights], out()(y))


@topology({"swapped": Units(4), "moved": Units(5)})
def reordered_there_and_back():
    x = sequence(steps=STEPS)
    swapped = layers.LSTM(4, return_sequences=True, name="swapped")(x)
    moved = layers.GRU(5, return_sequences=True, name="moved")(x)
    swapped = ops.swapaxes(ops.relu(ops.swapaxes(swapped, 1, -1)), 2, 1)
    moved = ops.moveaxis(ops.tanh(ops.moveaxis(moved, 1, 2)), [-1], [1])
    return keras.Model(x, out()(layers.Concatenate()([swapped, moved])))


@topology(
    {},
    {"a": "moves the batch", "b": "moves the batch", "c": "moves the batch", "d": "moves the batch", **OUT},
)
def with_the_batch_elsewhere():
    x = sequence(steps=STEPS, batch=2)
    a, b, c, d = (layers.LSTM(4, return_sequences=True, name=name)(x) for name in "abcd")
    parts = [
        ops.swapaxes(ops.swapaxes(a, 0, 1), 0, 1),
        ops.moveaxis(ops.moveaxis(b, 0, 1), 0, 1),
        ops.expand_dims(c, 0)[0],
        d[None, ...][0],
    ]
    return keras.Model(x, out()(layers.Concatenate()(parts)))


@topology(
    {"encoder": Units(4), "decoder": Units(5), "w1": dense(6)},
    {"v": "spreads it over all units", **OUT},
)
def attention_as_in_tutorials():
    """v tanh(w1 q + w2 k), the query with an axis for time."""
    x, y = sequence(), sequence(steps=STEPS, name="y")
    values = layers.LSTM(4, return_sequences=True, name="encoder")(x)
    query = ops.expand_dims(layers.GRU(5, name="decoder")(y), 1)
    met = ops.tanh(layers.Dense(6, name="w1")(query) + layers.Dense(6, name="w2")(values))
    weights = ops.softmax(layers.Dense(1, name="v")(met), axis=1)
    context = ops.sum(weights * values, axis=1)
    return keras.Model([x, y], out()(layers.Concatenate()([context, ops.squeeze(query, axis=1)])))


@topology({"lstm": Units(4), "gru": Units(5), "last": Units(3), "every": Units(4)})
def indexed_in_many_ways():
    x = sequence(steps=STEPS)
    lstm, gru, last, every = (
        kind(n, return_sequences=True, name=name)(x)
        for kind, n, name in (
            (layers.LSTM, 4, "lstm"),
            (layers.GRU, 5, "gru"),
            (layers.LSTM, 3, "last"),
            (layers.GRU, 4, "every"),
        )
    )
    parts = [
        lstm[:, -1, None],
        gru[:, None][:, 0, ::2][..., :1, :],
        ops.squeeze(last[..., None], -1)[:, -1:],
        layers.Permute((2, 1))(layers.Permute((2, 1))(every)[:, :, 1:2]),
    ]
    return keras.Model(x, out()(layers.Concatenate()(parts)))


@topology({}, {"a": "by index", "b": "by index", "c": "by index", "d": "only unit", **OUT})
def indexed_among_units():
    x = sequence(steps=STEPS)
    a, b, c = (layers.LSTM(4, return_sequences=True, name=name)(x) for name in "abc")
    d = layers.LSTM(1, return_sequences=True, name="d")(x)
    parts = [
        a[..., :2],
        layers.Permute((2, 1))(b)[:, 1:3, 1:3],
        c[:, :, 1, None],
        ops.expand_dims(ops.squeeze(d, -1), -1),
    ]
    parts[1] = layers.Permute((2, 1))(parts[1])
    parts = [part[:, :1] for part in parts]
    return keras.Model(x, out()(layers.Concatenate()(parts)))


@topology({"first": Units(4), "gru": Units(3), "last": Units(5)}, {"alone": "can't shrink", **OUT})
def stacked_along_a_new_axis():
    x = sequence()
    pair = ops.stack([layers.LSTM(4, name=name)(x) for name in ("first", "second")], axis=1)
    both = layers.GRU(3, name="gru")(pair)
    last = layers.LSTM(5, name="last")(x)
    flat = layers.Flatten()(ops.stack([last, ops.relu(last)], axis=-1))
    with_input = ops.stack([layers.LSTM(FEATURES, name="alone")(x), x[:, 0]], axis=-2)[:, 0]
    return keras.Model(x, out()(layers.Concatenate()([both, flat, with_input])))


@topology(
    {"turned": Units(4), "rolled": Units(3), "summed": Units(4), "repeated": Units(3)},
    {"units": "along its units' axis", "flat": "along its units' axis", **OUT},
)
def along_the_steps():
    x = sequence(steps=STEPS)
    names = {"turned": 4, "rolled": 3, "summed": 4, "repeated": 3, "units": 4, "flat": 4}
    y = {name: layers.LSTM(n, return_sequences=True, name=name)(x) for name, n in names.items()}
    parts = [
        ops.flip(y["turned"], axis=1),
        ops.roll(y["rolled"], 1, axis=-2),
        ops.cumsum(y["summed"], axis=1),
        ops.repeat(y["repeated"], 2, axis=1)[:, :STEPS],
        ops.flip(y["units"], axis=-1),
        ops.flip(y["flat"][:, :, :]),
    ]
    return keras.Model(x, out()(layers.Concatenate()(parts)))


@topology({"key": Units(4, deaf=False), "value": Units(5)})
def attention_by_einsum():
    x, y = sequence(), sequence(name="y")
    query, key = (layers.LSTM(4, return_sequences=True, name=n)(z) for n, z in (("key", x), ("query", y)))
    value = layers.LSTM(5, return_sequences=True, name="value")(y)
    weights = ops.softmax(ops.einsum("btd,bsd->bts", query, key), axis=-1)
    context = ops.einsum("bts,bsd->btd", weights, value)
    gate = layers.GRU(5, name="gate")(x)
    return keras.Model([x, y], out()(ops.einsum("btd,bd->bdt", context, gate)[:, :, 0]))


@topology(
    {},
    {
        "a": "together",
        "b": "can't shrink",
        "c": "isn't followed",
        "d": "isn't followed",
        "e": "not as 0",
        **OUT,
    },
)
def products_by_einsum_that_are_not_followed():
    x = sequence(steps=STEPS, batch=2)
    a, b, c, d, e = (layers.LSTM(FEATURES, return_sequences=True, name=name)(x) for name in "abcde")
    noisy = ops.sigmoid(e)
    parts = [
        ops.einsum("btd,bsf->bts", a, x),
        ops.einsum("btd,bsd->bts", b, x),
        ops.einsum("btd,de->bte", c, ops.ones((FEATURES, STEPS))),
        ops.einsum("...d->...", d)[..., None],
        ops.einsum("btd,bsd->bts", noisy, noisy),
    ]
    return keras.Model(x, out()(layers.Concatenate()(parts)))
