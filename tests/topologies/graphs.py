"""Shared layers, nested models, several inputs and outputs, tied weights."""

from __future__ import annotations

import keras
from keras import layers

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


@topology({"shared": Units(4)})
def shared_lstm_on_two_inputs():
    a, b = sequence(name="a"), sequence(name="b")
    shared = layers.LSTM(4, name="shared")
    return keras.Model([a, b], out()(layers.Concatenate()([shared(a), shared(b)])))


@topology({"shared": Units(4)})
def shared_lstm_compared_with_itself():
    a, b = sequence(name="a"), sequence(name="b")
    shared = layers.LSTM(4, name="shared")
    return keras.Model([a, b], out()(layers.Subtract()([shared(a), shared(b)])))


@topology({"other": Units(4)}, {"reader": "output"})
def shared_dense_reads_two_lstms():
    """Both LSTMs lie along the same rows of the shared kernel, so their units are one."""
    x = sequence()
    reader = layers.Dense(2, name="reader")
    a, b = layers.LSTM(4, name="lstm")(x), layers.LSTM(4, go_backwards=True, name="other")(x)
    return keras.Model(x, [reader(a), reader(b)])


@topology({}, {"lstm": "shared", "reader": "output"})
def shared_dense_reads_an_input_too():
    x = sequence(4)
    reader = layers.Dense(2, name="reader")
    return keras.Model(x, [reader(layers.LSTM(4, name="lstm")(x)), reader(layers.GlobalMaxPooling1D()(x))])


@topology({"table": embedding(3), "lstm": Units(4), "gru": Units(5)})
def shared_embedding():
    a, b = tokens("a"), tokens("b")
    table = layers.Embedding(VOCABULARY, 3, mask_zero=True, name="table")
    y = layers.Concatenate()([layers.LSTM(4, name="lstm")(table(a)), layers.GRU(5, name="gru")(table(b))])
    return keras.Model([a, b], out()(y))


@topology({"encoder/lstm": Units(4), "encoder/dense": dense(3), "gru": Units(4)})
def sequential_in_functional():
    x = sequence()
    encoder = keras.Sequential(
        [sequence(), layers.LSTM(4, return_sequences=True, name="lstm"), layers.Dense(3, name="dense")],
        name="encoder",
    )
    return keras.Model(x, out()(layers.GRU(4, name="gru")(encoder(x))))


@topology({"before": Units(4), "inner/lstm": Units(3), "inner/gru": Units(5)})
def functional_in_sequential():
    x = sequence(4)
    y = layers.LSTM(3, name="lstm")(x)
    z = layers.GRU(5, name="gru")(x)
    inner = keras.Model(x, layers.Concatenate()([y, z]), name="inner")
    return chain(layers.LSTM(4, return_sequences=True, name="before"), inner)


@topology({"outer/inner/lstm": Units(4), "outer/gru": Units(5)})
def nested_twice():
    inner = keras.Sequential([sequence(), layers.LSTM(4, return_sequences=True, name="lstm")], name="inner")
    x = sequence()
    outer = keras.Model(x, layers.GRU(5, name="gru")(inner(x)), name="outer")
    return keras.Sequential([sequence(), outer, out()])


@topology({"before": Units(5), "each/lstm": Units(4), "each/dense": dense(3)})
def time_distributed_model_reads_units():
    inner = keras.Sequential([layers.LSTM(4, name="lstm"), layers.Dense(3, name="dense")], name="inner")
    x = keras.Input((STEPS, 3, FEATURES), name="x")
    y = layers.TimeDistributed(layers.LSTM(5, return_sequences=True), name="before")(x)
    return keras.Model(x, out()(layers.TimeDistributed(inner, name="each")(y)))


@topology({"before": Units(5), "outer/middle/inner/lstm": Units(4), "outer/middle/dense": dense(3)})
def units_enter_models_within_models():
    inner = keras.Sequential([sequence(5), layers.Dropout(0.1), layers.LSTM(4, name="lstm")], name="inner")
    y = sequence(5)
    middle = keras.Model(y, layers.Dense(3, name="dense")(inner(y)), name="middle")
    z = sequence(5, name="z")
    outer = keras.Model({"z": z}, [middle(z)], name="outer")
    x = sequence()
    return keras.Model(x, out()(outer({"z": layers.LSTM(5, return_sequences=True, name="before")(x)})[0]))


@topology({"inner/lstm": Units(4), "inner/dense": dense(3)})
def same_nested_model_called_twice():
    a, b = sequence(name="a"), sequence(name="b")
    inner = keras.Sequential(
        [sequence(), layers.LSTM(4, name="lstm"), layers.Dense(3, name="dense")], name="inner"
    )
    return keras.Model([a, b], out()(layers.Concatenate()([inner(a), inner(b)])))


@topology({"b/inner/lstm": Units(4)}, {"a/end": "output", "b/end": "output"}, loadable=False)
def same_nested_model_in_two_others():
    x = sequence()
    inner = keras.Sequential([sequence(), layers.LSTM(4, name="lstm")], name="inner")
    ends = []
    for name in ("a", "b"):
        y = sequence()
        ends.append(keras.Model(y, layers.Dense(2, name="end")(inner(y)), name=name)(x))
    return keras.Model(x, ends)


@topology({"left/lstm": Units(4), "right/lstm": Units(4)})
def inner_models_with_equal_weight_paths():
    x = sequence()
    inner = []
    for name in ("left", "right"):
        y = sequence()
        inner.append(keras.Model(y, layers.LSTM(4, name="lstm")(y), name=name))
    y = layers.Concatenate()([model(x) for model in inner])
    return keras.Model(x, out()(y))


@topology({"inner/lstm": Units(4), "inner/gru": Units(3)})
def nested_model_with_several_ends():
    a, b = sequence(name="a"), sequence(2, name="b")
    y, h, _ = layers.LSTM(4, return_sequences=True, return_state=True, name="lstm")(a)
    z = layers.GRU(3, name="gru")(b)
    inner = keras.Model({"a": a, "b": b}, {"sequence": y, "state": h, "other": z}, name="inner")
    c, d = sequence(name="c"), sequence(2, name="d")
    ends = inner({"a": c, "b": d})
    y = layers.GlobalAveragePooling1D()(ends["sequence"])
    return keras.Model([c, d], out()(layers.Concatenate()([y, ends["state"], ends["other"]])))


@topology({}, {"lstm": "output", "inner/dense": "output"}, loadable=False)
def nested_model_as_output():
    inner = keras.Sequential(
        [sequence(), layers.LSTM(4, return_sequences=True, name="lstm"), layers.Dense(3, name="dense")],
        name="inner",
    )
    x = sequence()
    y = inner(x)
    first = inner.get_layer("lstm")(x)
    return keras.Model(x, [y, first])


@topology({"lstm": Units(4), "gru": Units(3)}, {"a": "output", "b": "output"})
def several_inputs_and_outputs():
    x, y = sequence(name="x"), sequence(2, name="y")
    h = layers.LSTM(4, name="lstm")(x)
    g = layers.GRU(3, name="gru")(y)
    both = layers.Concatenate()([h, g])
    return keras.Model([x, y], [layers.Dense(2, name="a")(both), layers.Dense(3, name="b")(g)])


@topology({"lstm": Units(4), "table": embedding(3)}, {"a": "output", "b": "output"})
def dicts_of_inputs_and_outputs():
    x, ids = sequence(name="x"), tokens("ids")
    y = layers.Concatenate()([x, layers.Embedding(VOCABULARY, 3, name="table")(ids)])
    h = layers.LSTM(4, name="lstm")(y)
    return keras.Model(
        {"x": x, "ids": ids}, {"a": layers.Dense(2, name="a")(h), "b": layers.Dense(3, name="b")(h)}
    )


@topology({"lstm": Units(4)})
def input_straight_to_an_output():
    x = sequence()
    return keras.Model(x, [out()(layers.LSTM(4, name="lstm")(x)), x])


@topology({"lstm": Units(4)}, {"state": "output", **OUT})
def one_lstm_read_another_is_output():
    x = sequence()
    return keras.Model(x, [out()(layers.LSTM(4, name="lstm")(x)), layers.GRU(3, name="state")(x)])


@topology({}, {"lstm": "output", **OUT})
def hidden_state_is_read_and_output():
    x = sequence()
    h = layers.LSTM(4, name="lstm")(x)
    return keras.Model(x, [out()(h), h])


@topology({"lstm": Units(4)})
def lstm_that_nobody_reads_besides_its_state():
    x = sequence()
    _, _, c = layers.LSTM(4, return_state=True, return_sequences=True, name="lstm")(x)
    return keras.Model(x, out()(c))


@topology({"table": embedding(4), "lstm": Units(5)})
def masked_embedding():
    x = tokens()
    y = layers.Embedding(VOCABULARY, 4, mask_zero=True, name="table")(x)
    return keras.Model(x, out()(layers.LSTM(5, name="lstm")(y)))


@topology({"lstm": Units(4)}, {})
def tied_embedding():
    """The table is read by the LSTM and, transposed, reads the LSTM: its width is the LSTM's."""
    x = tokens()
    table = layers.ReversibleEmbedding(VOCABULARY, 4, name="table")
    y = layers.LSTM(4, return_sequences=True, name="lstm")(table(x))
    return keras.Model(x, table(y, reverse=True))


@topology({"lstm": Units(4)}, {})
def untied_reversible_embedding():
    """Two tables, but one `output_dim` for both."""
    x = tokens()
    table = layers.ReversibleEmbedding(VOCABULARY, 4, tie_weights=False, name="table")
    y = layers.LSTM(4, return_sequences=True, name="lstm")(table(x))
    return keras.Model(x, table(y, reverse=True))


@topology({"lstm": Units(5), "table": embedding(3)}, {})
def tied_embedding_behind_a_projection():
    x = tokens()
    table = layers.ReversibleEmbedding(VOCABULARY, 3, mask_zero=True, name="table")
    y = layers.LSTM(5, return_sequences=True, name="lstm")(table(x))
    y = layers.Dense(3, name="projection")(y)
    return keras.Model(x, table(y, reverse=True))
