"""Concatenating, adding and multiplying tensors, by layers and by operators."""

from __future__ import annotations

import keras
from keras import layers, ops

from tests.topologies.zoo import FEATURES, OUT, STEPS, Units, chain, out, sequence, topology


@topology({"a": Units(4), "b": Units(5)})
def concatenated_features():
    x = sequence()
    a = layers.LSTM(4, return_sequences=True, name="a")(x)
    b = layers.GRU(5, return_sequences=True, name="b")(x)
    return keras.Model(x, out()(layers.Concatenate()([x, a, b, a])))


@topology({"a": Units(4)})
def concatenated_in_time():
    x = sequence(steps=STEPS)
    a = layers.LSTM(4, return_sequences=True, name="a")(x)
    b = layers.GRU(4, return_sequences=True, name="b")(x)
    return keras.Model(x, out()(layers.Concatenate(axis=1)([a, b])))


@topology({}, {"a": "beside", **OUT})
def concatenated_in_time_with_an_input():
    x = sequence(4)
    a = layers.LSTM(4, return_sequences=True, name="a")(x)
    return keras.Model(x, out()(layers.Concatenate(axis=1)([x, a])))


def _merged(layer):
    x = sequence()
    a = layers.LSTM(4, return_sequences=True, name="a")(x)
    b = layers.GRU(4, return_sequences=True, name="b")(x)
    return keras.Model(x, out()(layer([a, b])))


@topology({"a": Units(4)})
def added():
    return _merged(layers.Add())


@topology({"a": Units(4)})
def averaged():
    return _merged(layers.Average())


@topology({"a": Units(4)})
def maximum():
    return _merged(layers.Maximum())


@topology({"a": Units(4)})
def minimum():
    return _merged(layers.Minimum())


@topology({"a": Units(4)})
def subtracted():
    return _merged(layers.Subtract())


@topology({"a": Units(4)})
def multiplied():
    return _merged(layers.Multiply())


@topology({"a": Units(4)})
def gated_by_a_sigmoid():
    """a * sigmoid(W x): 0 as soon as a is."""
    x = sequence()
    a = layers.LSTM(4, return_sequences=True, name="a")(x)
    gate = layers.Dense(4, activation="sigmoid", name="gate")(x)
    return keras.Model(x, out()(layers.Multiply()([gate, a])))


@topology({"a": Units(4, silent=False)})
def a_sum_with_one_part_not_0_at_0():
    x = sequence()
    a = layers.LSTM(4, return_sequences=True, name="a")(x)
    b = layers.Dense(4, activation="sigmoid", name="b")(x)
    return keras.Model(x, out()(layers.Add()([a, b])))


@topology({"lstm": Units(5), "other": Units(6, silent=False)}, {"weight": "spreads it over all units", **OUT})
def merged_with_one_number_per_step():
    """Broadcast over the units: they may go, whatever the one number is."""
    x = sequence()
    weight = layers.Dense(1, activation="sigmoid", name="weight")(x)
    y = layers.LSTM(5, return_sequences=True, name="lstm")(x)
    z = layers.LSTM(6, return_sequences=True, name="other")(x)
    return keras.Model(
        x, out()(layers.Concatenate()([layers.Multiply()([y, weight]), layers.Add()([z, weight])]))
    )


@topology({"first": Units(4)})
def residuals_between_stacked_lstms():
    x = sequence()
    y = layers.LSTM(4, return_sequences=True, name="first")(x)
    for name in ("second", "third"):
        y = layers.Add()([y, layers.LSTM(4, return_sequences=True, name=name)(y)])
    return keras.Model(x, out()(y))


@topology({}, {"lstm": "merges", **OUT})
def residual_around_an_input():
    x = sequence()
    return keras.Model(
        x, out()(layers.Add()([x, layers.LSTM(FEATURES, return_sequences=True, name="lstm")(x)]))
    )


@topology({"both/forward": Units(4), "both/backward": Units(4)})
def residual_of_bidirectionals():
    x = sequence()
    y = layers.Bidirectional(layers.LSTM(4, return_sequences=True), name="both")(x)
    z = layers.Bidirectional(layers.GRU(4, return_sequences=True), name="other")(y)
    return keras.Model(x, out()(layers.Add()([y, z])))


@topology({"c": Units(4), "d": Units(3)})
def concatenations_added():
    """Both sides are laid out alike: a beside b."""
    x = sequence()
    parts = [
        layers.LSTM(n, return_sequences=True, name=name)(x)
        for n, name in ((4, "a"), (3, "b"), (4, "c"), (3, "d"))
    ]
    return keras.Model(
        x, out()(layers.Add()([layers.Concatenate()(parts[:2]), layers.Concatenate()(parts[2:])]))
    )


@topology({"a": Units(4), "b": Units(3)})
def a_concatenation_added_to_one_layer():
    """c's first 4 units are a's, its others are b's."""
    x = sequence()
    a, b, c = (
        layers.LSTM(n, return_sequences=True, name=name)(x) for n, name in ((4, "a"), (3, "b"), (7, "c"))
    )
    return keras.Model(x, out()(layers.Add()([layers.Concatenate()([a, b]), c])))


@topology({"a": Units(4)})
def the_same_units_concatenated_and_merged():
    x = sequence()
    a = layers.LSTM(4, return_sequences=True, name="a")(x)
    y = layers.Concatenate()([a, layers.ReLU()(a)])
    z = layers.Concatenate()([layers.Average()([y, y]), layers.Multiply()([y, y])])
    return keras.Model(x, out()(z))


@topology({"both/forward": Units(3), "both/backward": Units(3)})
def residual_around_a_bidirectional():
    x = sequence()
    y = layers.Bidirectional(layers.LSTM(3, return_sequences=True), name="both")(x)
    for name in ("second", "third"):
        y = layers.Add()([layers.LSTM(6, return_sequences=True, name=name)(y), y])
    return keras.Model(x, out()(y))


@topology({"of_2": Units(2), "of_4[0:1]": Units(1), "of_4[1:4]": Units(3)})
def concatenations_of_different_widths_added():
    """3 + 3 beside 2 + 4: the 2 + 1 + 3 between all joints stay or go together."""
    x = sequence(steps=STEPS)
    parts = {n: layers.LSTM(n, return_sequences=True, name=f"of_{n}")(x) for n in (2, 4)}
    a, b = (
        layers.GRU(3, return_sequences=True, name="a")(x),
        layers.GRU(3, return_sequences=True, name="b")(x),
    )
    sides = [layers.Concatenate()([a, b]), layers.Concatenate()([parts[2], parts[4]])]
    y = layers.Add()([layers.Flatten()(side) for side in sides])
    return keras.Model(x, out()(y))


@topology(
    {}, {"both/forward": "merges", "both/backward": "merges", "of_2": "merges", "of_4": "merges", **OUT}
)
def a_bidirectional_beside_other_cuts():
    """Forward and backward stay equally wide, which 2 + 4 units can't be."""
    x = sequence()
    y = layers.Bidirectional(layers.LSTM(3, return_sequences=True), name="both")(x)
    z = layers.Concatenate()([layers.LSTM(n, return_sequences=True, name=f"of_{n}")(x) for n in (2, 4)])
    return keras.Model(x, out()(layers.Add()([y, z])))


@topology({"a": Units(4), "b": Units(4), "c": Units(4, silent=False)})
def operators_on_tensors():
    x = sequence(steps=STEPS)
    a, b, c = (layers.LSTM(4, return_sequences=True, name=name)(x) for name in "abc")
    y = ops.concatenate([a[:, -1], ops.tanh(b[:, 1] * 2.0), ops.sigmoid(c[:, ::2][:, 0])], axis=-1)
    return keras.Model(x, out()(y))


@topology({"b": Units(4), "c": Units(4, silent=False)})
def sums_and_products_of_tensors():
    x = sequence()
    a, b, c = (layers.LSTM(4, return_sequences=True, name=name)(x) for name in "abc")
    y = ops.relu(a + b) * a - ops.maximum(b, 0.0)
    return keras.Model(x, out()(ops.concatenate([y / 2, 1.0 - c], axis=2)))


@topology({}, {"a": "index", "b": "isn't known", **OUT})
def operations_that_are_not_followed():
    x = sequence()
    a = layers.LSTM(4, return_sequences=True, name="a")(x)
    b = layers.LSTM(4, return_sequences=True, name="b")(x)
    return keras.Model(x, out()(ops.concatenate([a[:, :, 1:3], ops.sort(b, axis=-1)], axis=-1)))


@topology({"lstm": Units(4), "gru": Units(5)})
def noise_and_dropout():
    return chain(
        layers.LSTM(4, return_sequences=True, name="lstm"),
        layers.Dropout(0.5),
        layers.SpatialDropout1D(0.2),
        layers.GaussianNoise(0.1),
        layers.GaussianDropout(0.1),
        layers.GRU(5, name="gru"),
        layers.AlphaDropout(0.1),
        layers.Identity(),
    )


@topology({"lstm": Units(4)})
def activations_that_are_0_at_0():
    return chain(
        layers.LSTM(4, return_sequences=True, name="lstm"),
        layers.Activation("tanh"),
        layers.ReLU(max_value=0.9, negative_slope=0.1),
        layers.LeakyReLU(),
        layers.ELU(),
        layers.PReLU(),
        steps=STEPS,
    )


@topology({"lstm": Units(4), "gru": Units(3)})
def prelu_shared_over_time():
    return chain(
        layers.LSTM(4, return_sequences=True, name="lstm"),
        layers.PReLU(shared_axes=[1]),
        layers.GRU(3, return_sequences=True, name="gru"),
        layers.PReLU(shared_axes=[1, 2]),
    )


@topology({"lstm": Units(4, silent=False)})
def sigmoid_on_the_way():
    return chain(layers.LSTM(4, name="lstm"), layers.Activation("sigmoid"))


@topology({"lstm": Units(4, silent=False)})
def thresholded_relu_on_the_way():
    return chain(layers.LSTM(4, name="lstm"), layers.ReLU(threshold=0.3, negative_slope=0.5))


@topology({}, {"lstm": "softmax", **OUT})
def softmax_over_units():
    return chain(layers.LSTM(4, name="lstm"), layers.Softmax())


@topology({"lstm": Units(4, silent=False)})
def softmax_over_time():
    return chain(layers.LSTM(4, return_sequences=True, name="lstm"), layers.Softmax(axis=1))
