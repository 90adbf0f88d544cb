"""The question answering example, on a made-up set in SQuAD's form; on the real one where it is at hand."""

import dataclasses
import gzip
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from squad_bidaf import answers, ask, batches, data, features, main, measure, model, score, text, train

import keras_iss
from keras_iss.structures import Role

NAMES = ("Anna", "Bob", "Carla", "Dmitri")
CITIES = ("Oslo", "San José", "Rome", "Los Angeles")


def article(number, questions=4):
    """Paragraphs that say who lives where since when, each with a question about every person."""
    lives = [(name, CITIES[(n + number) % 4], 1900 + 7 * number + n) for n, name in enumerate(NAMES)]
    context = " ".join(f"{name} (who's well) lives in {city} since {year}." for name, city, year in lives)
    context += " Nobody else lives there." * (number % 3)
    asked = [
        {
            "id": f"q{number}-{name}",
            "question": f"Where does {name} live?",
            "answers": [{"text": city, "answer_start": context.index(f"in {city}") + 3}],
        }
        for name, city, _ in lives[:questions]
    ]
    return {"title": f"article {number}", "paragraphs": [{"context": context, "qas": asked}]}


def write(path, content):
    packed = json.dumps(content).encode()
    path.write_bytes(gzip.compress(packed) if path.suffix == ".gz" else packed)
    return path


def folder_of(folder, train=10, dev=2):
    """Writes both sets and GloVe's vectors of their words."""
    sets = {
        "train": [article(n) for n in range(train)],
        "dev": [article(n + 100) for n in range(dev)],
    }
    for name, articles in sets.items():
        write(folder / f"{data.SETS[name]}.gz", {"version": "1.1", "data": articles})
    written = " ".join(a["paragraphs"][0]["context"] for a in sets["train"]) + "where does live ? zebra"
    words = sorted({piece.lower() for piece in text.pieces(written)} - {"who", "since"})
    np.save(folder / data.TABLE, np.random.default_rng(0).normal(size=(len(words), 50)).astype("float32"))
    (folder / data.TABLE).with_suffix(".words.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def made_up(tmp_path_factory):
    """The folder, both sets and their features."""
    folder = folder_of(tmp_path_factory.mktemp("made_up"))
    paths = data.find(folder)
    squad = {part: data.read(paths[part]) for part in ("train", "dev")}
    return folder, squad, features.make(squad, paths["glove"])


# --- text


def test_tokens_are_words_numbers_endings_and_single_characters():
    written = "In 1,962.5 the U.S. spent $3 (São Tomé's don't-care\u2014value)!"
    expected = "In 1,962.5 the U . S . spent $ 3 ( São Tomé 's don 't - care \u2014 value ) !"
    assert text.pieces(written) == expected.split(" ")
    assert [written[begin:end] for begin, end in text.tokens(written)] == text.pieces(written)


def test_a_vocabulary_numbers_words_and_letters_and_survives_its_file(tmp_path):
    known = text.Vocabulary(("the", "café"), 4)
    words, letters = known.encode(["The", "CAFÉ", "dog"])
    assert words.tolist() == [2, 3, text.UNKNOWN]
    assert letters.shape == (3, 4)
    assert letters[0].tolist() == [*text.spell("The", 3), 0]
    assert letters[1, 3] == 1  # É isn't among the letters
    assert letters.max() < text.LETTERS
    known.save(tmp_path / "vocabulary.json")
    assert text.Vocabulary.load(tmp_path / "vocabulary.json") == known


# --- scores


@pytest.mark.parametrize(
    ("given", "expected", "exact", "f1"),
    [
        ("The  Denver Broncos!", "denver broncos", 1, 1),
        ("an apple", "Apple", 1, 1),
        ("theatre", "atre", 0, 0),  # an article is a whole word
        ("U.S.", "US", 1, 1),
        ("Denver Broncos team", "Denver Broncos", 0, 0.8),
        ("b b c", "b c c", 0, 2 / 3),  # a word counts as often as in both
        ("\u2014", "", 0, 0),  # only ASCII punctuation goes
        ("the", "a", 1, 0),  # nothing is left: as the official script counts it
    ],
)
def test_answers_are_compared_as_the_official_script_does(given, expected, exact, f1):
    assert score.exact(given, expected) == exact
    assert score.f1(given, expected) == pytest.approx(f1)


def test_the_best_fitting_expected_answer_counts_and_a_missing_one_is_wrong():
    expected = {"a": ["Rome", "the city of Rome"], "b": ["x"], "c": ["y"]}
    assert score.scores({"a": "city of Rome", "b": "x"}, expected) == {
        "em": pytest.approx(200 / 3),
        "f1": pytest.approx(200 / 3),
    }


# --- files


def test_both_sets_are_read_packed_or_not(made_up, tmp_path):
    folder, squad, _ = made_up
    packed = folder / f"{data.SETS['train']}.gz"
    plain = tmp_path / data.SETS["train"]
    plain.write_bytes(gzip.decompress(packed.read_bytes()))
    assert data.read(plain) == data.read(packed) == squad["train"]
    assert (len(squad["train"].contexts), len(squad["train"].questions)) == (10, 40)
    for question in squad["train"].questions:
        ((answer, begin),) = question.answers
        assert squad["train"].contexts[question.context][begin:].startswith(answer)
    first = data.read(packed, limit=6)
    assert first.questions == squad["train"].questions[:6]
    assert len(first.contexts) == 2


def test_files_are_found_by_argument_and_by_environment(made_up, tmp_path, monkeypatch):
    folder, *_ = made_up
    shutil.copytree(folder, tmp_path / "squad")
    assert data.find(folder)["dev"] == folder / "dev-v1.1.json.gz"
    monkeypatch.setenv("KERAS_ISS_DATA", str(tmp_path))
    assert data.find(None)["glove"] == tmp_path / "squad" / data.TABLE
    with pytest.raises(
        data.DataError, match=r"No train-v1.1.json in .*nowhere: expected .*Fetch it from http"
    ):
        data.find(tmp_path / "nowhere")


def test_offline_the_download_fails_with_the_address_and_the_mend(monkeypatch):
    def unreachable(name, origin, **how):
        raise Exception(f"URL fetch failure on {origin}")

    monkeypatch.delenv("KERAS_ISS_DATA", raising=False)
    monkeypatch.setattr(keras.utils, "get_file", unreachable)
    with pytest.raises(data.DataError, match=r"rajpurkar.*can't be downloaded.*--data or KERAS_ISS_DATA"):
        data.find(None)


def truncated(path):
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def no_squad(path):
    write(path, {"data": [{"title": "x", "paragraphs": [{"context": "y", "qas": [{"id": "1"}]}]}]})


def a_list(path):
    write(path, [1, 2])


def without_questions(path):
    write(path, {"data": []})


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (truncated, "train-v1.1.json.gz is truncated or damaged"),
        (no_squad, "isn't laid out as SQuAD 1.1"),
        (a_list, "isn't laid out as SQuAD 1.1"),
        (without_questions, "holds no questions"),
    ],
)
def test_a_spoiled_set_is_refused_with_what_is_wrong(made_up, tmp_path, spoil, message):
    path = Path(shutil.copy(made_up[0] / "train-v1.1.json.gz", tmp_path))
    spoil(path)
    with pytest.raises(data.DataError, match=message):
        data.read(path)


def test_vectors_are_those_of_the_wanted_words_in_either_form(tmp_path):
    table = np.arange(150).reshape(3, 50).astype("float32")
    np.save(tmp_path / data.TABLE, table)
    (tmp_path / data.TABLE).with_suffix(".words.txt").write_text("the\nof\n\u00e9t\u00e9\n", encoding="utf-8")
    lines = (
        " ".join([word, *map(str, row)])
        for word, row in zip(("the", "of", "été"), table.tolist(), strict=True)
    )
    (tmp_path / "glove.6B.50d.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    for name in (data.TABLE, "glove.6B.50d.txt"):
        words, rows = data.vectors(tmp_path / name, {"été", "the", "unseen"})
        assert words == ("the", "été")
        np.testing.assert_array_equal(rows, table[[0, 2]])


@pytest.mark.parametrize(
    ("words", "message"),
    [("the\nof\n", r"has the shape \(3, 50\), but .*words.txt has 2 words"), (None, "words.txt is missing")],
)
def test_words_and_vectors_of_different_number_are_refused(tmp_path, words, message):
    np.save(tmp_path / data.TABLE, np.zeros((3, 50), "float32"))
    if words is not None:
        (tmp_path / data.TABLE).with_suffix(".words.txt").write_text(words)
    with pytest.raises(data.DataError, match=message):
        data.vectors(tmp_path / data.TABLE, {"the"})


def test_a_line_that_is_no_vector_is_named(tmp_path):
    (tmp_path / "glove.6B.50d.txt").write_text("the 1 2 3\n")
    with pytest.raises(data.DataError, match=r"Line 1 of .* has 3 numbers; expected a word and 50"):
        data.vectors(tmp_path / "glove.6B.50d.txt", {"the"})


def test_a_user_sees_one_line_and_exit_code_2(tmp_path, capsys):
    assert main.main(["--data", str(tmp_path / "nowhere"), "--output", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err.startswith("error: No train-v1.1.json in ")
    assert (
        main.main(["answer", "--model", str(tmp_path / "no.tflite"), "--context", "x", "--question", "y"])
        == 2
    )
    assert capsys.readouterr().err.startswith("error: ")


# --- features and batches


def test_spans_are_the_tokens_of_the_answers(made_up):
    _, squad, made = made_up
    for part in ("train", "dev"):
        encoded = getattr(made, part)
        assert encoded.unaligned == 0
        for n, question in enumerate(squad[part].questions):
            found = answers.extract(squad[part].contexts[question.context], *encoded.span[n])
            assert found == question.answers[0][0]


def test_an_answer_that_begins_or_ends_inside_a_token_is_counted_and_left_out(made_up):
    folder, squad, _ = made_up
    spoiled = [
        dataclasses.replace(q, answers=((q.answers[0][0][n:], q.answers[0][1] + n),))
        for n, q in enumerate(squad["dev"].questions[:2])
    ]
    dev = dataclasses.replace(squad["dev"], questions=tuple(spoiled))
    made = features.make({"train": squad["train"], "dev": dev}, folder / data.TABLE)
    assert made.dev.unaligned == 1
    assert made.dev.span[1].tolist() == [-1, -1]
    shapes = batches.Shapes((200,), question=24, letters=8, batch_size=1)
    assert batches.usable(made.dev, shapes).tolist() == [0]


def test_features_are_read_from_their_file_until_the_data_is_other(made_up, tmp_path, monkeypatch):
    folder, squad, made = made_up
    paths = data.find(Path(shutil.copytree(folder, tmp_path / "data")))
    cache = tmp_path / "features.npz"
    features.load(paths, squad, cache)
    with monkeypatch.context() as patched:
        patched.setattr(features, "make", lambda *args: pytest.fail("made again"))
        again = features.load(paths, squad, cache)
        assert again.words == made.words
        np.testing.assert_array_equal(again.form_letters, made.form_letters)
        np.testing.assert_array_equal(again.dev.contexts.values, made.dev.contexts.values)
        np.testing.assert_array_equal(again.train.span, made.train.span)
        write(paths["dev"], {"data": [article(7)]})
        with pytest.raises(pytest.fail.Exception, match="made again"):
            features.load(paths, squad, cache)
    cache.write_bytes(cache.read_bytes()[:100])
    assert features.load(paths, squad, cache).words == made.words


def test_inputs_are_the_words_and_letters_padded_with_zeros(made_up):
    _, squad, made = made_up
    shapes = batches.Shapes((100,), question=12, letters=8, batch_size=2)
    given = batches.inputs(made, made.dev, np.array([5]), 100, shapes)
    known = made.vocabulary(8)
    question = squad["dev"].questions[5]
    for name, written in (("question", question.text), ("context", squad["dev"].contexts[question.context])):
        words, letters = known.encode(text.pieces(written))
        assert (words > text.UNKNOWN).mean() > 0.5
        np.testing.assert_array_equal(given[name][0, : len(words)], words)
        np.testing.assert_array_equal(given[f"{name}_letters"][0, : len(words)], letters)
        assert not given[name][0, len(words) :].any()
        assert not given[f"{name}_letters"][0, len(words) :].any()


SHAPES = batches.Shapes((30, 52, 70), question=12, letters=8, batch_size=4)


def test_epochs_take_up_passes_one_after_another(made_up):
    made = made_up[2]
    shapes = dataclasses.replace(SHAPES, batch_size=5)
    rows = batches.usable(made.train, shapes)
    assert len(rows) == 40

    def epochs(*numbers, seed=0):
        whole = batches.Batches(made, made.train, rows, shapes, steps=3, seed=seed)
        laid = []
        for number in numbers:
            whole.begin(number)
            laid += [tuple(batch) for batch in whole.batches]
        return laid

    per_pass = batches.Batches(made, made.train, rows, shapes).per_pass
    assert per_pass == 3 + 4  # of 16 questions about short contexts and 24 about long ones; none are shorter
    laid = epochs(*range(6))
    assert laid == epochs(0, 1, 2) + epochs(3, 4, 5)
    first, second = laid[:per_pass], laid[per_pass : 2 * per_pass]
    assert sorted(sum(first, ())) == sorted({*sum(first, ())})
    assert first != second
    assert epochs(0) != epochs(0, seed=1)


def test_a_batch_has_contexts_of_like_length_and_its_answers(made_up):
    made = made_up[2]
    found = batches.Batches(made, made.train, batches.usable(made.train, SHAPES), SHAPES)
    widths = set()
    for index in range(len(found)):
        given, span = found[index]
        widths.add(given["context"].shape[1])
        assert given["context_letters"].shape == (4, given["context"].shape[1], 8)
        assert given["question"].shape == (4, 12)
        assert (given["context"][range(4), span["start"]] > 0).all()
        np.testing.assert_array_equal(span["end"], made.train.span[found.batches[index]][:, 1])
    assert widths == {52, 70}


def test_every_question_is_answered_once(made_up):
    made = made_up[2]
    found = list(batches.in_order(made, made.train, np.arange(40), dataclasses.replace(SHAPES, batch_size=7)))
    assert sorted(np.concatenate([rows for rows, _ in found])) == list(range(40))
    assert all(given["context"].shape[0] == 7 for _, given in found)


def test_held_out_questions_are_about_other_paragraphs(made_up):
    encoded = made_up[2].train
    trained, watched = batches.held_out(encoded, np.arange(40), 0.25)
    paragraphs = [{*encoded.context[rows].tolist()} for rows in (trained, watched)]
    assert not paragraphs[0] & paragraphs[1]
    assert len(trained) + len(watched) == 40
    assert 4 <= len(watched) <= 16


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


REAL = Path(os.environ.get("KERAS_ISS_DATA", Path(__file__).parents[3] / "shared" / "data"))
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
    baseline, iss = measure.collect(smoke)
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
    (kept,) = measure.collect(smoke)[1]["files"].values()
    reader = ask.Reader(smoke / kept["file"])
    stripped = model.probabilities(keras.models.load_model(smoke / "iss-seed0.keras", compile=False))
    for lengths, context, question in (([7], 7, 4), ([9], 13, 6)):
        given = some_inputs(lengths, context, question, len(reader.vocabulary.words))
        expected, found = logits(stripped, given), reader.predict(given)
        for name in ("start", "end"):
            np.testing.assert_allclose(found[name], expected[name], atol=1e-5)
            assert not found[name][0, lengths[0] :].any()


def test_the_exported_file_answers_from_the_command_line(smoke, capsys):
    (kept,) = measure.collect(smoke)[1]["files"].values()
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
