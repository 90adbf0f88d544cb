"""Small models of every layer and topology that tracing knows: name -> what must be found in it.

Each entry says which structures there are and what each must have of zeros before a unit may go, and which are
pinned, with a word of the reason. It is written from what the layers compute, not from what tracing answers.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

import keras
import numpy as np
from keras import layers, ops

import keras_iss
from keras_iss.introspection import variables_of
from keras_iss.structures import Role, scale

VOCABULARY = 7
FEATURES = 3
STEPS = 4
BATCH = 2


@dataclasses.dataclass(frozen=True)
class Units:
    """What a structure must be.

    Args:
        size, kind: As in `Structure`.
        silent: Whether a unit may go as soon as its incoming weights are all 0.
        deaf: Whether a unit may go as soon as its outgoing weights are all 0.
    """

    size: int
    kind: str = "hidden"
    silent: bool = True
    deaf: bool = True


@dataclasses.dataclass(frozen=True)
class Topology:
    """A model and what must be found in it.

    Args:
        build: Builds the model, afresh each time.
        structures: What can be pruned, by name.
        pinned: What can't: name -> a word of the reason.
        loadable: Whether Keras itself can load what it saved of such a model.
    """

    build: Callable[[], keras.Model]
    structures: Mapping[str, Units]
    pinned: Mapping[str, str]
    loadable: bool = True


ZOO: dict[str, Topology] = {}
OUT = {"out": "output of the model"}
WAYS = {"incoming": (Role.INCOMING,), "outgoing": (Role.OUTGOING,), "both": (Role.INCOMING, Role.OUTGOING)}


def topology(
    structures: Mapping[str, Units], pinned: Mapping[str, str] = OUT, *, loadable: bool = True
) -> Callable:
    """Puts the decorated builder into the zoo under its own name."""

    def add(build: Callable[[], keras.Model]) -> Callable[[], keras.Model]:
        ZOO[build.__name__] = Topology(build, structures, pinned, loadable)
        return build

    return add


def dense(size: int, **flags: bool) -> Units:
    return Units(size, "dense", **flags)


def embedding(size: int, **flags: bool) -> Units:
    return Units(size, "embedding", **flags)


# --- helpers of the tests -----------------------------------------------------------------------------------------


def randomise(model: keras.Model, seed: int = 0) -> None:
    """No weight, bias, statistic or state is near 0: what is 0 afterwards was set to 0 on purpose."""
    generator = np.random.default_rng(seed)
    for variable in variables_of(model):
        if "seed" in variable.path:
            continue
        shape = tuple(variable.shape)
        size = generator.uniform(0.2, 0.8, shape)
        sign = 1 if "variance" in variable.path else generator.choice([-1.0, 1.0], shape)
        variable.assign(np.asarray(size * sign, "float32"))


def zero_some_units(model: keras.Model, seed: int = 0) -> dict[str, list[str]]:
    """Sets units of every structure that can be pruned to 0, one in each of the three ways; at least one stays.

    Returns:
        The ways taken, by structure.
    """
    generator = np.random.default_rng(seed)
    found = keras_iss.trace(model)
    taken = {}
    for structure in found.structures:
        # Small structures haven't room for all.
        ways = {1: [], 2: ["both"], 3: ["incoming", "outgoing"]}.get(structure.size, list(WAYS))
        units = generator.permutation(structure.size)
        for way, unit in zip(ways, units, strict=False):
            factors = np.ones(structure.size, "float32")
            factors[unit] = 0
            zeroed = scale(structure, found.weights, factors, penalised_only=False, roles=WAYS[way])
            for path, value in zeroed.items():
                found.weights[path].assign(value)
        taken[structure.name] = ways
    return taken


def inputs_for(model: keras.Model, seed: int = 0):
    """Random values of each input's kind, in the model's own structure; open lengths become STEPS."""
    generator = np.random.default_rng(seed)

    def values(tensor):
        shape = [d or (BATCH if axis == 0 else STEPS) for axis, d in enumerate(tensor.shape)]
        if "int" in tensor.dtype:
            ids = generator.integers(1, VOCABULARY, shape)
            ids[..., -1] = 0  # where 0 is masked, the mask isn't trivial
            return ids.astype(tensor.dtype)
        return generator.standard_normal(shape).astype(tensor.dtype)

    structure = model.input if not isinstance(model, keras.Sequential) else model.inputs[0]
    return keras.tree.map_structure(values, structure)


def outputs_of(model: keras.Model, inputs) -> list[np.ndarray]:
    return [ops.convert_to_numpy(y) for y in keras.tree.flatten(model(inputs, training=False))]


def sequence(features: int = FEATURES, steps: int | None = None, batch: int | None = None, name: str = "x"):
    return keras.Input(batch_shape=(batch, steps, features), name=name)


def tokens(name: str = "tokens"):
    return keras.Input((None,), dtype="int32", name=name)


def out(units: int = 2):
    return layers.Dense(units, name="out")


def chain(*parts, steps: int | None = None, batch: int | None = None) -> keras.Model:
    """A Sequential model from float sequences through the layers to a Dense output."""
    return keras.Sequential([sequence(steps=steps, batch=batch), *parts, out()])


# --- recurrent layers ---------------------------------------------------------------------------------------------


@topology({"lstm": Units(5)})
def lstm():
    return chain(layers.LSTM(5, name="lstm"))


@topology({"gru": Units(5)})
def gru():
    return chain(layers.GRU(5, name="gru"))


@topology({"gru": Units(5)})
def gru_resetting_before():
    return chain(layers.GRU(5, reset_after=False, name="gru"))


@topology({"rnn": Units(5)})
def simple_rnn():
    return chain(layers.SimpleRNN(5, name="rnn"))


@topology({"lstm": Units(5), "gru": Units(4), "rnn": Units(3)})
def without_biases():
    return chain(
        layers.LSTM(5, use_bias=False, return_sequences=True, name="lstm"),
        layers.GRU(4, use_bias=False, return_sequences=True, name="gru"),
        layers.SimpleRNN(3, use_bias=False, name="rnn"),
    )


@topology({"lstm": Units(5), "gru": Units(4), "rnn": Units(3)})
def other_activations():
    return chain(
        layers.LSTM(5, activation="relu", recurrent_activation="hard_sigmoid", return_sequences=True, name="lstm"),
        layers.GRU(4, activation="softsign", recurrent_activation="tanh", return_sequences=True, name="gru"),
        layers.SimpleRNN(3, activation="elu", name="rnn"),
    )


@topology({"lstm": Units(5, silent=False), "gru": Units(4, silent=False), "rnn": Units(3, silent=False)})
def activations_that_are_not_0_at_0():
    return chain(
        layers.LSTM(5, activation="sigmoid", return_sequences=True, name="lstm"),
        layers.GRU(4, activation="softplus", return_sequences=True, name="gru"),
        layers.SimpleRNN(3, activation="hard_sigmoid", name="rnn"),
    )


@topology({}, {"lstm": "activation", "rnn": "activation", **OUT})
def activations_over_units():
    return chain(
        layers.LSTM(5, activation="softmax", return_sequences=True, name="lstm"),
        layers.SimpleRNN(4, activation=layers.LeakyReLU(), name="rnn"),
    )


@topology({"first": Units(5), "second": Units(4)}, OUT)
def stacked_lstms_with_an_output_per_step():
    return chain(
        layers.LSTM(5, return_sequences=True, name="first"), layers.LSTM(4, return_sequences=True, name="second")
    )


@topology({}, {"lstm": "output of the model"})
def recurrent_layer_as_output():
    return keras.Sequential([sequence(), layers.LSTM(5, name="lstm")])


@topology({"lstm": Units(5), "gru": Units(4)})
def going_backwards():
    return chain(
        layers.LSTM(5, go_backwards=True, return_sequences=True, name="lstm"),
        layers.GRU(4, go_backwards=True, name="gru"),
    )


@topology({"lstm": Units(5), "gru": Units(4), "rnn": Units(3)})
def unrolled():
    return chain(
        layers.LSTM(5, unroll=True, return_sequences=True, name="lstm"),
        layers.GRU(4, unroll=True, return_sequences=True, name="gru"),
        layers.SimpleRNN(3, unroll=True, name="rnn"),
        steps=STEPS,
    )


@topology({"lstm": Units(5), "gru": Units(4)})
def dropout_inside():
    return chain(
        layers.LSTM(5, dropout=0.3, recurrent_dropout=0.2, return_sequences=True, name="lstm"),
        layers.GRU(4, dropout=0.3, name="gru"),
    )


@topology({"lstm": Units(5), "gru": Units(4), "rnn": Units(3)})
def stateful():
    return chain(
        layers.LSTM(5, stateful=True, return_sequences=True, name="lstm"),
        layers.GRU(4, stateful=True, return_sequences=True, name="gru"),
        layers.SimpleRNN(3, stateful=True, name="rnn"),
        batch=BATCH,
    )


@topology({"lstm": Units(5), "gru": Units(4)})
def returned_states_are_read():
    x = sequence()
    _, h, c = layers.LSTM(5, return_state=True, name="lstm")(x)
    y, state = layers.GRU(4, return_state=True, return_sequences=True, name="gru")(x)
    y = layers.GlobalMaxPooling1D()(y)
    return keras.Model(x, out()(layers.Concatenate()([h, y, c, state])))


@topology({"lstm": Units(5), "gru": Units(4), "rnn": Units(3)})
def rnn_of_one_cell():
    return chain(
        layers.RNN(layers.LSTMCell(5), return_sequences=True, name="lstm"),
        layers.RNN(layers.GRUCell(4, reset_after=False), return_sequences=True, go_backwards=True, name="gru"),
        layers.RNN(layers.SimpleRNNCell(3), name="rnn"),
    )


@topology({"rnn/0": Units(5), "rnn/1": Units(4), "rnn/2": Units(3)})
def rnn_of_stacked_cells():
    cells = [layers.LSTMCell(5), layers.GRUCell(4), layers.SimpleRNNCell(3)]
    return chain(layers.RNN(cells, name="rnn"))


@topology({"rnn/0": Units(5), "rnn/1": Units(4), "rnn/2": Units(3)})
def stateful_rnn_of_stacked_cells():
    cells = [layers.SimpleRNNCell(5), layers.LSTMCell(4), layers.GRUCell(3)]
    return chain(layers.RNN(cells, stateful=True, return_sequences=True, name="rnn"), batch=BATCH)


@topology({"encoder/0": Units(5), "encoder/1": Units(4)})
def stacked_cells_begin_where_others_ended():
    x, y = sequence(name="x"), sequence(2, name="y")
    encoder = layers.RNN([layers.LSTMCell(5), layers.GRUCell(4)], return_state=True, name="encoder")
    _, lstm_states, gru_state = encoder(x)
    decoder = layers.RNN([layers.LSTMCell(5), layers.GRUCell(4)], return_sequences=True, name="decoder")
    return keras.Model([x, y], out()(decoder(y, initial_state=[lstm_states, gru_state])))


# --- Bidirectional ------------------------------------------------------------------------------------------------


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
    return chain(layers.Bidirectional(layers.SimpleRNN(4, return_sequences=True), merge_mode="ave", name="both"))


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
    return chain(layers.Bidirectional(layers.LSTM(4, return_sequences=True), backward_layer=backward, name="both"))


@topology({"both": Units(4, silent=False)})
def bidirectional_sum_with_one_direction_not_0_at_0():
    backward = layers.SimpleRNN(4, go_backwards=True, activation="sigmoid")
    both = layers.Bidirectional(layers.SimpleRNN(4), backward_layer=backward, merge_mode="sum", name="both")
    return chain(both)


@topology({"first/forward": Units(4), "first/backward": Units(4), "second/forward": Units(3), "second/backward": Units(3)})
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
    y, _, backward = layers.Bidirectional(layers.GRU(4, return_state=True, return_sequences=True), name="both")(x)
    start = layers.Dense(4, name="start")(layers.GlobalMaxPooling1D()(x))
    other = layers.Bidirectional(layers.GRU(4), name="other")(x, initial_state=[backward, start])
    y = layers.GlobalAveragePooling1D()(y)
    return keras.Model(x, out()(layers.Concatenate()([y, other])))


@topology({"both/forward/0": Units(4), "both/forward/1": Units(3), "both/backward/0": Units(4), "both/backward/1": Units(3)})
def bidirectional_of_stacked_cells():
    rnn = layers.RNN([layers.LSTMCell(4), layers.GRUCell(3)], return_sequences=True)
    return chain(layers.Bidirectional(rnn, name="both"))


@topology({"both/forward": Units(4), "both/backward": Units(4), "table": embedding(3)})
def bidirectional_masked():
    x = tokens()
    y = layers.Embedding(VOCABULARY, 3, mask_zero=True, name="table")(x)
    y = layers.Bidirectional(layers.LSTM(4, return_sequences=True), name="both")(y)
    return keras.Model(x, out()(y))


# --- initial states -----------------------------------------------------------------------------------------------


@topology({"encoder": Units(5)})
def encoder_decoder_lstm():
    x, y = sequence(name="x"), sequence(2, name="y")
    _, *states = layers.LSTM(5, return_state=True, name="encoder")(x)
    decoded = layers.LSTM(5, return_sequences=True, name="decoder")(y, initial_state=states)
    return keras.Model([x, y], out()(decoded))


@topology({"encoder": Units(5), "source": embedding(3), "target": embedding(4)})
def encoder_decoder_gru_on_tokens():
    x, y = tokens("x"), tokens("y")
    embedded = layers.Embedding(VOCABULARY, 3, mask_zero=True, name="source")(x)
    _, state = layers.GRU(5, return_state=True, name="encoder")(embedded)
    y_embedded = layers.Embedding(VOCABULARY, 4, name="target")(y)
    decoded = layers.GRU(5, return_sequences=True, name="decoder")(y_embedded, initial_state=state)
    return keras.Model([x, y], out(VOCABULARY)(decoded))


@topology({"encoder/forward": Units(3), "encoder/backward": Units(3)})
def bidirectional_encoder_decoder():
    """The decoder's 6 units are the encoder's 3 forward and 3 backward ones."""
    x, y = sequence(name="x"), sequence(2, name="y")
    states = layers.Bidirectional(layers.LSTM(3, return_state=True), name="encoder")(x)[1:]
    h = layers.Concatenate()([states[0], states[2]])
    c = layers.Concatenate()([states[1], states[3]])
    decoded = layers.LSTM(6, return_sequences=True, name="decoder")(y, initial_state=[h, c])
    return keras.Model([x, y], out()(decoded))


@topology({"lstm": Units(5), "gru": Units(4, silent=False)})
def initial_states_from_dense():
    x, image = sequence(name="x"), keras.Input((6,), name="image")
    h, c = (layers.Dense(5, name=name)(image) for name in ("h", "c"))
    y = layers.LSTM(5, return_sequences=True, name="lstm")(x, initial_state=[h, c])
    state = layers.Dense(4, activation="sigmoid", name="state")(image)
    y = layers.GRU(4, name="gru")(y, initial_state=state)
    return keras.Model([x, image], out()(y))


@topology({}, {"lstm": "initial state", **OUT})
def initial_states_are_inputs():
    x, h, c = sequence(), keras.Input((5,), name="h"), keras.Input((5,), name="c")
    y = layers.LSTM(5, name="lstm")(x, initial_state=[h, c])
    return keras.Model([x, h, c], out()(y))


@topology({"encoder": Units(4), "encoder_2": Units(5)})
def encoder_decoder_of_two_layers():
    x, start = sequence(name="x"), sequence(2, name="y")
    y, *states = layers.LSTM(4, return_sequences=True, return_state=True, name="encoder")(x)
    _, *states_2 = layers.LSTM(5, return_state=True, name="encoder_2")(y)
    z = layers.LSTM(4, return_sequences=True, name="decoder")(start, initial_state=states)
    z = layers.LSTM(5, return_sequences=True, name="decoder_2")(z, initial_state=states_2)
    return keras.Model([x, start], out()(z))


@topology({"encoder": Units(4, deaf=False)})
def encoder_decoder_with_attention():
    """Scores compare encoder and decoder unit by unit; there is no weight to be 0."""
    x, start = sequence(name="x"), sequence(2, name="y")
    encoded, *states = layers.LSTM(4, return_sequences=True, return_state=True, name="encoder")(x)
    decoded = layers.LSTM(4, return_sequences=True, name="decoder")(start, initial_state=states)
    context = layers.Attention(name="attention")([decoded, encoded])
    return keras.Model([x, start], out()(layers.Concatenate()([context, decoded])))


@topology({"lstm": Units(4)})
def stateful_with_an_initial_state():
    x = sequence(batch=BATCH)
    h, c = (layers.Dense(4, name=name)(layers.GlobalMaxPooling1D()(x)) for name in ("h", "c"))
    return keras.Model(x, out()(layers.LSTM(4, stateful=True, name="lstm")(x, initial_state=[h, c])))


# --- shared layers, nested models, several ends --------------------------------------------------------------------


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
        [sequence(), layers.LSTM(4, return_sequences=True, name="lstm"), layers.Dense(3, name="dense")], name="encoder"
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
    inner = keras.Sequential([sequence(), layers.LSTM(4, name="lstm"), layers.Dense(3, name="dense")], name="inner")
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
        keras.utils.clear_session(free_memory=False)
        inner.append(keras.Sequential([sequence(), layers.LSTM(4, name="lstm")], name=name))
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
        [sequence(), layers.LSTM(4, return_sequences=True, name="lstm"), layers.Dense(3, name="dense")], name="inner"
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
    return keras.Model({"x": x, "ids": ids}, {"a": layers.Dense(2, name="a")(h), "b": layers.Dense(3, name="b")(h)})


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


# --- embeddings and tied weights ----------------------------------------------------------------------------------


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


# --- feed-forward layers ------------------------------------------------------------------------------------------


@topology({"lstm": Units(4), "a": dense(5), "b": dense(3, silent=False), "c": dense(4)})
def dense_stack():
    return chain(
        layers.LSTM(4, name="lstm"),
        layers.Dense(5, activation="relu", name="a"),
        layers.Dense(3, activation="sigmoid", name="b"),
        layers.Dense(4, use_bias=False, name="c"),
    )


def _centered(x):
    """Not registered with Keras."""
    return x - ops.mean(x, axis=-1, keepdims=True)


@topology({"lstm": Units(4)}, {"a": "activation", "b": "activation", **OUT}, loadable=False)
def dense_activations_over_units():
    return chain(
        layers.LSTM(4, name="lstm"),
        layers.Dense(5, activation="softmax", name="a"),
        layers.Dense(3, activation=_centered, name="b"),
    )


@topology({"lstm": Units(4), "each": dense(3)})
def time_distributed_dense():
    return chain(
        layers.LSTM(4, return_sequences=True, name="lstm"),
        layers.TimeDistributed(layers.Dense(3, activation="tanh"), name="each"),
    )


@topology({"each/lstm": Units(4), "each/dense": dense(3), "lstm": Units(5)})
def time_distributed_nested_model():
    inner = keras.Sequential([sequence(), layers.LSTM(4, name="lstm"), layers.Dense(3, name="dense")], name="inner")
    x = keras.Input((STEPS, 3, FEATURES), name="x")
    return keras.Model(x, out()(layers.LSTM(5, name="lstm")(layers.TimeDistributed(inner, name="each")(x))))


@topology({"each/lstm": Units(4), "each/dense": dense(6), "each/other": dense(2)})
def time_distributed_nested_model_that_reshapes():
    y = sequence(steps=3)
    z = layers.Reshape((12,))(layers.LSTM(4, return_sequences=True, name="lstm")(y))
    z = layers.Reshape((1, 6))(layers.Dense(6, name="dense")(z))
    inner = keras.Model(y, layers.Flatten()(layers.Dense(2, name="other")(z)), name="inner")
    x = keras.Input((STEPS, 3, FEATURES), name="x")
    return keras.Model(x, out()(layers.TimeDistributed(inner, name="each")(x)))


@topology({"each/deep/lstm": Units(4), "each/both/forward": Units(3), "each/both/backward": Units(3)})
def time_distributed_model_of_models_and_wrappers():
    deep = keras.Sequential([sequence(), layers.LSTM(4, return_sequences=True, name="lstm")], name="deep")
    y = sequence()
    inner = keras.Model(y, layers.Bidirectional(layers.GRU(3), name="both")(deep(y)), name="inner")
    x = keras.Input((STEPS, 3, FEATURES), name="x")
    return keras.Model(x, out()(layers.TimeDistributed(inner, name="each")(x)))


@topology({"each": Units(4), "lstm": Units(5)})
def time_distributed_lstm():
    x = keras.Input((STEPS, 3, FEATURES), name="x")
    y = layers.TimeDistributed(layers.LSTM(4), name="each")(x)
    return keras.Model(x, out()(layers.LSTM(5, name="lstm")(y)))


@topology({"before": Units(4), "filters": dense(5), "lstm": Units(3)})
def conv1d():
    return chain(
        layers.LSTM(4, return_sequences=True, name="before"),
        layers.Conv1D(5, 3, padding="causal", activation="relu", name="filters"),
        layers.LSTM(3, name="lstm"),
    )


@topology({"before": Units(4), "filters": dense(5), "strided": dense(3), "lstm": Units(3)})
def conv1d_dilated_and_strided():
    return chain(
        layers.LSTM(4, return_sequences=True, name="before"),
        layers.Conv1D(5, 2, dilation_rate=2, padding="same", use_bias=False, name="filters"),
        layers.Conv1D(3, 2, strides=2, padding="same", name="strided"),
        layers.LSTM(3, name="lstm"),
    )


@topology({"lstm": Units(3)}, {"before": "groups", **OUT})
def conv1d_in_groups():
    return chain(
        layers.LSTM(4, return_sequences=True, name="before"),
        layers.Conv1D(6, 2, groups=2, name="filters"),
        layers.LSTM(3, name="lstm"),
    )


# --- attention ----------------------------------------------------------------------------------------------------


@topology({"query": Units(4, deaf=False), "value": Units(5)})
def attention():
    """Query and key have no weight between them: their unit k must output 0 to go."""
    x, y = sequence(name="x"), sequence(2, name="y")
    query = layers.LSTM(4, return_sequences=True, name="query")(x)
    key = layers.LSTM(4, return_sequences=True, name="key")(y)
    value = layers.GRU(5, return_sequences=True, name="value")(y)
    return keras.Model([x, y], out()(layers.Attention(use_scale=True)([query, value, key])))


@topology({"lstm": Units(4, deaf=False)})
def attention_of_a_sequence_to_itself():
    x = sequence()
    y = layers.LSTM(4, return_sequences=True, name="lstm")(x)
    y, _ = layers.Attention(score_mode="concat")([y, y], return_attention_scores=True)
    return keras.Model(x, out()(y))


@topology({"value": Units(5)}, {"query": "reads it without a weight", **OUT})
def attention_to_units_that_are_not_0():
    x = sequence()
    query = layers.LSTM(4, activation="sigmoid", return_sequences=True, name="query")(x)
    value = layers.LSTM(5, return_sequences=True, name="value")(x)
    return keras.Model(x, out()(layers.Attention()([query, value, query])))


@topology({"value": Units(5)}, {"query": "compares", **OUT})
def attention_to_an_input():
    x = sequence()
    query = layers.LSTM(FEATURES, return_sequences=True, name="query")(x)
    value = layers.LSTM(5, return_sequences=True, name="value")(x)
    return keras.Model(x, out()(layers.Attention()([query, value, x])))


@topology({"query": Units(4), "value": Units(5)})
def additive_attention():
    x, y = sequence(name="x"), sequence(2, name="y")
    query = layers.LSTM(4, return_sequences=True, name="query")(x)
    key = layers.LSTM(4, return_sequences=True, name="key")(y)
    value = layers.GRU(5, return_sequences=True, name="value")(y)
    return keras.Model([x, y], out()(layers.AdditiveAttention()([query, value, key])))


@topology({"lstm": Units(4, deaf=False)})
def additive_attention_without_scale():
    x = sequence()
    y = layers.LSTM(4, return_sequences=True, name="lstm")(x)
    return keras.Model(x, out()(layers.AdditiveAttention(use_scale=False)([y, y])))


@topology({"lstm": Units(4), "heads": dense(4)})
def self_attention():
    x = sequence()
    y = layers.LSTM(4, return_sequences=True, name="lstm")(x)
    y = layers.MultiHeadAttention(2, 3, name="heads")(y, y, use_causal_mask=True)
    return keras.Model(x, out()(y))


@topology({"lstm": Units(4), "kept": Units(4)})
def self_attention_with_a_residual():
    """The output projection's units are the LSTM's, whose width the layer would follow by itself."""
    x = sequence()
    y = layers.LSTM(4, return_sequences=True, name="lstm")(x)
    z = layers.MultiHeadAttention(2, 3, name="heads")(query=y, value=y)
    y = layers.Add()([y, z])
    return keras.Model(x, out()(layers.GRU(4, name="kept")(y)))


@topology({"query": Units(4), "key": Units(5), "value": Units(3), "heads": dense(6)})
def cross_attention():
    x, y = sequence(name="x"), sequence(2, name="y")
    query = layers.LSTM(4, return_sequences=True, name="query")(x)
    key = layers.LSTM(5, return_sequences=True, name="key")(y)
    value = layers.GRU(3, return_sequences=True, name="value")(y)
    heads = layers.MultiHeadAttention(2, 3, value_dim=2, output_shape=6, use_bias=False, name="heads")
    z, _ = heads(query, value, key=key, return_attention_scores=True)
    return keras.Model([x, y], out()(z))


@topology({"key": Units(5), "heads": dense(2)})
def cross_attention_from_an_input():
    x, y = sequence(name="x"), sequence(2, name="y")
    value = layers.LSTM(5, return_sequences=True, name="key")(x)
    return keras.Model([x, y], out()(layers.MultiHeadAttention(2, 3, name="heads")(y, value)))


@topology({"key": Units(4)}, {"lstm": "several axes", "heads": "several axes", **OUT})
def attention_output_of_several_axes():
    x = sequence(steps=STEPS)
    y = layers.LSTM(5, return_sequences=True, name="lstm")(x)
    value = layers.LSTM(4, return_sequences=True, name="key")(x)
    z = layers.MultiHeadAttention(2, 3, output_shape=(2, 3), name="heads")(y, value)
    return keras.Model(x, out()(layers.Reshape((STEPS, 6))(z)))


# --- merging ------------------------------------------------------------------------------------------------------


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
    return keras.Model(x, out()(layers.Concatenate()([layers.Multiply()([y, weight]), layers.Add()([z, weight])])))


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
    return keras.Model(x, out()(layers.Add()([x, layers.LSTM(FEATURES, return_sequences=True, name="lstm")(x)])))


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
    parts = [layers.LSTM(n, return_sequences=True, name=name)(x) for n, name in ((4, "a"), (3, "b"), (4, "c"), (3, "d"))]
    return keras.Model(x, out()(layers.Add()([layers.Concatenate()(parts[:2]), layers.Concatenate()(parts[2:])])))


@topology({"a": Units(4), "b": Units(3)})
def a_concatenation_added_to_one_layer():
    """c's first 4 units are a's, its others are b's."""
    x = sequence()
    a, b, c = (layers.LSTM(n, return_sequences=True, name=name)(x) for n, name in ((4, "a"), (3, "b"), (7, "c")))
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
    a, b = layers.GRU(3, return_sequences=True, name="a")(x), layers.GRU(3, return_sequences=True, name="b")(x)
    sides = [layers.Concatenate()([a, b]), layers.Concatenate()([parts[2], parts[4]])]
    y = layers.Add()([layers.Flatten()(side) for side in sides])
    return keras.Model(x, out()(y))


@topology({}, {"both/forward": "merges", "both/backward": "merges", "of_2": "merges", "of_4": "merges", **OUT})
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
    return keras.Model(x, out()(ops.concatenate([a[:, :, 1:3], ops.cumsum(b, axis=-1)], axis=-1)))


# --- elementwise layers -------------------------------------------------------------------------------------------


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


# --- moving units about -------------------------------------------------------------------------------------------


@topology({"encoder": Units(4), "decoder": Units(5)})
def repeated():
    return chain(
        layers.LSTM(4, name="encoder"), layers.RepeatVector(3), layers.LSTM(5, return_sequences=True, name="decoder")
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


@topology({"lstm": Units(4)})
def permuted_and_flattened():
    return chain(
        layers.LSTM(4, return_sequences=True, name="lstm"), layers.Permute((2, 1)), layers.Flatten(), steps=STEPS
    )


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


@topology({"lstm": Units(4)})
def permuted_there_and_back():
    return chain(
        layers.LSTM(4, return_sequences=True, name="lstm"),
        layers.Permute((2, 1)),
        layers.Activation("relu"),
        layers.Permute((2, 1)),
        steps=STEPS,
    )


@topology({}, {"lstm": "spreads", **OUT})
def reshaped_across_units():
    return chain(layers.LSTM(4, return_sequences=True, name="lstm"), layers.Reshape((8, 2)), steps=STEPS)


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


@topology({"one": Units(1), "lstm": Units(4)})
def a_layer_of_one_unit():
    x = sequence(steps=STEPS)
    one = layers.Reshape((STEPS, 1))(layers.LSTM(1, return_sequences=True, name="one")(x))
    return keras.Model(x, out()(layers.Concatenate()([one, layers.LSTM(4, return_sequences=True, name="lstm")(x)])))


# --- normalization and masks --------------------------------------------------------------------------------------


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


@topology({}, {"a": "normalizes", "b": "normalizes", "c": "normalizes", **OUT})
def normalizations_over_units():
    x = sequence()
    norms = [layers.LayerNormalization(), layers.GroupNormalization(2), layers.RMSNormalization()]
    parts = [norm(layers.LSTM(4, return_sequences=True, name=n)(x)) for norm, n in zip(norms, "abc", strict=True)]
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


# --- layers of the user's own -------------------------------------------------------------------------------------


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
        layers.LSTM(4, return_sequences=True, name="lstm"), Halve(), layers.GRU(3, name="gru"), Gain(name="gain")
    )


@topology({"gru": Units(3)}, {"lstm": "keras_iss.register(Mean", **OUT})
def layer_that_is_not_taught():
    return chain(layers.LSTM(4, return_sequences=True, name="lstm"), Mean(), layers.GRU(3, name="gru"))


@topology({"gru": Units(3)}, {"lstm": "keras_iss.register(Inner", **OUT})
def subclassed_model_inside():
    return chain(layers.LSTM(4, return_sequences=True, name="lstm"), Inner(name="inner"), layers.GRU(3, name="gru"))
