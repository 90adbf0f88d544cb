"""Layers that move units about or normalize them, and layers of the user's own."""

from __future__ import annotations

import keras
from keras import layers, ops

import keras_iss
from tests.topologies.zoo import (
    FEATURES,
    OUT,
    STEPS,
    VOCABULARY,
    Units,
    chain,
    dense,
    embedding,
    out,
    sequence,
    tokens,
    topology,
)


@topology({"encoder": Units(4), "decoder": Units(5)})
def repeated():
    return chain(
        layers.LSTM(4, name="encoder"),
        layers.RepeatVector(3),
        layers.LSTM(5, return_sequences=True, name="decoder"),
    )


@topology({"lstm": Units(4), "gru": Units(5)})
def pooled_over_time():
    x = sequence(steps=STEPS)
    y = layers.LSTM(4, return_sequences=True, name="lstm")(x)
    y = layers.AveragePooling1D(2, padding="same")(layers.UpSampling1D(2)(y))
    y = layers.ZeroPadding1D(1)(layers.Cropping1D(1)(layers.MaxPooling1D(2, strides=1)(y)))
    y = layers.GRU(5, return_sequences=True, name="gru")(y)
    return keras.Model(
        x, out()(layers.Concatenate()([layers.GlobalAveragePooling1D()(y), layers.GlobalMaxPooling1D()(y)]))
    )


@topology({"lstm": Units(4), "table": embedding(3)})
def pooled_under_a_mask():
    x = tokens()
    y = layers.Embedding(VOCABULARY, 3, mask_zero=True, name="table")(x)
    y = layers.LSTM(4, return_sequences=True, name="lstm")(y)
    return keras.Model(x, out()(layers.GlobalAveragePooling1D()(y)))


@topology({}, {"lstm": "along its units' axis", **OUT})
def pooled_over_units():
    return chain(
        layers.LSTM(4, return_sequences=True, name="lstm"),
        layers.GlobalAveragePooling1D(data_format="channels_first"),
        steps=STEPS,
    )


@topology({"lstm": Units(4)})
def flattened():
    return chain(layers.LSTM(4, return_sequences=True, name="lstm"), layers.Flatten(), steps=STEPS)


@topology({"lstm": Units(4), "gru": Units(3), "dense": dense(6)})
def reshaped():
    return chain(
        layers.LSTM(4, return_sequences=True, name="lstm"),
        layers.Reshape((2, 8)),
        layers.GRU(3, return_sequences=True, name="gru"),
        layers.Reshape((-1,)),
        layers.Dense(6, name="dense"),
        layers.Reshape((1, 6)),
        layers.Reshape((6,)),
        steps=STEPS,
    )


@topology({"lstm": Units(4), "gru": Units(3)})
def reshaped_with_an_open_length():
    """Two steps become one of twice the width, however many there are."""
    return chain(
        layers.LSTM(4, return_sequences=True, name="lstm"),
        layers.Reshape((-1, 8)),
        layers.GRU(3, return_sequences=True, name="gru"),
        layers.Reshape((-1, 6)),
    )


@topology({"second": Units(4)})
def shared_reshape():
    """One target_shape for both, so both shrink alike."""
    x = sequence(steps=STEPS)
    reshape = layers.Reshape((2, 8))
    parts = [reshape(layers.LSTM(4, return_sequences=True, name=name)(x)) for name in ("first", "second")]
    return keras.Model(x, out()(layers.Concatenate()(parts)))


@topology({"lstm": Units(4)})
def reshaped_with_its_units_twice():
    x = sequence(steps=STEPS)
    y = layers.LSTM(4, return_sequences=True, name="lstm")(x)
    y = layers.Reshape((2, 22))(layers.Concatenate()([y, x, layers.ReLU()(y)]))
    return keras.Model(x, out()(y))


@topology({}, {"lstm": "spreads", **OUT})
def reshaped_across_units():
    return chain(layers.LSTM(4, return_sequences=True, name="lstm"), layers.Reshape((8, 2)), steps=STEPS)


@topology({"one": Units(1), "lstm": Units(4)})
def a_layer_of_one_unit():
    x = sequence(steps=STEPS)
    one = layers.Reshape((STEPS, 1))(layers.LSTM(1, return_sequences=True, name="one")(x))
    return keras.Model(
        x, out()(layers.Concatenate()([one, layers.LSTM(4, return_sequences=True, name="lstm")(x)]))
    )


@topology({"lstm": Units(4, silent=False), "gru": Units(3, silent=False), "dense": dense(5, silent=False)})
def batch_normalization():
    return chain(
        layers.LSTM(4, return_sequences=True, name="lstm"),
        layers.BatchNormalization(),
        layers.GRU(3, name="gru"),
        layers.BatchNormalization(center=False, scale=False),
        layers.Dense(5, name="dense"),
        layers.BatchNormalization(scale=False),
        layers.Activation("relu"),
    )


@topology({"a": Units(4, silent=False), "b": Units(3, silent=False)})
def batch_normalization_of_a_concatenation():
    x = sequence()
    a, b = (layers.LSTM(n, return_sequences=True, name=name)(x) for n, name in ((4, "a"), (3, "b")))
    return keras.Model(x, out()(layers.BatchNormalization()(layers.Concatenate()([a, x, b]))))


@topology({"other": Units(4, silent=False)})
def shared_batch_normalization():
    x = sequence()
    norm = layers.BatchNormalization()
    a, b = (norm(layers.LSTM(4, return_sequences=True, name=name)(x)) for name in ("lstm", "other"))
    return keras.Model(x, out()(layers.Concatenate()([a, b])))


@topology({}, {"lstm": "normalizes", **OUT})
def batch_normalization_read_without_a_weight():
    """Pinned along another axis."""
    return chain(
        layers.LSTM(4, return_sequences=True, name="lstm"),
        layers.Permute((2, 1)),
        layers.BatchNormalization(axis=1),
        layers.Permute((2, 1)),
        steps=STEPS,
    )


@topology({"lstm": Units(4, deaf=False)})
def unit_normalization():
    """A unit that is 0 adds nothing to the norm of the others."""
    return chain(layers.LSTM(4, return_sequences=True, name="lstm"), layers.UnitNormalization())


@topology({"lstm": Units(4, deaf=False), "gru": Units(3, deaf=False)})
def layer_normalizations():
    """A unit that is 0 still counts in the mean and the variance of the others."""
    return chain(
        layers.LSTM(4, return_sequences=True, name="lstm"),
        layers.LayerNormalization(),
        layers.GRU(3, return_sequences=True, name="gru"),
        layers.LayerNormalization(center=False),
    )


@topology({"lstm": Units(4, silent=False, deaf=False)})
def layer_normalization_without_weights():
    """Less the mean, a unit that is 0 isn't 0."""
    return chain(
        layers.LSTM(4, return_sequences=True, name="lstm"),
        layers.LayerNormalization(center=False, scale=False),
    )


@topology({"lstm": Units(4, deaf=False)})
def rms_normalization():
    return chain(layers.LSTM(4, return_sequences=True, name="lstm"), layers.RMSNormalization())


@topology({"lstm": Units(4, deaf=False)})
def normalized_residuals():
    """As in a Transformer: each layer's outputs are added to its inputs and normalized."""
    x = tokens()
    y = layers.Embedding(VOCABULARY, 4, mask_zero=True, name="embedded")(x)
    for kind, name in ((layers.LSTM, "lstm"), (layers.GRU, "gru")):
        z = kind(4, return_sequences=True, name=name)(y)
        y = layers.LayerNormalization()(layers.Add()([y, z]))
    return keras.Model(x, out()(y))


@topology({"lstm": Units(4, deaf=False), "gru": Units(3, deaf=False)})
def normalized_beside_an_input():
    x = sequence()
    parts = [
        layers.LSTM(4, return_sequences=True, name="lstm")(x),
        x,
        layers.GRU(3, return_sequences=True, name="gru")(x),
    ]
    return keras.Model(x, out()(layers.LayerNormalization()(layers.Concatenate()(parts))))


@topology({"lstm": Units(4, deaf=False)})
def one_normalization_for_two():
    x = sequence()
    y, norm = layers.LSTM(4, return_sequences=True, name="lstm")(x), layers.LayerNormalization()
    return keras.Model(x, out()(layers.Concatenate()([norm(y), norm(ops.tanh(y))])))


@topology({"lstm": Units(4, silent=False), "gru": Units(3)})
def normalizations_over_steps_beside_units():
    """Of a unit that is 0 a LayerNormalization makes its shift, an RMSNormalization 0."""
    x = sequence(steps=STEPS)
    parts = [
        layers.Permute((2, 1))(norm(layers.Permute((2, 1))(rnn(x))))
        for norm, rnn in (
            (layers.LayerNormalization(), layers.LSTM(4, return_sequences=True, name="lstm")),
            (layers.RMSNormalization(), layers.GRU(3, return_sequences=True, name="gru")),
        )
    ]
    return keras.Model(x, out()(layers.Concatenate()(parts)))


@topology({}, {"a": "shared", "b": "shared", **OUT})
def normalizations_shared_with_an_input():
    x = sequence()
    parts = []
    for norm, name in ((layers.LayerNormalization(), "a"), (layers.RMSNormalization(), "b")):
        y = layers.LSTM(FEATURES, return_sequences=True, name=name)(x)
        parts += [norm(x), norm(y)]
    return keras.Model(x, out()(layers.Concatenate()(parts)))


@topology({}, {**dict.fromkeys("abce", "normalizes"), "d": "not as 0", **OUT})
def normalizations_over_more_than_units():
    x = sequence(steps=STEPS)
    norms = {
        "a": layers.LayerNormalization(axis=[1, 2]),
        "b": layers.GroupNormalization(2),
        "c": layers.TimeDistributed(layers.RMSNormalization()),
        "d": lambda y: layers.LayerNormalization()(layers.Activation("sigmoid")(y)),
        "e": layers.RMSNormalization(axis=1),  # its weights, one for each step, lie along the units
    }
    parts = [norm(layers.LSTM(4, return_sequences=True, name=name)(x)) for name, norm in norms.items()]
    return keras.Model(x, out()(layers.Concatenate()(parts)))


@topology({"lstm": Units(4, silent=False)})
def layer_normalization_over_time():
    return chain(
        layers.LSTM(4, return_sequences=True, name="lstm"), layers.LayerNormalization(axis=1), steps=STEPS
    )


@topology({"lstm": Units(4), "gru": Units(3)})
def masked_inputs():
    return chain(
        layers.Masking(0.0), layers.LSTM(4, return_sequences=True, name="lstm"), layers.GRU(3, name="gru")
    )


@topology({"lstm": Units(4, deaf=False), "gru": Units(3)})
def units_are_masked():
    """A step whose units are all 0 is masked; a unit that is always 0 has no say in it."""
    return chain(
        layers.LSTM(4, return_sequences=True, activation="relu", name="lstm"),
        layers.Masking(0.0),
        layers.GRU(3, name="gru"),
    )


@topology({}, {"lstm": "compares", **OUT})
def units_are_masked_with_another_value():
    return chain(layers.LSTM(4, return_sequences=True, name="lstm"), layers.Masking(-1.0))


@topology({"a": Units(4), "b": Units(4), "c": Units(3)}, {"over_units": "puts its units together", **OUT})
def reductions_over_time():
    x = sequence()
    a, b = (layers.LSTM(4, return_sequences=True, name=name)(x) for name in "ab")
    c = layers.LSTM(3, return_sequences=True, name="c")(x)
    over_units = layers.LSTM(4, return_sequences=True, name="over_units")(x)
    rows = [
        ops.sum(a, axis=1),
        ops.max(b, axis=-2),
        ops.mean(c, axis=(1,)),
        ops.sum(over_units, axis=(1, 2))[:, None],
    ]
    return keras.Model(x, out()(ops.concatenate(rows, axis=-1)))


@keras.saving.register_keras_serializable("keras_iss_tests")
class Halve(layers.Layer):
    """Taught: units pass through."""

    def call(self, x):
        return x / 2


@keras.saving.register_keras_serializable("keras_iss_tests")
class Gain(layers.Layer):
    """Taught: one weight for each unit, which carries along."""

    def build(self, shape):
        self.gain = self.add_weight(shape=(shape[-1],), name="gain")

    def call(self, x):
        return x * self.gain


@keras.saving.register_keras_serializable("keras_iss_tests")
class Mean(layers.Layer):
    """Not taught: the mean over all units."""

    def call(self, x):
        return ops.mean(x, axis=-1, keepdims=True)


@keras.saving.register_keras_serializable("keras_iss_tests")
class Inner(keras.Model):
    """Not taught: a subclassed model as a layer."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dense = layers.Dense(3)

    def call(self, x):
        return self.dense(x)


def _gain(call):
    (signal,) = call.args
    call.reads(signal, call.layer.gain)
    return signal.passed()


keras_iss.register(Halve, lambda call: call.args[0].passed())
keras_iss.register(Gain, _gain)


@topology({"lstm": Units(4), "gru": Units(3)})
def taught_layers():
    return chain(
        layers.LSTM(4, return_sequences=True, name="lstm"),
        Halve(),
        layers.GRU(3, name="gru"),
        Gain(name="gain"),
    )


@topology({"gru": Units(3)}, {"lstm": "keras_iss.register(Mean", **OUT})
def layer_that_is_not_taught():
    return chain(layers.LSTM(4, return_sequences=True, name="lstm"), Mean(), layers.GRU(3, name="gru"))


@topology({"gru": Units(3)}, {"lstm": "keras_iss.register(Inner", **OUT})
def subclassed_model_inside():
    return chain(
        layers.LSTM(4, return_sequences=True, name="lstm"), Inner(name="inner"), layers.GRU(3, name="gru")
    )
