"""The captioning example, on a small made-up set in Flickr8k's files; on a slice of the real one where it is at hand."""

import itertools
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import keras
import numpy as np
import pytest

pytest.importorskip("pycocoevalcap", reason="pip install 'keras-iss[captions]'")

from captioning import data, main, measure, model, page, plans, scoring, train
from captioning.batches import Batches
from captioning.data import LOOK, DataError, Vocabulary
from runs import collect

from tests.examples.real_data import REAL, needs

TINY = model.Network(embedding=12, units=16, dropout=0.1)
DEEP = model.Network(embedding=12, units=9, layers=2)


# --- training


def test_plans_reach_their_share_within_their_epochs():
    for name, size in itertools.product(plans.GROWN_AND_PRUNED, ("small", "large", "smoke")):
        plan = plans.pick(name, size)
        p = plan.pruning
        assert p["growth_epochs"] + p["prune_epochs"] < plan.recipe.epochs
        alive = (1 - 0.5 * 0.8 ** p["growth_epochs"]) * (1 - p["pruning"]) ** p["rounds"]
        assert alive == pytest.approx(plans.GROWN_AND_PRUNED[name][size == "large"], rel=0.01)


def padded_batch(batches):
    return next(batch for batch in batches if len(np.unique((batch[1] != LOOK).sum(1))) > 1)


def log_p(network, x):
    logits = network.predict_on_batch(x).astype("float64")
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


def test_the_loss_counts_words_and_the_end_and_no_padding(images, vocabulary):
    batches = Batches(images["train"], vocabulary, 54)
    x, y = padded_batch(batches)
    network = model.build(TINY, 9, len(vocabulary))
    train.compile_model(network, train.Recipe(), len(batches))
    logs = log_p(network, x)
    right = np.take_along_axis(logs, y[..., None], -1)[..., 0]
    expected = -right[y != LOOK].mean()
    assert abs(expected + right.mean()) > 1e-3, "padding would make no difference"
    assert network.test_on_batch(x, y) == pytest.approx(expected, rel=1e-5)


def test_a_model_learns_from_captions_and_from_its_teacher_and_is_judged_by_captions(
    images, vocabulary, tmp_path
):
    recipe = train.Recipe(epochs=2, batch_size=54)
    batches = Batches(images["train"], vocabulary, recipe.batch_size, seed=0)
    x, y = padded_batch(Batches(images["train"], vocabulary, 54))
    still = plans.dataclasses.replace(TINY, dropout=0.0)
    student, teacher = (model.build(network, 9, len(vocabulary)) for network in (still, DEEP))
    for variable in teacher.trainable_variables:  # not nearly the same as the student
        variable.assign(variable + 0.3 * np.random.default_rng(0).normal(size=variable.shape))
    told, logs = log_p(teacher, x), log_p(student, x)
    text = -np.take_along_axis(logs, y[..., None], -1)[..., 0][y != LOOK].mean()
    divergence = (np.exp(told) * (told - logs)).sum(-1)
    assert abs(divergence[y != LOOK].mean() - divergence.mean()) > 1e-3, "padding would make no difference"
    before = [w.copy() for w in teacher.get_weights()]
    taught = model.Taught(student, teacher, 0.25)
    train.compile_model(taught, recipe, len(batches))
    assert taught.test_on_batch(x, y) == pytest.approx(text, rel=1e-5)
    expected = 0.75 * text + 0.25 * divergence[y != LOOK].mean()
    assert taught.train_on_batch(x, y) == pytest.approx(expected, rel=1e-5)

    curve = train.train(taught, batches, images["dev"], vocabulary, recipe, tmp_path)
    assert curve[1]["val_loss"] < curve[0]["val_loss"] < text
    for a, b in zip(before, teacher.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_teacher_that_is_not_there_is_named(things, tmp_path, capsys):
    asked = ["train", "--smoke", "--data", str(things), "--output", str(tmp_path), "--models", "gp_taught"]
    assert main.main(asked) == 2
    assert "stacked-seed0.keras isn't there, the model to learn from" in capsys.readouterr().err


def test_losses_tell_a_model_that_goes_by_the_image_from_one_that_does_not(images, vocabulary):
    network = model.build(TINY, 9, len(vocabulary))
    projection = network.get_layer("look").get_layer("image_projection")
    kernel, bias = projection.get_weights()
    recipe = train.Recipe(batch_size=20, learning_rate=0.01)
    projection.set_weights([0 * kernel, bias])
    blind = measure.losses(network, images["dev"], vocabulary, recipe)
    assert blind["own_image"] == pytest.approx(blind["other_image"], rel=1e-6)
    train.compile_model(network, recipe, 40)
    batches = Batches(images["train"], vocabulary, recipe.batch_size, seed=0)
    network.fit(batches.for_fit(), epochs=40, shuffle=False, verbose=0)
    seeing = measure.losses(network, images["dev"], vocabulary, recipe)
    assert seeing["other_image"] > seeing["own_image"] + 0.2
    whole = Batches(images["dev"], vocabulary, recipe.batch_size).for_fit()
    assert seeing["own_image"] == pytest.approx(network.evaluate(whole, verbose=0), rel=1e-5)


class Keep(keras.callbacks.Callback):
    """Puts aside what a process that ends in the third epoch leaves behind."""

    def __init__(self, source, target):
        super().__init__()
        self.source, self.target = source, target

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 2:
            shutil.copytree(self.source, self.target)


def trained(images, vocabulary, folder, *callbacks):
    keras.utils.set_random_seed(0)
    recipe = train.Recipe(epochs=4, batch_size=54, learning_rate=0.01)
    batches = Batches(images["train"], vocabulary, recipe.batch_size, seed=0)
    network = model.build(TINY, 9, len(vocabulary))
    train.compile_model(network, recipe, len(batches))
    return network, train.train(
        network, batches, images["dev"], vocabulary, recipe, folder, callbacks=callbacks
    )


def test_a_resumed_training_is_the_uninterrupted_one_and_ends_with_the_best_epoch(
    images, vocabulary, tmp_path, monkeypatch
):
    second = []

    def judge(self, epoch, logs=None):  # the best epoch comes before the interruption
        logs[train.MONITOR] = [0.3, 0.5, 0.4, 0.1][epoch]
        if epoch == 1:
            second.append(self.model.get_weights())

    monkeypatch.setattr(train.Judge, "on_epoch_end", judge)
    whole, curve = trained(
        images, vocabulary, tmp_path / "whole", Keep(tmp_path / "whole", tmp_path / "part")
    )
    resumed, pieced = trained(images, vocabulary, tmp_path / "part")
    assert [row["epoch"] for row in pieced] == [1, 2, 3, 4]
    for name in ("loss", "val_loss"):
        np.testing.assert_allclose([r[name] for r in pieced], [r[name] for r in curve], rtol=1e-5)
    assert curve[-1]["val_loss"] < curve[0]["val_loss"]
    for a, b, best in zip(whole.get_weights(), resumed.get_weights(), second[0], strict=True):
        np.testing.assert_array_equal(a, best)
        np.testing.assert_array_equal(b, best)


# --- the whole way


class Text(HTMLParser):
    """The texts of a page, and its outermost elements' balance."""

    def __init__(self, source):
        super().__init__()
        self.texts, self.open, self.links = [], [], []
        self.feed(source)

    def handle_starttag(self, tag, attributes):
        self.links += [value for name, value in attributes if name in ("src", "href")]
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, text):
        self.texts.append(text)


def run(*words):
    assert main.main([str(word) for word in words]) == 0


def test_the_smoke_run_trains_compresses_exports_and_tells(things, images, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(scoring.shutil, "which", lambda program: None)  # METEOR takes half a minute
    monkeypatch.setattr(plans, "SMOKE", plans.dataclasses.replace(plans.SMOKE, epochs=8, learning_rate=0.02))
    out = tmp_path / "out"
    asked = ("train", "--smoke", "--data", things, "--output", out, "--models", "gp_fastest")
    run(*asked)
    (result,) = collect(out)
    assert "--smoke --data DIR --output DIR --models gp_fastest --seed 0" in result["command"]
    sizes = result["sizes"]
    (layer,) = model.recurrent_layers(keras.saving.load_model(out / "gp_fastest-seed0.keras", compile=False))
    units, gates = layer.units, sum(layer.gate_units[0])
    assert units < 0.5 * 32
    assert gates < 0.5 * 64
    products = gates * (32 + 2 * units)
    assert sizes["recurrent_parameters"] == products + gates + 4 * units  # fewer units, and dense
    assert sizes["recurrent_nonzero"] > 0.9 * sizes["recurrent_parameters"]
    assert sizes["macs_per_word"] == products + units * (len(Vocabulary.load(out / "vocabulary.json")))
    assert result["curve"][-1]["loss"] < result["curve"][0]["loss"] - 0.5
    assert len(result["captions"]) == 9
    seen = np.array([row["val_loss"] for row in result["curve"]])
    assert abs(seen - result["losses"]["own_image"]).min() < 1e-4  # the kept epoch's
    floats = result["files"]["float32"]
    assert floats["CIDEr_greedy"] == pytest.approx(result["test"]["greedy"]["CIDEr"], abs=1e-6)
    assert (out / floats["file"]).stat().st_size == floats["bytes"]
    capsys.readouterr()

    run(
        "caption",
        "--model",
        out / floats["file"],
        "--image",
        *images["test"].names,
        "--data",
        things,
        "--beam",
        3,
    )
    lines = capsys.readouterr().out.splitlines()
    told = [line.partition(": ")[2].partition("  (")[0] for line in lines]
    assert dict(zip(images["test"].names, told, strict=True)) == result["captions"]

    run("report", "--data", things, "--output", out, "--dense", "gp_fastest", "--compact", "gp_fastest")
    assert "| gp_fastest | 0 | " in capsys.readouterr().out
    again = collect(out)
    assert all(
        kept["ms_per_word"] > 0 < kept["ms_per_caption"] for r in again for kept in r["files"].values()
    )
    shown = Text((out / "page.html").read_text())
    assert not shown.open
    assert not shown.links  # nothing from elsewhere
    for image, caption in result["captions"].items():
        assert image in shown.texts
        assert caption in shown.texts
    assert " ".join(images["test"].captions[0][0]) in shown.texts

    capsys.readouterr()
    run("compare", "--data", things, "--output", out, "--dense", "gp_fastest", "--compact", "gp_fastest")
    assert capsys.readouterr().out.count("CIDEr +0.000, standard error over the images 0.000") == 4

    run(*asked)
    assert capsys.readouterr().out.count("is there already") == 1


def test_compare_says_how_much_higher_the_compact_model_is(things, vocabulary, tmp_path, monkeypatch, capsys):
    vocabulary.save(tmp_path / "vocabulary.json")
    scores = {"stacked-seed0": 0.25, "gp_fastest-seed0": 0.5, "gp_fastest-seed1": 0.25}
    for name in scores:
        (tmp_path / f"{name}.float32.tflite").touch()
    monkeypatch.setattr(
        measure,
        "cider_of_each",
        lambda file, images, *_: np.full(len(images), scores[file.name.partition(".")[0]]),
    )
    asked = ["compare", "--data", str(things), "--output", str(tmp_path)]
    run(*asked, "--compact", "gp_fastest")
    assert capsys.readouterr().out.count("CIDEr +0.125, standard error over the images 0.000") == 4
    assert main.main([*asked, "--compact", "lstm"]) == 2
    assert "lstm-seedN.float32.tflite. Train lstm first" in capsys.readouterr().err


def test_markup_in_a_caption_stays_text(tmp_path):
    result = {
        "model": "x",
        "seed": 0,
        "images": {"train": 1, "test": 1},
        "sizes": dict.fromkeys(("recurrent_parameters", "recurrent_nonzero", "macs_per_word_nonzero"), 1),
        "files": {"float32": {}},
        "test": {"beam": {"CIDEr": 0.5}},
        "captions": {"a&b.jpg": "<b>dog"},
    }
    shown = Text(page.page(result, result, {"a&b.jpg": (("<i>",),)}))
    assert {"a&b.jpg", "<b>dog", "<i>"} <= set(shown.texts)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--model", "none.tflite", "--image", "dev_0.jpg"), "No file .*none.look.tflite"),
        (("--model", "broken.tflite", "--image", "dev_0.jpg"), "broken.look.tflite is no TFLite file"),
    ],
)
def test_a_missing_or_broken_model_is_named(
    things, vocabulary, tmp_path, monkeypatch, capsys, words, message
):
    monkeypatch.chdir(tmp_path)
    vocabulary.save(tmp_path / "vocabulary.json")
    for name in ("broken.tflite", "broken.look.tflite"):
        Path(name).write_bytes(b"not a model")
    assert main.main(["caption", *words, "--data", str(things)]) == 2
    assert re.search(message, capsys.readouterr().err)


def test_an_unknown_image_is_named(things):
    with pytest.raises(
        DataError, match=r"No image 'nobody.jpg' in .* one of its 72 names, such as train_0.jpg"
    ):
        data.feature(things, "nobody.jpg")


here = needs(f"flickr8k/{data.FEATURES}", "Flickr8k")


@here
def test_the_real_set_has_its_published_size():
    real = data.read(data.find(REAL))
    assert {part: len(real[part]) for part in real} == {"train": 6000, "dev": 1000, "test": 1000}
    assert all(len(several) == 5 for part in real.values() for several in part.captions)
    assert real["train"].features.shape == (6000, 1280)
    names = [set(part.names) for part in real.values()]
    assert not any(a & b for a, b in itertools.combinations(names, 2))


@here
def test_a_slice_of_the_real_set_goes_the_whole_way(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(scoring.shutil, "which", lambda program: None)
    asked = ("train", "--smoke", "--epochs", 5, "--data", REAL, "--output", tmp_path)
    run(*asked, "--models", "gp_smallest")
    (result,) = collect(tmp_path)
    assert set(result["files"]) == {"float32", "sparse"}
    alive = result["sizes"]["recurrent_nonzero"] / result["sizes"]["recurrent_parameters"]
    assert alive < 0.25
    assert result["curve"][-1]["loss"] < result["curve"][0]["loss"]
    capsys.readouterr()
    image = next(iter(result["captions"]))
    run("caption", "--model", tmp_path / "gp_smallest-seed0.sparse.tflite", "--image", image, "--data", REAL)
    assert capsys.readouterr().out.startswith(f"{image}: ")
