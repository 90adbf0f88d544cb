"""Bidirectional layers."""

from __future__ import annotations

import keras
from keras import layers

from tests.topologies.zoo import BATCH, VOCABULARY, Units, chain, embedding, out, sequence, tokens, topology


@topology({"both/forward": Units(4), "both/backward": Units(4)})
def bidirectional():
    return chain(layers.Bidirectional(layers.LSTM(4), name="both"))


@topology({"both": Units(4)})
def bidirectional_sum():
    return chain(layers.Bidirectional(layers.LSTM(4), merge_mode="sum", name="both"))


@topology({"both": Units(4)})
def bidirectional_mul():
    return chain(layers.Bidirectional(layers.GRU(4, return_sequences=True), merge_mode="mul", name="both"))


@topology({"both": Units(4)})
def bidirectional_ave():
    return chain(
        layers.Bidirectional(layers.SimpleRNN(4, return_sequences=True), merge_mode="ave", name="both")
    )


@topology({"both/forward": Units(4), "both/backward": Units(4), "forward_reader": Units(3)})
def bidirectional_unmerged():
    x = sequence()
    both = layers.Bidirectional(layers.LSTM(4, return_sequences=True), merge_mode=None, name="both")
    forward, backward = both(x)
    forward = layers.LSTM(3, name="forward_reader")(forward)
    backward = layers.GlobalAveragePooling1D()(backward)
    return keras.Model(x, out()(layers.Concatenate()([forward, backward])))


@topology({"both/forward": Units(4), "both/backward": Units(4)})
def bidirectional_of_different_kinds():
    backward = layers.GRU(4, go_backwards=True, return_sequences=True)
    return chain(
        layers.Bidirectional(layers.LSTM(4, return_sequences=True), backward_layer=backward, name="both")
    )


@topology({"both": Units(4, silent=False)})
def bidirectional_sum_with_one_direction_not_0_at_0():
    backward = layers.SimpleRNN(4, go_backwards=True, activation="sigmoid")
    both = layers.Bidirectional(layers.SimpleRNN(4), backward_layer=backward, merge_mode="sum", name="both")
    return chain(both)


@topology(
    {
        "first/forward": Units(4),
        "first/backward": Units(4),
        "second/forward": Units(3),
        "second/backward": Units(3),
    }
)
def bidirectional_stacked():
    return chain(
        layers.Bidirectional(layers.LSTM(4, return_sequences=True), name="first"),
        layers.Bidirectional(layers.GRU(3), name="second"),
    )


@topology({"both/forward": Units(4), "both/backward": Units(4)})
def bidirectional_states():
    x = sequence()
    both = layers.Bidirectional(layers.LSTM(4, return_state=True), name="both")
    y, forward_h, forward_c, backward_h, backward_c = both(x)
    merged = layers.Concatenate()([forward_c, y, backward_h, forward_h, backward_c])
    return keras.Model(x, out()(merged))


@topology({"both": Units(4)})
def bidirectional_sum_states():
    x = sequence()
    both = layers.Bidirectional(layers.GRU(4, return_state=True), merge_mode="sum", name="both")
    return keras.Model(x, out()(layers.Concatenate()(list(both(x)))))


@topology({"both/forward": Units(4), "both/backward": Units(4)})
def bidirectional_unmerged_states():
    x = sequence()
    both = layers.Bidirectional(layers.GRU(4, return_state=True), merge_mode=None, name="both")
    return keras.Model(x, out()(layers.Concatenate()(list(both(x)))))


@topology({"both/forward": Units(4), "both/backward": Units(4)})
def bidirectional_stateful():
    return chain(layers.Bidirectional(layers.LSTM(4, stateful=True), name="both"), batch=BATCH)


@topology({"encoder/forward": Units(4), "encoder/backward": Units(4)})
def bidirectional_begins_where_another_ended():
    x, y = sequence(name="x"), sequence(2, name="y")
    _, *states = layers.Bidirectional(layers.LSTM(4, return_state=True), name="encoder")(x)
    decoder = layers.Bidirectional(layers.LSTM(4, return_sequences=True), name="decoder")
    return keras.Model([x, y], out()(decoder(y, initial_state=states)))


@topology({"both/forward": Units(4), "both/backward": Units(4), "other/backward": Units(4)})
def twins_in_a_chain():
    """other/forward is both/backward, so all three must stay equally wide."""
    x = sequence()
    y, _, backward = layers.Bidirectional(
        layers.GRU(4, return_state=True, return_sequences=True), name="both"
    )(x)
    start = layers.Dense(4, name="start")(layers.GlobalMaxPooling1D()(x))
    other = layers.Bidirectional(layers.GRU(4), name="other")(x, initial_state=[backward, start])
    y = layers.GlobalAveragePooling1D()(y)
    return keras.Model(x, out()(layers.Concatenate()([y, other])))


@topology(
    {
        "both/forward/0": Units(4),
        "both/forward/1": Units(3),
        "both/backward/0": Units(4),
        "both/backward/1": Units(3),
    }
)
def bidirectional_of_stacked_cells():
    rnn = layers.RNN([layers.LSTMCell(4), layers.GRUCell(3)], return_sequences=True)
    return chain(layers.Bidirectional(rnn, name="both"))


@topology({"both/forward": Units(4), "both/backward": Units(4), "table": embedding(3)})
def bidirectional_masked():
    x = tokens()
    y = layers.Embedding(VOCABULARY, 3, mask_zero=True, name="table")(x)
    y = layers.Bidirectional(layers.LSTM(4, return_sequences=True), name="both")(y)
    return keras.Model(x, out()(y))
