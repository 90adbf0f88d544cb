"""The demo: its text, its numbers, its page, and one small run from end to end."""

import json
import shutil
import subprocess
from html.parser import HTMLParser

import keras
import numpy as np
import pytest

import keras_iss
from keras_iss import demo
from keras_iss.demo import charts, data, page, pipeline, training

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
TINY = training.Plan(
    units=24,
    embedding=8,
    warmup=1,
    ramp=1,
    finetune=1,
    batch_size=16,
    windows=96,
    validation_windows=24,
    runs=3,
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo") / "made by the demo"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "QUICK", TINY)
        results = demo.run(folder, quick=True, target=0.5, seed=3)
    return folder, results


# The text


def test_no_long_paragraph_of_the_unseen_text_stands_in_the_training_text():
    corpus = data.load()
    text = ["".join(corpus.characters[i] for i in x.ravel()) for x in (corpus.x, corpus.validation_x)]
    training_text, unseen = (" ".join(t.split()) for t in text)
    paragraphs = [" ".join(p.split()) for p in text[1].split("\n\n")]
    long = [p for p in paragraphs if len(p) > 200 and data.UNKNOWN not in p]
    assert len(long) > 20
    assert all(p in unseen for p in long)
    assert not [p for p in long if p in training_text]


def test_the_split_is_by_topic_and_about_a_tenth_is_held_out():
    corpus = data.load()
    assert 0.08 < len(corpus.validation_x) / (len(corpus.x) + len(corpus.validation_x)) < 0.13
    assert min(corpus.topics) > 1


def test_targets_are_the_characters_that_follow():
    x, y = data.windows(np.arange(14), 4)
    assert x.tolist() == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]
    assert y.tolist() == [[1, 2, 3, 4], [5, 6, 7, 8], [9, 10, 11, 12]]


def test_characters_outside_the_vocabulary_are_unknown():
    assert data.encode("aXb", (data.UNKNOWN, "a", "b")).tolist() == [1, 0, 2]


def test_a_repeated_paragraph_stays_only_where_it_first_stands():
    long = "a paragraph that is longer than a heading, " * 2
    assert data.without_repeats({"b": f"{long}\n\nnew", "a": f"old\n\n{long}"}) == {
        "a": f"old\n\n{long}",
        "b": "new",
    }


# The numbers


def test_bits_and_hits_of_known_probabilities():
    probabilities = np.array([[[0.5, 0.25, 0.25], [0.125, 0.75, 0.125]]])
    bits, hits = training.bits_and_hits(probabilities, np.array([[0, 2]]))
    assert bits == pytest.approx((1 + 3) / 2)
    assert hits == 0.5


@pytest.mark.parametrize(
    ("change", "missed"),
    [
        ({}, set()),
        ({"removed": 0.55}, {0}),
        ({"small_bits": 2.05}, {1}),
        ({"float32": 2.9}, {2}),
        ({"int8": 5.9}, {3}),
        ({"difference": 1e-4}, {4}),
        ({"seconds": 500}, {5}),
    ],
)
def test_each_aim_is_missed_exactly_when_its_own_figure_is(change, missed):
    value = {
        "removed": 0.61,
        "small_bits": 2.01,
        "float32": 3.1,
        "int8": 6.1,
        "difference": 1e-6,
        "seconds": 300,
    } | change
    rows = demo.checks(
        {
            "quick": False,
            "target": 0.6,
            "removed": value["removed"],
            "dense": {"bits": 2.0},
            "small": {"bits": value["small_bits"]},
            "files": {
                "small_float32": {"speedup": value["float32"]},
                "small_int8": {"speedup": value["int8"]},
            },
            "difference": value["difference"],
            "seconds": {"total": value["seconds"]},
        }
    )
    assert {i for i, row in enumerate(rows) if not row["met"]} == missed


# One run


def test_a_run_leaves_every_file_and_nothing_else(finished):
    folder, results = finished
    models = {"dense.keras", "small.keras"}
    files = {f"{name}.tflite" for name in ("dense_keras", "dense_float32", "small_float32", "small_int8")}
    assert {p.name for p in folder.iterdir()} == models | files | {
        "results.json",
        "report.html",
        *results["plots"],
    }
    assert all(p.stat().st_size > 0 for p in folder.iterdir())


def test_results_on_disk_are_those_returned(finished):
    folder, results = finished
    assert json.loads((folder / "results.json").read_text()) == json.loads(json.dumps(results))
    assert results["command"] == "keras-iss demo --target 0.5 --seed 3 --quick"


def test_the_saved_models_are_the_ones_measured(finished):
    folder, results = finished
    dense, small = (keras.models.load_model(folder / f"{name}.keras") for name in ("dense", "small"))
    assert [layer.units for layer in small.layers if isinstance(layer, keras.layers.LSTM)] == [
        sum(kept) for kept in results["kept"].values()
    ]
    assert results["removed"] == 1 - keras_iss.report(small).macs / keras_iss.report(dense).macs
    corpus = data.load(validation_limit=TINY.validation_windows)
    for name, model in (("dense", dense), ("small", small)):
        bits, hits = training.bits_and_hits(
            model.predict(corpus.validation_x, verbose=0), corpus.validation_y
        )
        assert bits == pytest.approx(results[name]["bits"], abs=1e-4)
        assert hits == pytest.approx(results[name]["hits"], abs=1e-3)


def test_the_target_is_met(finished):
    assert finished[1]["removed"] == pytest.approx(0.5, abs=0.02)


def test_float32_files_answer_as_keras_does(finished):
    results = finished[1]
    assert results["difference"] <= 1e-5
    for name, model in (("dense_keras", "dense"), ("dense_float32", "dense"), ("small_float32", "small")):
        assert results["files"][name]["bits"] == pytest.approx(results[model]["bits"], abs=1e-4)


def test_both_trainings_have_a_figure_for_every_epoch_and_begin_alike(finished):
    results = finished[1]
    curves = [results[name]["curve"] for name in ("dense", "small")]
    assert {len(values) for curve in curves for values in curve.values()} == {TINY.epochs}
    assert curves[0]["validation_bits"][0] == curves[1]["validation_bits"][0]


def test_both_trainings_take_the_same_number_of_steps(finished):
    saved = [keras.models.load_model(finished[0] / f"{name}.keras") for name in ("dense", "small")]
    steps = TINY.epochs * TINY.windows // TINY.batch_size
    assert [int(model.optimizer.iterations) for model in saved] == [steps] * 2


def test_both_trainings_go_on_from_the_same_weights_and_optimizer_state():
    corpus = data.load(limit=40, validation_limit=10)
    model = training.build(TINY, len(corpus.characters))
    training.warm_up(model, TINY, corpus, 0)
    branched = training.branch(model)
    for mine, others in ((model, branched), (model.optimizer, branched.optimizer)):
        assert all(np.array_equal(a, b) for a, b in zip(mine.variables, others.variables, strict=True))
    assert int(branched.optimizer.iterations) == 3


# The page


class _Reader(HTMLParser):
    """Collects what a browser would fetch, and checks that tags close in order."""

    VOID = frozenset({"meta", "br", "hr", "img", "link", "input"})

    def __init__(self):
        super().__init__()
        self.fetched, self.open, self.text = [], [], []

    def handle_starttag(self, tag, attributes):
        if tag not in self.VOID:
            self.open.append(tag)
        if tag in {"script", "link", "iframe", "object", "embed"}:
            self.fetched.append(tag)
        self.fetched += [v for k, v in attributes if k in {"src", "href", "srcset", "data", "action"}]

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def test_the_page_is_whole_and_loads_nothing(finished):
    text = (finished[0] / "report.html").read_text(encoding="utf-8")
    reader = _Reader()
    reader.feed(text)
    assert reader.open == []
    assert reader.fetched == []
    assert not [word for word in ("http:", "https:", "url(", "@import", "//cdn") if word in text]


def test_the_page_says_what_was_measured_and_that_it_was_quick(finished):
    folder, results = finished
    reader = _Reader()
    reader.feed((folder / "report.html").read_text(encoding="utf-8"))
    words = " ".join("".join(reader.text).split())
    assert "This was a quick run" in words
    assert page.headline(results) in words
    for check in results["checks"]:
        assert check["measured"] in words
    for figures in results["files"].values():
        assert f"{figures['median_ms']:.2f} ms" in words


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (-0.02, "slightly better"),
        (0.0, "just as good"),
        (0.015, "nearly as good"),
        (0.12, "cost of 0.12 bits"),
    ],
)
def test_the_headline_claims_no_more_than_the_figures(more, words):
    results = {
        "removed": 0.6,
        "dense": {"bits": 2.0},
        "small": {"bits": 2.0 + more},
        "files": {"small_float32": {"speedup": 3.14}},
    }
    assert words in page.headline(results)
    assert "3.1 times as fast" in page.headline(results)


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
@pytest.mark.parametrize("width", [390, 1280])
def test_chromium_shows_the_page_without_sideways_scrolling(finished, tmp_path, width):
    folder, results = finished
    copy = tmp_path / "report.html"
    probe = "<script>onload=()=>{document.title=document.documentElement.scrollWidth+' of '+innerWidth}</script></body>"
    copy.write_text(
        (folder / "report.html").read_text(encoding="utf-8").replace("</body>", probe), encoding="utf-8"
    )
    done = subprocess.run(
        [
            CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
            "--disable-background-networking", "--disable-component-update", "--disable-sync",
            f"--user-data-dir={tmp_path / 'profile'}", f"--window-size={width},900", "--dump-dom", copy.as_uri(),
        ],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert page.headline(results) in done.stdout
    wide, window = done.stdout.split("<title>")[1].split("</title>")[0].split(" of ")
    assert int(wide) <= int(window)


def test_a_chart_marks_round_numbers():
    assert charts.ticks(1.78, 2.42) == [1.8, 2.0, 2.2, 2.4]
    assert charts.ticks(0, 256) == [0, 100, 200]


def test_units_are_drawn_one_by_one():
    drawing = charts.units([True, False, True], "lstm")
    assert drawing.count("h8v8") == 3
    assert "2 of 3 units stay" in drawing


# Mistakes


@pytest.mark.parametrize("target", [0, 1, -0.5, float("nan")])
def test_a_target_outside_its_range_is_refused(tmp_path, target):
    with pytest.raises(ValueError, match="between 0 and 1"):
        demo.run(tmp_path / "out", target=target)
    assert not (tmp_path / "out").exists()


def test_an_output_that_is_a_file_is_refused_and_left_alone(tmp_path):
    file = tmp_path / "out"
    file.write_text("mine")
    with pytest.raises(NotADirectoryError, match="is a file"):
        demo.run(file)
    assert file.read_text() == "mine"


def test_a_run_that_breaks_off_leaves_the_earlier_report(finished, monkeypatch):
    folder, _ = finished
    before = (folder / "report.html").read_bytes(), (folder / "results.json").read_bytes()

    def broken(*_, **__):
        raise RuntimeError("no more")

    monkeypatch.setattr(pipeline, "work", broken)
    with pytest.raises(RuntimeError, match="no more"):
        demo.run(folder, quick=True)
    assert before == ((folder / "report.html").read_bytes(), (folder / "results.json").read_bytes())
