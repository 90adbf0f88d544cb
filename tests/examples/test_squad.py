"""The question answering example, on a made-up set in SQuAD's form; on the real one where it is at hand."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from runs import collect
from squad_bidaf import answers, ask, batches, data, features, main, measure, model, score, text, train

import keras_iss
from keras_iss.structures import Role
from tests.examples.made_up_squad import SHAPES
from tests.examples.real_data import REAL

# --- answers


def test_the_best_span_is_the_best_of_all():
    start, end = np.random.default_rng(0).random((2, 6, 9))
    for longest in (1, 4, 20):
        firsts, lasts = answers.best_span(start, end, longest)
        for n in range(6):
            spans = [(i, j) for i in range(9) for j in range(i, min(9, i + longest))]
            assert (firsts[n], lasts[n]) == max(spans, key=lambda s: start[n, s[0]] * end[n, s[1]])


# --- the network

TINY = model.Network(units=5, letter_size=3, filters=6, letters=8, dropout=0.2)


@pytest.fixture(scope="module")
def tiny(made_up):
    """A network whose answers aren't all alike."""
    keras.utils.set_random_seed(1)
    network = model.build(TINY, made_up[2].vectors)
    for weight in network.trainable_weights:
        weight.assign(weight * 2.0)
    return network


def logits(network, given):
    return {k: keras.ops.convert_to_numpy(v) for k, v in network(given, training=False).items()}


def some_inputs(lengths, context, question, vocabulary):
    """Random words, contexts of these lengths and questions of 4 and more words, padded to `context` and `question`."""
    random = np.random.default_rng(0)
    widths = {"context": (lengths, context), "question": ([4 + n for n in range(len(lengths))], question)}
    given = {}
    for name, (filled, width) in widths.items():
        words = random.integers(1, vocabulary, (len(lengths), 40)).astype("int32")
        letters = random.integers(0, text.LETTERS, (len(lengths), 40, TINY.letters)).astype("int32")
        words[np.arange(40) >= np.array(filled)[:, None]] = text.PADDING
        given |= {
            name: words[:, :width],
            f"{name}_letters": letters[:, :width],
        }  # letters of padding: anything
    return given


def test_padding_never_changes_an_answer(made_up, tiny):
    lengths, known = [12, 9, 5], len(made_up[2].words)
    before, after = (logits(tiny, some_inputs(lengths, *widths, known)) for widths in ((12, 6), (17, 11)))
    last = {
        k: v[2:, : 5 if k.startswith("context") else 6] for k, v in some_inputs(lengths, 12, 6, known).items()
    }
    alone = logits(tiny, last)
    for name in ("start", "end"):
        np.testing.assert_allclose(alone[name][0], before[name][2, :5], atol=1e-5)
        for n, length in enumerate(lengths):
            assert np.ptp(before[name][n, :length]) > 0.01
            np.testing.assert_allclose(after[name][n, :length], before[name][n, :length], atol=1e-5)
            assert (after[name][n, length:] < -1e8).all()


def test_the_exported_model_gives_probabilities_and_none_to_padding(made_up, tiny):
    lengths = [8, 5]
    found = logits(model.probabilities(tiny), some_inputs(lengths, 9, 6, len(made_up[2].words)))
    for name in ("start", "end"):
        np.testing.assert_allclose(found[name].sum(1), 1, atol=1e-5)
        for row, length in zip(found[name], lengths, strict=True):
            assert (row[:length] > 0).all()
            assert not row[length:].any()


# What bidaf/groups_hidden100.json of the paper's code (github.com/wenwei202/iss-rnns) counts for one unit, as layer,
# what it counts of it, and how many weights. Of an LSTM with x inputs: its four columns of the x + 100 rows of the
# kernel, and its row in the recurrent part; of a reader, its row. R[k, k] counts twice, biases don't.
PAPER = {
    "modelling_1": {
        ("own columns", 4 * (800 + 100)),
        ("own recurrent row", 400),
        ("modelling_2, both directions", 2 * 400),
    },
    "modelling_2": {
        ("own columns", 4 * (200 + 100)),
        ("own recurrent row", 400),
        ("start_pointer", 1),
        ("output, both directions, M", 2 * 400),
        ("output, both directions, M∘m", 2 * 400),
    },
    "output": {("own columns", 4 * (1400 + 100)), ("own recurrent row", 400), ("end_pointer", 1)},
}
# The output layer reads [G; M; m; M∘m], of 800, 200, 200 and 200 features. m, M at the likely start, is a mean of M over
# the words: its k-th feature is 0 when M's is, so that its rows of the two kernels go with the unit. The paper's file
# doesn't list these rows (1000 to 1199). `strip` has to remove them, so they belong to the structure here.
LEFT_OUT = {"modelling_2": {("output, both directions, m", 2 * 400)}}
FULL_SIZES = {"modelling_1": 4800, "modelling_2": 3201, "output": 6401}


def counted(found, name):
    """What one unit of a structure holds, named as in PAPER."""
    structure = found[name]
    layer, way = name.split("/")
    total = {}
    for part in structure.slices:
        if not part.penalised:
            assert part.path.endswith("bias")
            continue
        shape = tuple(found.weights[part.path].shape)
        weights = part.width * int(np.prod(shape)) // shape[part.axis]
        reader = part.path.split("/")[1] if "bidaf/" in part.path else part.path.split("/")[0]
        if reader == layer:
            assert f"/{way}_" in part.path
            what = "own columns" if part.role is Role.INCOMING else "own recurrent row"
        elif reader == "output":
            block = {8: "M", 10: "m", 12: "M∘m"}[part.offsets[0] // 100 // 2 * 2]
            what = f"output, both directions, {block}"
        else:
            what = reader + (", both directions" if reader == "modelling_2" else "")
        total[what] = total.get(what, 0) + weights
    return {*total.items()}


def test_group_sizes_are_those_of_the_papers_code():
    network = model.build(model.Network(), np.zeros((30, 50)))
    kernel = network.get_layer("modelling_1").forward_layer.cell.kernel
    assert tuple(kernel.shape) == (800, 400)  # the attended context's features
    found = keras_iss.trace(network)
    assert {s.name for s in found.structures if s.kind == "hidden"} == {*model.six()}
    for layer, size in FULL_SIZES.items():
        assert sum(weights for _, weights in PAPER[layer]) == size
        for way in ("forward", "backward"):
            assert found[f"{layer}/{way}"].size == 100
            assert counted(found, f"{layer}/{way}") == PAPER[layer] | LEFT_OUT.get(layer, set())


def test_a_stripped_network_answers_alike(made_up, tiny):
    pruned = keras_iss.prune(tiny, dict(zip(model.six(), (3, 4, 2, 2, 4, 1), strict=True)))
    small = keras_iss.strip(pruned, verify=False)  # checked below, with padding
    assert measure.sizes(small)["units"] == {"contextual": 5, "modelling_1": 4, "modelling_2": 2, "output": 4}
    assert measure.sizes(small)["six"] < 0.7 * measure.sizes(tiny)["six"]
    given = some_inputs([12, 7], 12, 6, len(made_up[2].words))
    before, after = logits(pruned, given), logits(small, given)
    for name in ("start", "end"):
        for n, length in enumerate((12, 7)):
            np.testing.assert_allclose(
                after[name][n, :length], before[name][n, :length], rtol=1e-5, atol=1e-6
            )


# --- training, and all of it


class Keep(keras.callbacks.Callback):
    """Puts aside what a process that ends in the second epoch leaves behind."""

    def __init__(self, source, target):
        super().__init__()
        self.source, self.target = source, target

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 1:
            shutil.copytree(self.source, self.target)


def check_that_a_resumed_training_is_the_uninterrupted_one(made, tmp_path):
    keras.utils.set_random_seed(0)
    recipe = train.Recipe(epochs=2, steps=2, learning_rate=1e-2, warmup_steps=1)
    network = model.build(TINY, made.vectors)
    train.compile_model(network, recipe)
    network.optimizer.build(network.trainable_variables)
    state = [*network.variables, *network.optimizer.variables]
    start = [keras.ops.convert_to_numpy(v).copy() for v in state]

    def trained(folder, *callbacks):
        """Always the same model, put back to its start, so that it is compiled only once."""
        for variable, value in zip(state, start, strict=True):
            variable.assign(value)
        rows, shapes = batches.usable(made.train, SHAPES), dataclasses.replace(SHAPES, contexts=(70,))
        found = batches.Batches(made, made.train, rows, shapes, recipe.steps)
        curve = train.train(network, found, recipe, folder, callbacks=callbacks)
        return [keras.ops.convert_to_numpy(v).copy() for v in network.trainable_weights], curve

    whole, curve = trained(tmp_path / "whole", Keep(tmp_path / "whole", tmp_path / "part"))
    assert [row["epoch"] for row in json.loads((tmp_path / "part" / "curve.json").read_text())] == [1]
    resumed, pieced = trained(tmp_path / "part")
    assert [row["epoch"] for row in pieced] == [1, 2]
    np.testing.assert_allclose([r["loss"] for r in pieced], [r["loss"] for r in curve], rtol=1e-5)
    for a, b in zip(whole, resumed, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


HERE = (REAL / "squad" / "dev-v1.1.json.gz").is_file()


@pytest.mark.skipif(not HERE, reason="SQuAD isn't here")
def test_the_real_development_set_has_its_published_size():
    dev = data.read(data.find(REAL)["dev"])
    assert (len(dev.questions), len(dev.contexts)) == (10570, 2067)
    first = {q.name: q.answers[0][0] for q in dev.questions}
    assert score.scores(first, dev.expected()) == {"em": 100.0, "f1": 100.0}


def on_jax(folder, place, out):
    """What the next test runs in a process of its own."""
    squad = {part: data.read(data.find(folder)[part]) for part in ("train", "dev")}
    made = features.make(squad, data.find(folder)["glove"])
    check_that_a_resumed_training_is_the_uninterrupted_one(made, Path(out))
    sys.exit(main.main(["--smoke", "--data", place, "--output", f"{out}/smoke"]))


@pytest.fixture(scope="module")
def smoke(made_up, tmp_path_factory):
    """The output folder of a smoke run on a slice of the real data where it is here, else on what is made up."""
    pytest.importorskip("jax", reason="pip install 'keras-iss[examples]'")
    here, out = Path(__file__).parents[2], tmp_path_factory.mktemp("jax")
    place = str(REAL if HERE else made_up[0])
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            f"import test_squad; test_squad.on_jax({str(made_up[0])!r}, {place!r}, {str(out)!r})",
        ],
        env=dict(
            os.environ,
            KERAS_BACKEND="jax",
            XLA_FLAGS="--xla_backend_optimization_level=0",
            PYTHONPATH=os.pathsep.join(map(str, (here, here / "examples", here / "tests" / "examples"))),
        ),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "| iss | 0 |" in done.stdout
    return out / "smoke"


def test_a_resumed_training_goes_on_and_the_smoke_run_trains_compresses_and_exports(smoke):
    baseline, iss = collect(smoke)
    assert (baseline["model"], iss["model"]) == ("baseline", "iss")
    assert iss["sizes"]["recurrent"] < 0.75 * baseline["sizes"]["recurrent"]
    assert iss["sizes"]["units"]["contextual"] == baseline["sizes"]["units"]["contextual"]
    for result in (baseline, iss):
        assert [row["epoch"] for row in result["curve"]] == [1, 2]
        assert result["curve"][-1]["loss"] > 0
        assert 0 <= result["test"]["em"] <= result["test"]["f1"] <= 100
    (kept,) = iss["files"].values()
    assert (smoke / kept["file"]).stat().st_size == kept["bytes"]
    assert kept["ms"] > 0


def test_the_exported_file_gives_the_stripped_models_probabilities_at_any_length(smoke):
    (kept,) = collect(smoke)[1]["files"].values()
    reader = ask.Reader(smoke / kept["file"])
    stripped = model.probabilities(keras.models.load_model(smoke / "iss-seed0.keras", compile=False))
    for lengths, context, question in (([7], 7, 4), ([9], 13, 6)):
        given = some_inputs(lengths, context, question, len(reader.vocabulary.words))
        expected, found = logits(stripped, given), reader.predict(given)
        for name in ("start", "end"):
            np.testing.assert_allclose(found[name], expected[name], atol=1e-5)
            assert not found[name][0, lengths[0] :].any()


def test_the_exported_file_answers_from_the_command_line(smoke, capsys):
    (kept,) = collect(smoke)[1]["files"].values()
    context = "Anna moved to Oslo in 1962. Bob stayed in Rome."
    answer = ["answer", "--model", str(smoke / kept["file"]), "--context", context, "--question"]
    assert main.main([*answer, "Where did Bob stay?"]) == 0
    found, _, probability = capsys.readouterr().out.strip().rpartition("  ")
    assert found
    assert found in context
    assert probability.endswith("%)")
    assert main.main([*answer, "  "]) == 2
    assert "There is no word in the question" in capsys.readouterr().err


def test_what_starts_from_the_baseline_says_so_where_it_is_missing(made_up, tmp_path, capsys):
    asked = ["--smoke", "--data", str(made_up[0]), "--output", str(tmp_path), "--models", "iss"]
    assert main.main(asked) == 2
    assert "Train it first, with --models baseline iss" in capsys.readouterr().err


ONE_STEP = """
import sys, time
import keras, numpy as np
from squad_bidaf import batches, data, features, model, plans, train
plan = plans.FULL
paths = data.find(sys.argv[1])
squad = {part: data.read(paths[part], 2000) for part in ("train", "dev")}
made = features.make(squad, paths["glove"])
rows = batches.usable(made.train, plan.shapes)
network = model.build(plan.network, made.vectors)
train.compile_model(network, plan.recipe)
before = [np.array(v) for v in network.trainable_weights]
history = network.fit(batches.Batches(made, made.train, rows, plan.shapes, steps=1), verbose=0)
assert np.isfinite(history.history["loss"]).all(), history.history
for variable, value in zip(network.trainable_weights, before):
    assert np.abs(np.array(variable) - value).max() > 0, variable.path
print("one step at full size:", history.history["loss"])
"""


@pytest.mark.skipif(
    not HERE or os.environ.get("SQUAD_FULL") != "1", reason="takes a minute; set SQUAD_FULL=1"
)
def test_one_step_at_full_size_on_jax():
    folder = Path(__file__).parents[2]
    paths = os.pathsep.join(map(str, (folder, folder / "examples")))
    done = subprocess.run(
        [sys.executable, "-c", ONE_STEP, str(REAL)],
        env=dict(os.environ, KERAS_BACKEND="jax", PYTHONPATH=paths),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "one step at full size" in done.stdout
