"""What trace tells, its errors, and the cost model."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers, ops

import keras_iss
from keras_iss.cost import CostModel, WeightCost


def language_model(units=(1500, 1500), vocabulary=10_000, embedding=1500) -> keras.Model:
    """Without random starts, which take longest."""
    zeros = {"kernel_initializer": "zeros", "recurrent_initializer": "zeros"}
    return keras.Sequential(
        [
            keras.Input((None,), dtype="int32"),
            layers.Embedding(vocabulary, embedding, embeddings_initializer="zeros", name="embedding"),
            layers.LSTM(units[0], return_sequences=True, name="lstm_1", **zeros),
            layers.LSTM(units[1], return_sequences=True, name="lstm_2", **zeros),
            layers.Dense(vocabulary, kernel_initializer="zeros", name="softmax"),
        ]
    )


def small_model() -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((None, 3)),
            layers.LSTM(4, return_sequences=True, name="first"),
            layers.GRU(5, name="second"),
            layers.Dense(2, name="out"),
        ]
    )


def test_the_table_names_structures_and_what_is_pinned():
    assert str(keras_iss.trace(small_model())).splitlines() == [
        "structure  kind    units  weights per unit  shrinks",
        "---------------------------------------------------",
        "first      hidden  4      59                first",
        "second     hidden  5      44                second",
        "",
        "can't be pruned:",
        "  out: it is an output of the model",
    ]


def test_the_paper_s_language_model():
    """Wen et al., section 3.1 and table 1: 24,000 and 28,000 weights a unit; 51 M multiply-adds become 6.8 M."""
    found = keras_iss.trace(language_model())
    assert [line.split()[3] for line in str(found).splitlines()[3:5]] == ["24,000", "28,000"]
    dense, small = {}, {"lstm_1": 373, "lstm_2": 315}
    assert found.cost.macs(dense) == 4 * 1500 * 3000 * 2 + 1500 * 10_000 == 51_000_000
    assert found.cost.macs(small) == 4 * 373 * (1500 + 373) + 4 * 315 * (373 + 315) + 315 * 10_000
    assert round(found.cost.macs(small) / 1e6, 1) == 6.8
    assert found.cost.parameters(dense) == 66_022_000
    assert found.cost.parameters(small) == 15_000_000 + found.cost.macs(small) + 4 * (373 + 315) + 10_000
    assert round(found.cost.parameters(small) / 1e6, 1) == 21.8
    assert found.cost.units(small) == 373 + 315
    # the embedding is a structure too; with it grouped, the model is a third of that
    assert round(found.cost.parameters({**small, "embedding": 256}) / 1e6, 1) == 7.5


@pytest.mark.parametrize("alive", [{}, {"lstm_1": 3}, {"lstm_1": 5, "lstm_2": 2, "embedding": 4}])
def test_costs_are_those_of_the_model_that_strip_builds(alive):
    model = language_model((6, 7), vocabulary=11, embedding=5)
    for variable in model.variables:
        variable.assign(np.random.default_rng(0).standard_normal(variable.shape))
    found = keras_iss.trace(model)
    small = keras_iss.strip(keras_iss.prune(model, alive) if alive else model)
    costs = keras_iss.trace(small).cost
    assert found.cost.parameters(alive) == small.count_params() == costs.parameters()
    assert found.cost.macs(alive) == costs.macs()
    assert found.cost.units(alive) == costs.units()


def test_twins_count_as_wide_as_the_widest():
    model = keras.Sequential(
        [keras.Input((None, 3)), layers.Bidirectional(layers.LSTM(4), name="both"), layers.Dense(2)]
    )
    cost = keras_iss.trace(model).cost
    assert cost.twins == (("both/forward", "both/backward"),)
    assert cost.parameters({"both/forward": 1}) == cost.parameters()
    assert cost.parameters({"both/forward": 1, "both/backward": 2}) == cost.parameters(
        dict.fromkeys(cost.twins[0], 2)
    )


def test_a_layer_called_twice_counts_twice():
    a, b = keras.Input((None, 3)), keras.Input((None, 3))
    lstm, out = layers.LSTM(4), layers.Dense(2)
    model = keras.Model([a, b], out(layers.Concatenate()([lstm(a), lstm(b)])))
    assert keras_iss.trace(model).cost.macs() == 2 * (3 + 4) * 16 + 8 * 2


def test_recurrent_macs_are_those_of_cells_alone_not_of_a_tied_or_dense_output():
    words = keras.Input((None,), dtype="int32")
    embedding = layers.ReversibleEmbedding(50, 6)
    x = layers.Bidirectional(layers.GRU(5, return_sequences=True), name="both")(embedding(words))
    x = keras_iss.layers.RHN(6, depth=2, return_sequences=True, name="rhn")(layers.Dense(7, name="dense")(x))
    cost = keras_iss.trace(keras.Model(words, embedding(x, reverse=True))).cost
    both, rhn = 2 * 3 * 5 * (6 + 5), 2 * 6 * (7 + 2 * 6)
    assert cost.recurrent_macs() == both + rhn
    assert cost.macs() == both + rhn + 10 * 7 + 6 * 50
    assert cost.measure("recurrent_macs", {"rhn": 3, "embedding": 3}) < both + rhn
    feedforward = keras.Sequential([keras.Input((4,)), layers.Dense(3), layers.Dense(2)])
    feedforward.compile("sgd", "mse")
    pruning = keras_iss.callbacks.ISSPruning(target=0.5, metric="recurrent_macs", structures=["dense"])
    with pytest.raises(ValueError, match="at most 0.000 is removed"):
        pruning.set_model(feedforward)


def test_measure_refuses_a_metric_that_is_not_there():
    cost = CostModel(
        weights=(WeightCost(shape=(3, 4), uses=1, widths=((1, "s", 2),)),),
        sizes={"s": 2},
        kinds={"s": "hidden"},
    )
    assert [cost.measure(m, {"s": 1}) for m in ("macs", "parameters", "units")] == [6, 6, 1]
    with pytest.raises(ValueError, match="Invalid value for argument metric.*'flops'"):
        cost.measure("flops")


def test_norms_are_the_square_roots_of_the_groups_sums_of_squares():
    model = small_model()
    found = keras_iss.trace(model)
    w, r, _ = (ops.convert_to_numpy(v) for v in model.get_layer("first").variables[:3])
    reader = ops.convert_to_numpy(model.get_layer("second").variables[0])
    for k in range(4):
        columns = [k, 4 + k, 8 + k, 12 + k]
        total = (
            (w[:, columns] ** 2).sum()
            + (r[:, columns] ** 2).sum()
            + (r[k] ** 2).sum()
            + (reader[k] ** 2).sum()
        )
        assert found.norms("first")[k] == pytest.approx(np.sqrt(total), rel=1e-5)


def test_a_structure_is_found_by_the_name_of_any_layer_that_was_joined_into_it():
    x = keras.Input((None, 3))
    a, b = (layers.LSTM(4, return_sequences=True, name=name)(x) for name in "ab")
    found = keras_iss.trace(keras.Model(x, layers.Dense(2)(layers.Add()([a, b]))))
    assert found["a"] is found["b"]


def test_an_unknown_name_shows_the_nearest():
    with pytest.raises(keras_iss.TraceError, match="no structure named 'frist'.*'first'"):
        keras_iss.trace(small_model())["frist"]


def test_a_model_without_structures_has_no_names_to_show():
    found = keras_iss.trace(keras.Sequential([keras.Input((3,)), layers.Activation("relu")]))
    assert not found.structures
    with pytest.raises(keras_iss.TraceError, match="the model has none"):
        found["lstm"]


def test_a_pinned_structure_is_there_but_not_prunable():
    found = keras_iss.trace(small_model())
    assert found["out"].size == 2
    with pytest.raises(keras_iss.TraceError, match="'out' can't be pruned: it is an output of the model"):
        found.prunable("out")


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.lstm = layers.LSTM(4)

    def call(self, x):
        return self.lstm(x)


class OwnCall(keras.Model):
    """A Functional model whose `call` does something else."""

    def call(self, x, training=None):
        return super().call(x) * 2


class OwnTraining(keras.Model):
    """A Functional model with a training step of its own."""

    def train_step(self, data):
        return super().train_step(data)


def functional(kind):
    x = keras.Input((None, 3))
    return kind(x, layers.Dense(2)(layers.LSTM(4, name="lstm")(x)))


@pytest.mark.parametrize("build", [Subclassed, lambda: functional(OwnCall)], ids=["subclassed", "own call"])
def test_a_model_that_is_code_is_refused_with_what_to_do_instead(build):
    with pytest.raises(
        keras_iss.TraceError, match="is subclassed .*Rebuild it with keras.Input and keras.Model"
    ):
        keras_iss.trace(build())


def test_a_functional_model_with_its_own_training_step_is_followed_and_stays_one():
    model = functional(OwnTraining)
    small = keras_iss.strip(keras_iss.prune(model, 0.5))
    assert type(small) is OwnTraining
    assert keras_iss.trace(small)["lstm"].size == 2


@pytest.mark.parametrize("parts", [[], [layers.LSTM(4), layers.Dense(2)]], ids=["empty", "no input"])
def test_an_unbuilt_model_is_refused(parts):
    with pytest.raises(keras_iss.TraceError, match="isn't built yet.*keras.Input"):
        keras_iss.trace(keras.Sequential(parts))


def test_a_sequential_model_built_by_its_first_data_is_followed():
    model = keras.Sequential([layers.LSTM(4, name="lstm"), layers.Dense(2)])
    model(np.zeros((1, 5, 3), "float32"))
    assert keras_iss.trace(keras_iss.strip(keras_iss.prune(model, 0.5)))["lstm"].size == 2


@pytest.mark.parametrize("wrong", [None, "model.keras", layers.LSTM(4)], ids=["None", "path", "layer"])
def test_what_is_no_model_is_refused(wrong):
    with pytest.raises(keras_iss.TraceError, match=r"Expected a keras\.Model"):
        keras_iss.trace(wrong)


def test_inputs_tell_how_large_their_integers_may_be():
    x, y = keras.Input((None,), dtype="int32", name="x"), keras.Input((4, 3), name="y")
    parts = [layers.Embedding(n, 3)(x) for n in (9, 7)]
    model = keras.Model([x, y], layers.Dense(2)(layers.Concatenate(axis=1)([*parts, y])))
    first, second = keras_iss.trace(model).inputs
    assert (first.name, first.shape, first.dtype, first.vocabulary) == ("x", (None, None), "int32", 7)
    assert (second.name, second.shape, second.dtype, second.vocabulary) == (
        "y",
        (None, 4, 3),
        "float32",
        None,
    )


@pytest.mark.parametrize(
    "arguments", [(layers.LSTM(2), lambda call: None), (layers.LSTM, None), ("LSTM", print)]
)
def test_register_refuses_what_is_no_class_or_no_rule(arguments):
    with pytest.raises(TypeError, match="Expected a layer class and a function"):
        keras_iss.register(*arguments)


@keras.saving.register_keras_serializable("keras_iss_tests")
class Mixed(layers.Layer):
    """A layer of the user's own that makes units: x W + b."""

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = units

    def build(self, shape):
        self.w = self.add_weight(shape=(shape[-1], self.units), name="w")
        self.b = self.add_weight(shape=(self.units,), name="b")

    def call(self, x):
        return x @ self.w + self.b

    def get_config(self):
        return {**super().get_config(), "units": self.units}


def test_a_taught_layer_makes_units_of_its_own():
    def rule(call):
        (x,) = call.args
        units = call.structure(call.layer.units, kind="dense")
        call.reads(x, call.layer.w)
        call.writes(units, call.layer.w)
        call.writes(units, call.layer.b, penalised=False)
        call.resizes(units, "units", value=call.layer.units)
        return units

    keras_iss.register(Mixed, rule)
    model = keras.Sequential(
        [keras.Input((None, 3)), layers.LSTM(4, name="lstm"), Mixed(6, name="mixed"), layers.Dense(2)]
    )
    small = keras_iss.strip(keras_iss.prune(model, {"mixed": 2, "lstm": 3}))
    assert (small.get_layer("mixed").units, small.get_layer("lstm").units) == (2, 3)


def test_a_taught_structure_that_nothing_writes_is_not_taken_for_0():
    class Made(Mixed):
        pass

    def forgetful(call):
        call.reads(call.args[0], call.layer.w)
        return call.structure(call.layer.units, kind="dense")

    keras_iss.register(Made, forgetful)
    model = keras.Sequential([keras.Input((3,)), Made(6, name="made"), layers.Dense(2)])
    assert not keras_iss.trace(model).removable("made").any()
