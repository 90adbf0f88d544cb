"""The language models' example, after its text is read: perplexity, plans, training, the whole run."""

import dataclasses
import json
import os
import resource
import time

import keras
import numpy as np
import pytest
from ptb_lm import answer, data, main, measure, model, plans, train
from ptb_lm.perplexity import Scorer
from runs import collect, write_json

import keras_iss
from tests.examples.real_data import REAL, needs

ON_JAX = "tests.examples.test_ptb"
TINY = model.Network(vocabulary=7, embedding=4, units=(5, 3), initial=0.5)


# --- perplexity


def by_hand(network, ids):
    """-log p of every word but the first, by numpy, all in one go from a state of 0."""
    weights = {v.path: keras.ops.convert_to_numpy(v).astype("float64") for v in network.trainable_variables}

    def sigmoid(v):
        return 1 / (1 + np.exp(-v))

    x = weights["embedding/embeddings"][ids[:-1]]
    for name in ("lstm_1", "lstm_2"):
        kernel, recurrent, bias = (
            weights[f"{name}/lstm_cell/{w}"] for w in ("kernel", "recurrent_kernel", "bias")
        )
        h = c = np.zeros(len(recurrent))
        outputs = []
        for step in x:
            i, f, g, o = np.split(step @ kernel + h @ recurrent + bias, 4)
            c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
            h = sigmoid(o) * np.tanh(c)
            outputs.append(h)
        x = np.stack(outputs)
    logits = x @ weights["logits/kernel"] + weights["logits/bias"]
    chosen = logits[np.arange(len(x)), ids[1:]]
    return np.log(np.exp(logits).sum(-1)) - chosen


@pytest.mark.parametrize("streams", [1, 3])
def test_perplexity_is_that_of_a_plain_computation_with_the_state_carried(streams):
    ids = np.random.default_rng(0).integers(0, 7, 60).astype("int32")
    trained = model.build(TINY, 2, 4, stateful=True)  # of another batch than the scorer's
    for variable in trained.trainable_variables:
        variable.assign(np.random.default_rng(1).normal(size=variable.shape))
    scorer = Scorer(TINY, ids, streams, steps=8)
    parts = [ids[p[0] : p[-1] + 2] for p in np.array_split(np.arange(59), streams)]
    expected = np.exp(np.concatenate([by_hand(trained, part) for part in parts]).mean())
    assert scorer(trained) == pytest.approx(expected, rel=1e-5)
    assert scorer(trained) == pytest.approx(expected, rel=1e-5)  # nothing is left of the first time
    assert abs(expected - np.exp(by_hand(trained, ids).mean())) / expected < (1e-9 if streams == 1 else 0.5)


def everything():
    """What a model that learns nothing loses in training and in scoring."""
    recipe = train.Recipe(rate=0.0, batch=3, steps=4)
    ids = np.random.default_rng(0).integers(0, 7, 3 * 21).astype("int32")
    trained = model.build(TINY, recipe.batch, recipe.steps, stateful=True)
    for variable in trained.trainable_variables:
        variable.assign(2 * np.random.default_rng(1).normal(size=variable.shape))
    train.compile_model(trained, recipe)
    x, y = data.streams(ids, recipe.batch, recipe.steps)
    model.reset(trained)
    losses = trained.fit(x, y, recipe.batch, epochs=1, shuffle=False, verbose=0).history["loss"]
    parts = [by_hand(trained, part) for part in ids.reshape(3, 21)]
    return {
        "training": losses[0],
        "training by hand": np.mean(parts),
        "training from 0 in each batch": np.mean(
            [by_hand(trained, [*a, b[-1]]) for a, b in zip(x, y, strict=True)]
        ),
        "scoring": np.log(Scorer(TINY, ids, 1, steps=8)(trained)),
        "scoring by hand": np.mean(by_hand(trained, ids)),
    }


def assert_states_are_carried(found):
    assert found["training"] == pytest.approx(found["training by hand"], rel=1e-5)
    assert found["scoring"] == pytest.approx(found["scoring by hand"], rel=1e-5)
    assert abs(found["training from 0 in each batch"] - found["training"]) > 1e-2, (
        "forgetting would not be seen"
    )


def test_states_are_carried_from_batch_to_batch():
    assert_states_are_carried(everything())


def test_states_are_carried_from_batch_to_batch_on_jax(on_jax):
    assert_states_are_carried(on_jax)


# --- plans


def test_published_figures_against_summed_losses_become_those_against_means():
    small, large = (plans.STARTS[size]["baseline"].recipe for size in ("small", "large"))
    assert (small.rate, small.clip, small.epochs) == (20.0, 0.25, 13)
    assert [small.rate_in(epoch) for epoch in (0, 3, 4, 12)] == [20.0, 20.0, 10.0, 20 * 0.5**9]
    assert (large.rate, large.clip) == (35.0, pytest.approx(10 / 35))
    assert large.rate_in(14) == pytest.approx(35 / 1.15)
    assert pytest.approx(7.0e-5) == plans.PAPERS_LAMBDA


def finished_iss(**network):
    network = dataclasses.replace(plans.STARTS["small"]["start"].network, **network)
    recipe = dataclasses.replace(plans.STARTS["small"]["start"].recipe, epochs=5)
    return {
        "model": "iss",
        "network": json.loads(json.dumps(dataclasses.asdict(network))),
        "recipe": dataclasses.asdict(recipe),
        "sizes": {"parameters": 6_000_000},
    }


def test_direct_has_the_sizes_dropout_and_recipe_that_iss_had_and_embedding_half_the_parameters():
    iss = finished_iss(units=(120, 200), dropout=0.3)
    direct = plans.pick("direct", "small", 10_000, finished=[iss])
    assert (direct.network.units, direct.network.dropout, direct.recipe.epochs) == ((120, 200), 0.3, 5)
    assert direct.pruning is None
    start = 10_000 * 400 + 2 * 4 * 400 * (800 + 1) + 401 * 10_000
    removed = plans.pick("iss_embedding", "small", 10_000, finished=[iss]).pruning.arguments["target"]
    assert start * (1 - removed) == pytest.approx(3_000_000, rel=1e-3)
    for name in ("direct", "iss_embedding"):
        with pytest.raises(plans.PlanError, match=f"{name} takes its size from the result of iss"):
            plans.pick(name, "small", 10_000)


@pytest.mark.parametrize("size", plans.SIZES)
@pytest.mark.parametrize("name", plans.MODELS)
def test_every_plan_prunes_within_its_epochs_also_when_they_are_fewer(size, name):
    for epochs in (None, 3):
        plan = plans.pick(name, size, 10_000, plans.Changes(epochs, removed=0.5), [finished_iss()])
        if plan.pruning:
            phases = [plan.pruning.arguments[f"{p}_epochs"] for p in ("warmup", "ramp", "finetune")]
            assert sum(phases) == plan.pruning.epochs <= plan.recipe.epochs
            ends = [stage.recipe.epochs for stage in plan.stages()]
            assert [plan.pruning.epochs, *ends] == sorted([plan.pruning.epochs, *ends])
            assert ends[-1] == epochs or ends[-1] >= plan.recipe.epochs
            assert all(stage.dropout <= plan.network.dropout for stage in plan.stages())


def test_epochs_and_dropout_that_are_asked_for_hold_for_the_smaller_model_too():
    changes = plans.Changes(epochs=20, dropout=0.3)
    plan = plans.pick("iss_embedding", "small", 10_000, changes, [finished_iss()])
    assert [(s.recipe.epochs, s.dropout) for s in plan.stages()] == [(12, 0.3), (20, 0.3)]
    planned = plans.pick("iss_embedding", "small", 10_000, finished=[finished_iss()]).stages()
    assert [(s.recipe.epochs, s.dropout) for s in planned] == [(24, 0.165), (40, 0.25)]
    first, second = (stage.recipe for stage in planned)
    assert first.rate_in(first.epochs - 1) < 1  # low in the end, high again
    assert second.rate_in(first.epochs) == 12


def test_embeddings_and_layers_lose_units_where_both_kinds_may():
    plan = plans.pick("iss_embedding", "smoke", 50, plans.Changes(removed=0.5))
    built = model.build(plan.network, 2, 3, stateful=True)
    train.compile_model(built, plan.recipe)
    callback = plan.pruning.callback(built)
    callback.set_model(built)
    assert {s.name for s in built.optimizer.structures} == {"embedding", "lstm_1", "lstm_2"}


# --- training


class StoppedError(Exception):
    pass


def learned(corpus, folder, monkeypatch, stop=None, then=()):
    """The result of a whole training, or of one that stops after so many epochs; `then`: how the smaller model goes on."""
    recipe = train.Recipe(epochs=4, constant=3, rate=10.0, batch=5, steps=10)
    network = model.Network(vocabulary=len(corpus.words), embedding=6, units=(8, 8), initial=0.4, dropout=0.2)
    pruning = plans.Pruning(
        2,
        {
            "target": 0.5,
            "metric": "recurrent_macs",
            "warmup_epochs": 1,
            "ramp_epochs": 1,
            "finetune_epochs": 0,
        },
        then=then,
    )
    begin = train.Epoch.on_epoch_begin

    def stopping(self, epoch, logs=None):
        if epoch == stop:
            raise StoppedError
        begin(self, epoch, logs)

    with monkeypatch.context() as patched:
        patched.setattr(train.Epoch, "on_epoch_begin", stopping)
        return main.learn(plans.Plan(network, recipe, pruning), corpus, 0, folder)


def test_a_training_that_stopped_twice_is_the_uninterrupted_one(penn, monkeypatch):
    corpus = data.read(penn, other_text=True)
    whole, network, curve = learned(corpus, penn / "whole", monkeypatch)
    stopped_at((1, 3), corpus, penn / "part", monkeypatch)  # while units go, and after they are stripped
    resumed, same, pieced = learned(corpus, penn / "part", monkeypatch)
    assert [row["epoch"] for row in pieced] == [1, 2, 3, 4]
    assert network == same
    assert sum(network.units) < 16
    assert_the_same(whole, curve, resumed, pieced)
    size = measure.sizes(resumed)
    first, second = network.units
    assert size["recurrent_macs"] == 4 * first * (6 + first) + 4 * second * (first + second)
    assert size["recurrent_macs"] <= 0.5 * (4 * 8 * 14 + 4 * 8 * 16)
    assert size["parameters"] == whole.count_params()


def stopped_at(stops, corpus, folder, monkeypatch, **how):
    for stop in stops:
        with pytest.raises(StoppedError):
            learned(corpus, folder, monkeypatch, stop, **how)


def assert_the_same(whole, curve, resumed, pieced):
    for key in ("train", "valid", "rate"):
        np.testing.assert_allclose([r[key] for r in pieced], [r[key] for r in curve], rtol=1e-4)
    for a, b in zip(whole.get_weights(), resumed.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_the_smaller_model_may_go_on_in_stages_each_with_a_recipe_and_a_dropout_of_its_own(penn, monkeypatch):
    corpus = data.read(penn, other_text=True)
    recipe = train.Recipe(epochs=5, constant=3, rate=4.0, decay=0.5, batch=5, steps=10)
    again = dataclasses.replace(recipe, epochs=7, constant=6)
    then = (plans.Stage(recipe, 0.1), plans.Stage(again, 0.0))
    trained, network, curve = learned(corpus, penn / "own", monkeypatch, then=then)
    assert [row["rate"] for row in curve] == [10.0, 10.0, 4.0, 2.0, 1.0, 4.0, 2.0]
    assert network.dropout == 0
    assert not [layer for layer in trained.layers if isinstance(layer, keras.layers.Dropout)]
    stripped = keras.models.load_model(penn / "own" / "stripped.keras", compile=False)
    before = Scorer(network, corpus.valid, recipe.batch)(stripped)
    assert curve[-1]["valid"] < before < 12  # of 12 words: it went on from what was learned
    stops = (3, 5, 6)  # in the first stage, between both, in the second
    stopped_at(stops, corpus, penn / "part", monkeypatch, then=then)
    resumed, _, pieced = learned(corpus, penn / "part", monkeypatch, then=then)
    assert_the_same(trained, curve, resumed, pieced)


# --- the whole run

real = needs("ptb/ptb.train.txt", "the Penn Treebank")


def runs(folder, output, capsys, *more):
    asked = ["--smoke", "--data", str(folder), "--output", str(output), *more]
    assert main.main(asked) == 0
    shown = capsys.readouterr().out
    for result in collect(output):
        kept = result["files"]["stream float32"]
        told = answer.LanguageModel(output / kept["file"])
        lines = ["the men sold N dollars", "the dog"]
        numbers = [told.numbers[word] for line in lines for word in (*line.split(), "<eos>")]
        ids = np.array([told.numbers["<eos>"], *numbers], "int32")
        network = result["network"] | {"units": tuple(result["network"]["units"])}
        trained = keras.models.load_model(output / f"{result['model']}-seed0.keras", compile=False)
        expected = Scorer(model.Network(**network), ids)(trained)
        assert answer.perplexity(told, lines) == pytest.approx(expected, rel=1e-3)
        assert len(told.words) == network["vocabulary"]
    return asked, shown


def test_the_whole_run_trains_strips_exports_and_goes_on_with_a_sentence(penn, capsys):
    asked, shown = runs(penn, penn / "out", capsys, "--other-text")
    (result,) = collect(penn / "out")
    assert len(result["curve"]) == 4
    assert result["curve"][0]["iss_removed"] == 0
    assert result["perplexity"]["test"] < 8  # of 12 words; what may follow is one of three
    assert result["sizes"]["recurrent_macs"] <= 0.4 * 4 * 2 * 32 * 64
    assert "the company said |" in shown
    brought = {"iss.tflite": {"file": "iss.tflite", "bytes": 1, "ms": 12.34}}  # a result without its file
    write_json(penn / "out" / "iss-seed1.json", result | {"seed": 1, "files": brought})
    assert main.main(asked) == 0
    again = capsys.readouterr().out
    assert "is there already" in again
    assert "| iss | 1 |" in again
    assert "12.34" in again


@real
def test_a_slice_of_the_real_text_goes_the_whole_way(tmp_path, capsys):
    runs(data.find(REAL), tmp_path, capsys)
    (iss,) = collect(tmp_path)
    assert iss["perplexity"]["valid"] < 2000  # of 10,000 words


# --- full size


@pytest.mark.skipif("PTB_FULL" not in os.environ, reason="takes minutes; set PTB_FULL=1")
@pytest.mark.parametrize(
    ("name", "size"), [("baseline", "medium"), ("baseline", "large"), ("iss", "large"), ("rhn", "large")]
)
def test_one_step_at_full_size(name, size):
    plan = plans.pick(name, size, 10_000)
    recipe = plan.recipe
    built = model.build(plan.network, recipe.batch, recipe.steps, stateful=True)
    train.compile_model(built, recipe)
    if plan.pruning:
        plan.pruning.callback(built).set_model(built)
    ids = np.random.default_rng(0).integers(0, 10_000, recipe.batch * (recipe.steps + 1)).astype("int32")
    x, y = data.streams(ids, recipe.batch, recipe.steps)
    seconds = []
    for _ in range(2):
        begin = time.perf_counter()
        loss = float(built.train_on_batch(x, y))
        seconds.append(time.perf_counter() - begin)
    assert loss == pytest.approx(np.log(10_000), rel=0.1)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"\n{name} {size}: {keras_iss.report(built).parameters:,} parameters, first step {seconds[0]:.1f} s, "
        f"second {seconds[1]:.2f} s, at most {peak:,.0f} MB so far"
    )
