"""What can't be streamed is refused with the layer's name and the reason; what can has states with stable names."""

import keras
import numpy as np
import pytest
from keras import layers

import tflite_export
from tests.tflite_export.streams import FEATURES, STREAMS, causal, stack, tokens
from tflite_export.signature import as_functional
from tflite_export.stream_plan import Flow, plan_stream


def lstm(units=4, **options):
    return layers.LSTM(units, **{"return_sequences": True, **options})


def functional(build, time=None):
    x = keras.Input((time, FEATURES), name="x")
    return keras.Model(x, build(x))


def with_input(build, shape, **options):
    x, other = keras.Input((None, FEATURES), name="x"), keras.Input(shape, name="other", **options)
    return keras.Model([x, other], build(x, other))


def encoder_decoder():
    source, target = keras.Input((None, 3), name="source"), keras.Input((None, 3), name="target")
    _, *states = layers.LSTM(4, return_state=True)(source)
    return keras.Model([source, target], layers.LSTM(4, name="decoder")(target, initial_state=states))


def different_lengths():
    a, b = keras.Input((5, 3)), keras.Input((7, 3))
    return keras.Model([a, b], layers.Add()([layers.LSTM(4)(a), layers.LSTM(4)(b)]))


def state_read_twice():
    x, h = keras.Input((None, 3), name="x"), keras.Input((4,), name="h")
    y = layers.GRU(4)(x, initial_state=h)
    return keras.Model([x, h], layers.Concatenate()([y, h]))


def mask_and_state():
    x, mask, h = (
        keras.Input((None, 3), name="x"),
        keras.Input((None,), dtype="bool", name="mask"),
        keras.Input((4,)),
    )
    return keras.Model([x, mask, h], layers.GRU(4, name="gru")(x, mask=mask, initial_state=h))


def used_on_two_things():
    gru = layers.GRU(4, name="gru")
    return functional(lambda x: gru(layers.RepeatVector(3)(layers.Dense(3)(gru(x)))))


REFUSED = {
    "bidirectional": (lambda: stack(layers.Bidirectional(lstm(), name="both")), "'both' .*from its end"),
    "backwards": (lambda: stack(lstm(go_backwards=True, name="back")), "'back' .*go_backwards=False"),
    "attention": (
        lambda: functional(lambda x: layers.Attention(name="look")([lstm()(x), lstm()(x)])),
        "'look' .*attends",
    ),
    "causal_attention": (
        lambda: functional(
            lambda x: layers.MultiHeadAttention(1, 2, name="look")(x, x, use_causal_mask=True)
        ),
        "'look' .*attends",
    ),
    "pooling": (lambda: stack(lstm(), layers.GlobalMaxPooling1D(name="pool")), "'pool' .*pools over time"),
    "max_pooling": (lambda: stack(layers.MaxPooling1D(2, name="pool"), lstm()), "'pool' .*pools over time"),
    "flatten": (lambda: stack(lstm(), layers.Flatten(name="flat"), time=4), "'flat' .*side by side"),
    "convolution_same": (
        lambda: stack(layers.Conv1D(4, 3, padding="same", name="conv"), lstm()),
        "'conv' .*causal",
    ),
    "convolution_valid": (lambda: stack(layers.Conv1D(4, 3, name="conv"), lstm()), "'conv' .*not causal"),
    "convolution_strided": (lambda: stack(causal(4, 3, strides=2, name="conv"), lstm()), "'conv' .*strides"),
    "reshape": (lambda: stack(lstm(), layers.Reshape((2, 8), name="cut"), time=4), "'cut' .*time axis apart"),
    "permute": (lambda: stack(lstm(), layers.Permute((2, 1), name="turn"), time=4), "'turn' .*time axis"),
    "lambda": (lambda: stack(lstm(), layers.Lambda(lambda x: x, name="code")), "'code' .*looked into"),
    "subclass": (lambda: stack(Squared(4, name="own")), "'own' .*isn't known"),
    "normalized_over_time": (
        lambda: stack(lstm(), layers.LayerNormalization(axis=1, name="norm"), time=4),
        "'norm' .*along the time axis",
    ),
    "batch_normalized_steps": (
        lambda: stack(lstm(), layers.BatchNormalization(axis=1, name="norm"), time=4),
        "'norm' .*along the time axis",
    ),
    "softmax_over_time": (lambda: stack(lstm(), layers.Softmax(axis=1, name="soft")), "'soft' .*time axis"),
    "weights_for_every_step": (
        lambda: stack(layers.PReLU(name="slope"), lstm(), time=4),
        "'slope' .*shared_axes",
    ),
    "joined_along_time": (
        lambda: functional(lambda x: lstm()(layers.Concatenate(axis=1, name="join")([x, x])), time=4),
        "'join' .*time axis",
    ),
    "last_step_beside_all": (
        lambda: functional(lambda x: layers.Add(name="sum")([lstm()(x), layers.LSTM(4)(x)])),
        "'sum' .*still to come",
    ),
    "a_step_by_number": (lambda: functional(lambda x: lstm()(x)[:, 0]), "picks out some time steps"),
    "steps_reversed": (lambda: functional(lambda x: lstm()(x[:, ::-1])), "picks out some time steps"),
    "sum_over_time": (lambda: functional(lambda x: keras.ops.sum(lstm()(x), axis=1)), "time axis"),
    "cumulative_sum": (lambda: functional(lambda x: keras.ops.cumsum(lstm()(x), axis=1)), "isn't known"),
    "positions_added": (
        lambda: functional(lambda x: lstm()(x + np.ones((4, FEATURES), "float32")), time=4),
        "joins every time step",
    ),
    "dense_over_time": (
        lambda: keras.Sequential(
            [layers.Input((None, 4)), layers.TimeDistributed(layers.Embedding(5, 2)), Whole()]
        ),
        "'whole' .*isn't known",
    ),
    "states_computed": (
        lambda: with_input(lambda x, o: layers.GRU(4, name="gru")(x, initial_state=layers.Dense(4)(o)), (5,)),
        "'gru' .*initial_state is computed",
    ),
    "encoder_decoder": (encoder_decoder, "'decoder' .*initial_state is computed"),
    "different_lengths": (different_lengths, r"different numbers of time steps \(5, 7\)"),
    "state_read_twice": (state_read_twice, "'h' can't be streamed as a state"),
    "mask_and_state": (mask_and_state, "'gru' .*mask and an initial_state"),
    "mask_and_own_cell": (
        lambda: stack(
            layers.Masking(), layers.RNN(STREAMS["cell_of_the_users"][0]().layers[0].cell, name="own")
        ),
        "'own' .*under a mask",
    ),
    "used_on_two_things": (used_on_two_things, "'gru' .*use two layers"),
    "constant_joined": (
        lambda: with_input(lambda x, o: lstm()(layers.Concatenate(name="join")([x, o])), (1, 2)),
        "'join' .*isn't streamed",
    ),
    "no_time": (
        lambda: keras.Sequential([layers.Input((4,)), layers.Dense(2), layers.RepeatVector(2), lstm()]),
        "none of its inputs has a time axis",
    ),
    "no_state": (lambda: stack(layers.Dense(4)), "nothing to stream"),
    "open_inner_sequences": (
        lambda: keras.Sequential(
            [layers.Input((None, 4, 3)), layers.TimeDistributed(layers.LSTM(2)), lstm()]
        ),
        "pass time_steps",
    ),
}


class Squared(layers.LSTM):
    """Computes something else than its base."""

    def call(self, sequences, initial_state=None, mask=None, training=False):
        return super().call(sequences, initial_state, mask, training) ** 2


class Whole(layers.Layer):
    """A layer of a user's own."""

    def __init__(self):
        super().__init__(name="whole")

    def call(self, x):
        return x


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_streamed_is_refused_with_the_reason(name, tmp_path):
    build, words = REFUSED[name]
    with pytest.raises(tflite_export.ExportError, match=words) as caught:
        tflite_export.export(build(), tmp_path / "model.tflite", streaming=True)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", STREAMS)
def test_states_are_named_after_their_layers(name):
    build, names = STREAMS[name]
    plan = plan_stream(as_functional(build()), batch_size=2)
    assert [state.name for state in plan.states] == names
    assert all(state.start.shape[0] == 2 for state in plan.states)


def test_names_of_states_make_way_for_those_of_inputs_and_outputs():
    x = keras.Input((None, FEATURES), name="lstm_h")
    plan = plan_stream(keras.Model(x, {"lstm_c": lstm(name="lstm")(x)}), batch_size=1)
    assert [state.name for state in plan.states] == ["lstm_h_1", "lstm_c_1"]


def test_names_hold_whatever_a_layer_is_called():
    plan = plan_stream(as_functional(stack(lstm(name="voice-deep layer"))), batch_size=1)
    assert [state.name for state in plan.states] == ["voice_deep_layer_h", "voice_deep_layer_c"]


@pytest.mark.parametrize(
    ("layer", "flow"), [(lstm(), Flow.STEPS), (layers.LSTM(4), Flow.NOW), (layers.Dropout(0.1), Flow.STEPS)]
)
def test_outputs_have_a_time_axis_or_tell_the_present(layer, flow):
    plan = plan_stream(as_functional(stack(causal(4, 2), layer)), batch_size=1)
    assert list(plan.outputs.values()) == [flow]


@pytest.mark.parametrize(
    ("shape", "dtype", "flow"),
    [
        ((None, 5), "float32", Flow.STEPS),
        ((7, 5), "float32", Flow.STEPS),
        ((None,), "int32", Flow.STEPS),
        ((7,), "int32", Flow.STEPS),
    ],
)
def test_inputs_with_a_time_axis_stream(shape, dtype, flow):
    x = keras.Input(shape, dtype=dtype)
    h = layers.Embedding(9, 4)(x) if dtype == "int32" else x
    assert list(plan_stream(keras.Model(x, lstm()(h)), batch_size=1).inputs.values()) == [flow]


def test_one_index_beside_a_sequence_holds_for_all_of_it():
    def build(x, who):
        return lstm()(layers.Add()([layers.Dense(4)(x), layers.Embedding(9, 4)(who)]))

    plan = plan_stream(with_input(build, (1,), dtype="int32"), batch_size=1)
    assert plan.inputs == {"x": Flow.STEPS, "other": Flow.FIXED}


def test_tokens_stream_through_lookups_and_masks():
    plan = plan_stream(as_functional(tokens(lstm(name="lstm"), mask_zero=True)), batch_size=1)
    assert plan.fed() == ["x"]
