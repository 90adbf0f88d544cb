"""What the question answering example reads: text, files, features and batches, on a made-up set in SQuAD's form."""

import dataclasses
import gzip
import shutil
from pathlib import Path

import numpy as np
import pytest
from squad_bidaf import answers, batches, data, features, main, score, text

from tests.examples.made_up_squad import SHAPES, article, write

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


def test_offline_the_download_fails_with_the_address_and_the_mend(offline):
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
