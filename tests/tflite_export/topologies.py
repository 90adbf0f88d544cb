"""Small models, one for every recurrent layer and topology that can be exported."""

import keras
import numpy as np
from keras import layers as L

FEATURES = 3


def randomize(model: keras.Model, seed: int = 0) -> keras.Model:
    """Weights of a size that drives the gates, biases included, so that a wrong one shows."""
    rng = np.random.default_rng(seed)
    model.set_weights([rng.normal(size=w.shape, scale=0.5).astype("float32") for w in model.get_weights()])
    return model


def sequence(*layers, time=6):
    return keras.Sequential([L.Input((time, FEATURES)), *layers])


def _input(time=6, features=FEATURES, name=None):
    return keras.Input((time, features), name=name)


LAYERS = {
    "lstm": lambda **kw: L.LSTM(5, **kw),
    "lstm_no_bias": lambda **kw: L.LSTM(5, use_bias=False, **kw),
    "lstm_other_activations": lambda **kw: L.LSTM(
        5, activation="relu", recurrent_activation="hard_sigmoid", **kw
    ),
    "gru_reset_after": lambda **kw: L.GRU(5, **kw),
    "gru_reset_before": lambda **kw: L.GRU(5, reset_after=False, **kw),
    "gru_no_bias": lambda **kw: L.GRU(5, use_bias=False, **kw),
    "gru_reset_before_no_bias": lambda **kw: L.GRU(5, use_bias=False, reset_after=False, **kw),
    "simple_rnn": lambda **kw: L.SimpleRNN(5, **kw),
    "rnn_lstm_cell": lambda **kw: L.RNN(L.LSTMCell(5), **kw),
    "rnn_gru_cell": lambda **kw: L.RNN(L.GRUCell(5), **kw),
    "rnn_simple_cell": lambda **kw: L.RNN(L.SimpleRNNCell(5), **kw),
    "stacked": lambda **kw: L.RNN(L.StackedRNNCells([L.LSTMCell(5), L.GRUCell(4), L.SimpleRNNCell(5)]), **kw),
}


def bidirectional(merge_mode, **kw):
    return L.Bidirectional(L.LSTM(4, **kw), merge_mode=merge_mode)


def mixed_bidirectional(merge_mode="concat", **kw):
    return L.Bidirectional(
        L.GRU(4, **kw), backward_layer=L.LSTM(4, go_backwards=True, **kw), merge_mode=merge_mode
    )


def encoder_decoder():
    source, target = _input(5, name="source"), _input(7, name="target")
    _, h, c = L.LSTM(4, return_state=True)(source)
    decoded = L.LSTM(4, return_sequences=True)(target, initial_state=[h, c])
    return keras.Model([source, target], L.Dense(3)(decoded))


def encoder_decoder_gru_bidirectional():
    source, target = _input(5, name="source"), _input(7, name="target")
    _, ahead, behind = L.Bidirectional(L.GRU(4, return_state=True))(source)
    decoded = L.Bidirectional(L.GRU(4, return_sequences=True))(target, initial_state=[ahead, behind])
    return keras.Model([source, target], decoded)


def states_as_inputs():
    x, h, c = _input(1, name="x"), keras.Input((4,), name="h"), keras.Input((4,), name="c")
    y, h2, c2 = L.LSTM(4, return_state=True)(x, initial_state=[h, c])
    return keras.Model([x, h, c], {"y": L.Dense(2)(y), "h_next": h2, "c_next": c2})


def return_state():
    x = _input()
    y, h, c = L.LSTM(5, return_sequences=True, return_state=True)(x)
    return keras.Model(x, [y, h, c])


def stacked_return_state():
    x = _input()
    cells = L.StackedRNNCells([L.LSTMCell(5), L.LSTMCell(4)])
    y, (h1, c1), (h2, c2) = L.RNN(cells, return_sequences=True, return_state=True)(x)
    return keras.Model(x, [y, h1, c1, h2, c2])


def bidirectional_return_state():
    x = _input()
    outputs = L.Bidirectional(L.LSTM(4, return_sequences=True, return_state=True), merge_mode="sum")(x)
    return keras.Model(x, list(outputs))


def bidirectional_unmerged():
    x = _input()
    ahead, behind = bidirectional(None, return_sequences=True)(x)
    return keras.Model(x, [ahead, behind])


def shared_layer():
    a, b = _input(name="a"), _input(4, name="b")
    lstm = L.LSTM(5)
    return keras.Model([a, b], L.Concatenate()([lstm(a), lstm(b)]))


def nested_models():
    inner = keras.Sequential(
        [L.Input((None, 4)), L.GRU(5, return_sequences=True), L.LSTM(4, return_sequences=True)]
    )
    middle_in = keras.Input((None, 4))
    middle = keras.Model(middle_in, L.Add()([inner(middle_in), middle_in]))
    x = _input()
    return keras.Model(x, L.LSTM(3)(middle(L.Dense(4)(x))))


def nested_twice():
    inner = keras.Sequential([L.Input((None, FEATURES)), L.LSTM(4)])
    a, b = _input(name="a"), _input(name="b")
    return keras.Model([a, b], L.Subtract()([inner(a), inner(b)]))


def time_distributed_dense():
    return sequence(L.LSTM(5, return_sequences=True), L.TimeDistributed(L.Dense(2)))


def time_distributed_lstm():
    x = keras.Input((4, 5, FEATURES))
    return keras.Model(x, L.GRU(4)(L.TimeDistributed(L.LSTM(5))(x)))


def time_distributed_model():
    inner = keras.Sequential([L.Input((5, FEATURES)), L.Masking(), L.LSTM(4)])
    x = keras.Input((4, 5, FEATURES))
    return keras.Model(x, L.LSTM(3)(L.TimeDistributed(inner)(x)))


def several_outputs():
    x = _input()
    h = L.LSTM(5, return_sequences=True)(x)
    return keras.Model(x, {"tags": L.Dense(3)(h), "summary": L.GRU(2)(h)})


def dictionary_inputs():
    inputs = {"b": _input(name="b"), "a": _input(name="a")}
    return keras.Model(inputs, L.LSTM(4)(L.Concatenate()([inputs["b"], L.Dense(2)(inputs["a"])])))


def attention_reader():
    x = _input()
    h = L.LSTM(4, return_sequences=True)(x)
    return keras.Model(x, L.LSTM(3)(L.Attention()([h, h])))


def convolution_and_norms():
    return sequence(
        L.Conv1D(4, 3, padding="causal"),
        L.BatchNormalization(),
        L.Dropout(0.3),
        L.LSTM(5, return_sequences=True, dropout=0.2, recurrent_dropout=0.2),
        L.LayerNormalization(),
        L.GlobalAveragePooling1D(),
        L.Dense(2, activation="softmax"),
    )


def tokens(*layers, mask_zero=False, time=6):
    return keras.Sequential(
        [L.Input((time,), dtype="int32"), L.Embedding(11, 4, mask_zero=mask_zero), *layers]
    )


def long_sequence():
    return sequence(L.LSTM(5, return_sequences=True), L.GRU(4, return_sequences=True), time=37)


def one_step():
    return sequence(L.LSTM(5, return_sequences=True), L.GRU(4), time=1)


TOPOLOGIES = {
    **{f"last_{name}": (lambda make=make: sequence(make())) for name, make in LAYERS.items()},
    **{
        f"all_{name}": (lambda make=make: sequence(make(return_sequences=True)))
        for name, make in LAYERS.items()
    },
    "backwards": lambda: sequence(
        L.LSTM(5, go_backwards=True, return_sequences=True), L.GRU(3, go_backwards=True)
    ),
    "unroll": lambda: sequence(L.LSTM(5, unroll=True)),
    **{
        f"bidirectional_{mode}_{'all' if seq else 'last'}": (
            lambda mode=mode, seq=seq: sequence(bidirectional(mode, return_sequences=seq))
        )
        for mode in ("concat", "sum", "mul", "ave")
        for seq in (False, True)
    },
    "bidirectional_mixed": lambda: sequence(mixed_bidirectional(return_sequences=True), L.LSTM(3)),
    "bidirectional_backwards_first": lambda: sequence(
        L.Bidirectional(L.LSTM(4, go_backwards=True), backward_layer=L.LSTM(4))
    ),
    "bidirectional_unmerged": bidirectional_unmerged,
    "bidirectional_return_state": bidirectional_return_state,
    "return_state": return_state,
    "stacked_return_state": stacked_return_state,
    "encoder_decoder": encoder_decoder,
    "encoder_decoder_bidirectional": encoder_decoder_gru_bidirectional,
    "states_as_inputs": states_as_inputs,
    "shared_layer": shared_layer,
    "nested_models": nested_models,
    "nested_twice": nested_twice,
    "time_distributed_dense": time_distributed_dense,
    "time_distributed_lstm": time_distributed_lstm,
    "time_distributed_model": time_distributed_model,
    "several_outputs": several_outputs,
    "dictionary_inputs": dictionary_inputs,
    "attention_reader": attention_reader,
    "convolution_and_norms": convolution_and_norms,
    "tokens": lambda: tokens(L.LSTM(5), L.Dense(11)),
    "long_sequence": long_sequence,
    "one_step": one_step,
}


def initial_state_and_mask():
    x, h, c = _input(name="x"), keras.Input((4,), name="h"), keras.Input((4,), name="c")
    y = L.LSTM(4, return_sequences=True)(L.Masking()(x), initial_state=[h, c])
    return keras.Model([x, h, c], y)


def explicit_mask():
    x, mask = _input(name="x"), keras.Input((6,), dtype="bool", name="mask")
    return keras.Model([x, mask], L.GRU(4, return_sequences=True)(x, mask=mask))


def masked_encoder_decoder():
    source, target = keras.Input((5,), name="source"), keras.Input((7,), name="target")
    embedding = L.Embedding(9, 4, mask_zero=True)
    _, *states = L.LSTM(4, return_state=True)(embedding(source))
    return keras.Model(
        [source, target], L.LSTM(4, return_sequences=True)(embedding(target), initial_state=states)
    )


MASKED = {
    **{
        f"masking_{name}": (lambda make=make: sequence(L.Masking(), make(return_sequences=True), L.LSTM(3)))
        for name, make in LAYERS.items()
    },
    "mask_zero_last": lambda: tokens(L.LSTM(5), mask_zero=True),
    "mask_zero_all": lambda: tokens(
        L.LSTM(5, return_sequences=True), L.Dropout(0.1), L.GRU(4), mask_zero=True
    ),
    "mask_backwards": lambda: tokens(L.LSTM(5, return_sequences=True, go_backwards=True), mask_zero=True),
    "mask_zero_output": lambda: tokens(
        L.RNN(L.LSTMCell(5), return_sequences=True, zero_output_for_mask=True), mask_zero=True
    ),
    "mask_zero_output_last": lambda: tokens(L.RNN(L.GRUCell(5), zero_output_for_mask=True), mask_zero=True),
    "mask_bidirectional": lambda: tokens(bidirectional("concat", return_sequences=True), mask_zero=True),
    "mask_bidirectional_last": lambda: tokens(bidirectional("sum"), mask_zero=True),
    "mask_bidirectional_mixed": lambda: tokens(
        mixed_bidirectional("mul", return_sequences=True), mask_zero=True
    ),
    "mask_initial_state": initial_state_and_mask,
    "mask_explicit": explicit_mask,
    "mask_encoder_decoder": masked_encoder_decoder,
    "mask_long": lambda: tokens(L.LSTM(5, return_sequences=True), mask_zero=True, time=40),
    "mask_one_step": lambda: tokens(L.LSTM(5, return_sequences=True), mask_zero=True, time=1),
    "mask_value": lambda: sequence(L.Masking(mask_value=-1.0), L.LSTM(4, return_sequences=True)),
    "mask_time_distributed_dense": lambda: tokens(
        L.LSTM(5, return_sequences=True), L.TimeDistributed(L.Dense(3)), mask_zero=True
    ),
}
