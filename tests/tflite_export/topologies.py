"""Small models, one for every recurrent layer and topology that can be exported."""

import keras
import numpy as np
from keras import layers

FEATURES = 3


def randomize(model: keras.Model, seed: int = 0) -> keras.Model:
    """Weights of a size that drives the gates, biases included, so that a wrong one shows."""
    rng = np.random.default_rng(seed)
    for weight in model.weights:
        value = rng.normal(size=weight.shape, scale=0.5)
        weight.assign(np.abs(value) if "variance" in weight.path else value)
    return model


def sequence(*stack, time=6):
    return keras.Sequential([layers.Input((time, FEATURES)), *stack])


def _input(time=6, features=FEATURES, name=None):
    return keras.Input((time, features), name=name)


LAYERS = {
    "lstm": lambda **kw: layers.LSTM(5, **kw),
    "lstm_no_bias": lambda **kw: layers.LSTM(5, use_bias=False, **kw),
    "lstm_other_activations": lambda **kw: layers.LSTM(
        5, activation="relu", recurrent_activation="hard_sigmoid", **kw
    ),
    "gru_reset_after": lambda **kw: layers.GRU(5, **kw),
    "gru_reset_before": lambda **kw: layers.GRU(5, reset_after=False, **kw),
    "gru_no_bias": lambda **kw: layers.GRU(5, use_bias=False, **kw),
    "gru_reset_before_no_bias": lambda **kw: layers.GRU(5, use_bias=False, reset_after=False, **kw),
    "simple_rnn": lambda **kw: layers.SimpleRNN(5, **kw),
    "rnn_lstm_cell": lambda **kw: layers.RNN(layers.LSTMCell(5), **kw),
    "rnn_gru_cell": lambda **kw: layers.RNN(layers.GRUCell(5), **kw),
    "rnn_simple_cell": lambda **kw: layers.RNN(layers.SimpleRNNCell(5), **kw),
    "stacked": lambda **kw: layers.RNN(
        layers.StackedRNNCells([layers.LSTMCell(5), layers.GRUCell(4), layers.SimpleRNNCell(5)]), **kw
    ),
}


def both(make):
    """The outputs of all steps and of the last one."""
    x = _input()
    return keras.Model(x, [make(return_sequences=True)(x), make()(x)])


def bidirectional(merge_mode, **kw):
    return layers.Bidirectional(layers.LSTM(4, **kw), merge_mode=merge_mode)


def mixed_bidirectional(merge_mode="concat", **kw):
    return layers.Bidirectional(
        layers.GRU(4, **kw), backward_layer=layers.LSTM(4, go_backwards=True, **kw), merge_mode=merge_mode
    )


def encoder_decoder():
    source, target = _input(5, name="source"), _input(7, name="target")
    _, h, c = layers.LSTM(4, return_state=True)(source)
    decoded = layers.LSTM(4, return_sequences=True)(target, initial_state=[h, c])
    return keras.Model([source, target], layers.Dense(3)(decoded))


def encoder_decoder_gru_bidirectional():
    source, target = _input(5, name="source"), _input(7, name="target")
    _, ahead, behind = layers.Bidirectional(layers.GRU(4, return_state=True))(source)
    decoded = layers.Bidirectional(layers.GRU(4, return_sequences=True))(
        target, initial_state=[ahead, behind]
    )
    return keras.Model([source, target], decoded)


def states_as_inputs():
    x, h, c = _input(1, name="x"), keras.Input((4,), name="h"), keras.Input((4,), name="c")
    y, h2, c2 = layers.LSTM(4, return_state=True)(x, initial_state=[h, c])
    return keras.Model([x, h, c], {"y": layers.Dense(2)(y), "h_next": h2, "c_next": c2})


def return_state():
    x = _input()
    y, h, c = layers.LSTM(5, return_sequences=True, return_state=True)(x)
    return keras.Model(x, [y, h, c])


def stacked_return_state():
    x = _input()
    cells = layers.StackedRNNCells([layers.LSTMCell(5), layers.LSTMCell(4)])
    y, (h1, c1), (h2, c2) = layers.RNN(cells, return_sequences=True, return_state=True)(x)
    return keras.Model(x, [y, h1, c1, h2, c2])


def bidirectional_return_state():
    x = _input()
    outputs = layers.Bidirectional(
        layers.LSTM(4, return_sequences=True, return_state=True), merge_mode="sum"
    )(x)
    return keras.Model(x, list(outputs))


def bidirectional_unmerged():
    x = _input()
    ahead, behind = bidirectional(None, return_sequences=True)(x)
    return keras.Model(x, [ahead, behind])


def shared_layer():
    a, b = _input(name="a"), _input(4, name="b")
    lstm = layers.LSTM(5)
    return keras.Model([a, b], layers.Concatenate()([lstm(a), lstm(b)]))


def nested_models():
    inner = keras.Sequential(
        [layers.Input((None, 4)), layers.GRU(5, return_sequences=True), layers.LSTM(4, return_sequences=True)]
    )
    middle_in = keras.Input((None, 4))
    middle = keras.Model(middle_in, layers.Add()([inner(middle_in), middle_in]))
    x = _input()
    return keras.Model(x, layers.LSTM(3)(middle(layers.Dense(4)(x))))


def nested_twice():
    inner = keras.Sequential([layers.Input((None, FEATURES)), layers.LSTM(4)])
    a, b = _input(name="a"), _input(name="b")
    return keras.Model([a, b], layers.Subtract()([inner(a), inner(b)]))


def time_distributed_dense():
    return sequence(layers.LSTM(5, return_sequences=True), layers.TimeDistributed(layers.Dense(2)))


def time_distributed_lstm():
    x = keras.Input((4, 5, FEATURES))
    return keras.Model(x, layers.GRU(4)(layers.TimeDistributed(layers.LSTM(5))(x)))


def time_distributed_model():
    inner = keras.Sequential([layers.Input((5, FEATURES)), layers.Masking(), layers.LSTM(4)])
    x = keras.Input((4, 5, FEATURES))
    return keras.Model(x, layers.LSTM(3)(layers.TimeDistributed(inner)(x)))


def several_outputs():
    x = _input()
    h = layers.LSTM(5, return_sequences=True)(x)
    return keras.Model(x, {"tags": layers.Dense(3)(h), "summary": layers.GRU(2)(h)})


def dictionary_inputs():
    inputs = {"b": _input(name="b"), "a": _input(name="a")}
    return keras.Model(
        inputs, layers.LSTM(4)(layers.Concatenate()([inputs["b"], layers.Dense(2)(inputs["a"])]))
    )


def attention_reader():
    x = _input()
    h = layers.LSTM(4, return_sequences=True)(x)
    return keras.Model(x, layers.LSTM(3)(layers.Attention()([h, h])))


def convolution_and_norms():
    return sequence(
        layers.Conv1D(4, 3, padding="causal"),
        layers.BatchNormalization(),
        layers.Dropout(0.3),
        layers.LSTM(5, return_sequences=True, dropout=0.2, recurrent_dropout=0.2),
        layers.LayerNormalization(),
        layers.GlobalAveragePooling1D(),
        layers.Dense(2, activation="softmax"),
    )


def tokens(*stack, mask_zero=False, time=6):
    inputs = [layers.Input((time,), dtype="int32"), layers.Embedding(11, 4, mask_zero=mask_zero)]
    return keras.Sequential([*inputs, *stack])


def long_sequence():
    return sequence(layers.LSTM(5, return_sequences=True), layers.GRU(4, return_sequences=True), time=37)


def one_step():
    return sequence(layers.LSTM(5, return_sequences=True), layers.GRU(4), time=1)


TOPOLOGIES = {
    **{name: (lambda make=make: both(make)) for name, make in LAYERS.items()},
    "backwards": lambda: both(lambda **kw: layers.LSTM(5, go_backwards=True, **kw)),
    "unroll": lambda: sequence(layers.LSTM(5, unroll=True)),
    **{
        f"bidirectional_{mode}": (lambda mode=mode: both(lambda **kw: bidirectional(mode, **kw)))
        for mode in ("concat", "sum", "mul", "ave")
    },
    "bidirectional_mixed": lambda: sequence(mixed_bidirectional(return_sequences=True), layers.LSTM(3)),
    "bidirectional_backwards_first": lambda: sequence(
        layers.Bidirectional(layers.LSTM(4, go_backwards=True), backward_layer=layers.LSTM(4))
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
    "tokens": lambda: tokens(layers.LSTM(5), layers.Dense(11)),
    "stateful": lambda: keras.Sequential(
        [layers.Input((6, FEATURES), batch_size=3), layers.LSTM(4, stateful=True)]
    ),
    # LiteRT's converter swaps the operands when it moves a transposition past `1 - x`.
    "subtracted_from_a_number": lambda: sequence(
        layers.LSTM(4, return_sequences=True), layers.Lambda(lambda h: 1.0 - h)
    ),
    "long_sequence": long_sequence,
    "one_step": one_step,
}


def initial_state_and_mask():
    x, h, c = _input(name="x"), keras.Input((4,), name="h"), keras.Input((4,), name="c")
    y = layers.LSTM(4, return_sequences=True)(layers.Masking()(x), initial_state=[h, c])
    return keras.Model([x, h, c], y)


def explicit_mask():
    x, mask = _input(name="x"), keras.Input((6,), dtype="bool", name="mask")
    return keras.Model([x, mask], layers.GRU(4, return_sequences=True)(x, mask=mask))


def masked_encoder_decoder():
    source, target = keras.Input((5,), name="source"), keras.Input((7,), name="target")
    embedding = layers.Embedding(9, 4, mask_zero=True)
    _, *states = layers.LSTM(4, return_state=True)(embedding(source))
    return keras.Model(
        [source, target], layers.LSTM(4, return_sequences=True)(embedding(target), initial_state=states)
    )


MASKED_LAYERS = ("lstm", "gru_reset_after", "gru_reset_before", "simple_rnn", "stacked")
MASKED = {
    **{
        f"masking_{name}": (
            lambda make=make: sequence(layers.Masking(), make(return_sequences=True), layers.LSTM(3))
        )
        for name, make in LAYERS.items()
        if name in MASKED_LAYERS
    },
    "mask_zero_last": lambda: tokens(layers.LSTM(5), mask_zero=True),
    "mask_zero_all": lambda: tokens(
        layers.LSTM(5, return_sequences=True), layers.Dropout(0.1), layers.GRU(4), mask_zero=True
    ),
    "mask_backwards": lambda: tokens(
        layers.LSTM(5, return_sequences=True, go_backwards=True), mask_zero=True
    ),
    "mask_zero_output": lambda: tokens(
        layers.RNN(layers.LSTMCell(5), return_sequences=True, zero_output_for_mask=True), mask_zero=True
    ),
    "mask_zero_output_last": lambda: tokens(
        layers.RNN(layers.GRUCell(5), zero_output_for_mask=True), mask_zero=True
    ),
    "mask_bidirectional": lambda: tokens(bidirectional("concat", return_sequences=True), mask_zero=True),
    "mask_bidirectional_last": lambda: tokens(bidirectional("sum"), mask_zero=True),
    "mask_bidirectional_mixed": lambda: tokens(
        mixed_bidirectional("mul", return_sequences=True), mask_zero=True
    ),
    "mask_initial_state": initial_state_and_mask,
    "mask_explicit": explicit_mask,
    "mask_encoder_decoder": masked_encoder_decoder,
    "mask_long": lambda: tokens(layers.LSTM(5, return_sequences=True), mask_zero=True, time=40),
    "mask_one_step": lambda: tokens(layers.LSTM(5, return_sequences=True), mask_zero=True, time=1),
    "mask_value": lambda: sequence(layers.Masking(mask_value=-1.0), layers.LSTM(4, return_sequences=True)),
    "mask_time_distributed_dense": lambda: tokens(
        layers.LSTM(5, return_sequences=True), layers.TimeDistributed(layers.Dense(3)), mask_zero=True
    ),
}
