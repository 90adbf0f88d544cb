"""The text that the language models' example reads: a small made-up one in the Penn Treebank's form, and the real one."""

import shutil

import numpy as np
import pytest
from ptb_lm import answer, data, main

from tests.examples.made_up_text import sentences
from tests.examples.real_data import REAL, needs


def test_words_are_numbered_by_frequency_and_every_line_ends(penn):
    corpus = data.read(penn, other_text=True)
    text = [corpus.words[number] for number in corpus.valid]
    assert " ".join(text).split(" <eos>")[:-1] == [
        ("" if n == 0 else " ") + sentence for n, sentence in enumerate(sentences(40, 1))
    ]
    counts = np.bincount(corpus.train)
    assert (np.diff(counts) <= 0).all()
    assert corpus.train.dtype == np.int32


def test_a_word_that_training_lacks_is_unknown(penn):
    (penn / "ptb.test.txt").write_text(" the zebra sees \n")
    corpus = data.read(penn, other_text=True)
    assert [corpus.words[number] for number in corpus.test] == ["the", "<unk>", "sees", "<eos>"]


def without_unknown(penn):
    for part in data.PARTS:
        path = penn / data.name(part)
        path.write_text(path.read_text().replace("<unk>", "big"))
    (penn / "ptb.valid.txt").write_text(" the zebra sees \n")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: (f / "ptb.test.txt").unlink(), r"ptb.test.txt is missing. Fetch it from https"),
        (
            lambda f: (f / "ptb.train.txt").write_text(" the dog \n a c"),
            "ptb.train.txt is empty or truncated",
        ),
        (lambda f: (f / "ptb.valid.txt").write_bytes(b" the \xff\n"), "ptb.valid.txt isn't text: byte 5"),
        (lambda f: (f / "ptb.valid.txt").write_text(" a \n the <eos>\n"), "valid.txt, line 2, has <eos>"),
        (without_unknown, "ptb.valid.txt has the word 'zebra', which isn't in ptb.train.txt"),
    ],
)
def test_a_spoiled_file_is_refused_with_what_is_wrong(penn, spoil, message):
    spoil(penn)
    with pytest.raises(data.TextError, match=message):
        data.read(penn, other_text=True)


def test_a_text_of_another_length_is_refused_unless_it_is_asked_for(penn):
    with pytest.raises(data.TextError, match=r"train.txt has [\d,]+ words. Expected 887,521: .*--other-text"):
        data.read(penn)


def test_the_files_are_found_by_argument_and_by_environment(penn, tmp_path, monkeypatch):
    inner = tmp_path / "data" / "ptb"
    inner.mkdir(parents=True)
    for part in data.PARTS:
        shutil.copy(penn / data.name(part), inner)
    assert data.find(inner) == data.find(tmp_path / "data") == inner
    monkeypatch.setenv("KERAS_ISS_DATA", str(tmp_path / "data"))
    assert data.find(None) == inner
    (inner / "ptb.valid.txt").unlink()
    with pytest.raises(data.TextError, match=r"No ptb.valid.txt in .*data/ptb. Expected all three files"):
        data.find(tmp_path / "data")


def test_offline_the_download_fails_with_the_address_and_the_mend(offline):
    with pytest.raises(data.TextError, match=r"ptb.train.txt can't be downloaded.*--data or KERAS_ISS_DATA"):
        data.find(None)


def test_a_user_sees_one_line_and_exit_code_2(tmp_path, capsys):
    assert main.main(["--small", "--data", str(tmp_path), "--output", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err.startswith("error: No ptb.train.txt, ptb.valid.txt, ptb.test.txt in ")
    assert answer.main([str(tmp_path / "no.tflite"), "a"]) == 2
    assert "no.tflite isn't there" in capsys.readouterr().err


def test_a_row_of_a_batch_goes_on_where_the_row_before_ended_and_targets_are_one_word_ahead():
    x, y = data.streams(np.arange(100), batch=3, steps=4)
    assert x.shape == y.shape == (8 * 3, 4)
    for row, start in enumerate((0, 33, 66)):
        np.testing.assert_array_equal(x[row::3].ravel(), np.arange(start, start + 32))
        np.testing.assert_array_equal(y[row::3].ravel(), np.arange(start, start + 32) + 1)
    with pytest.raises(data.TextError, match="has 14 words. Expected at least 15"):
        data.streams(np.arange(14), batch=3, steps=4)


@pytest.mark.parametrize(("batch", "steps"), [(1, 7), (3, 4), (1, 1000)])
def test_the_whole_text_is_predicted_once(batch, steps):
    x, y, weights = data.whole(np.arange(100), batch, steps)
    kept = weights.astype(bool)
    assert set(weights.ravel()) <= {0.0, 1.0}
    assert sorted(y[kept]) == list(range(1, 100))
    np.testing.assert_array_equal(x[kept], y[kept] - 1)
    assert x.shape[1] <= steps


@needs("ptb/ptb.train.txt", "the Penn Treebank")
def test_the_real_text_has_its_published_size():
    corpus = data.read(data.find(REAL))
    assert (len(corpus.train), len(corpus.valid), len(corpus.test)) == (929_589, 73_760, 82_430)
    assert (len(corpus.words), corpus.words[0]) == (10_000, "the")
    x, _ = data.streams(corpus.train, 20, 20)
    assert len(x) == 2323 * 20  # steps of an epoch of the small model, as published logs have it
    assert (
        len(corpus.sliced(300).valid) == np.flatnonzero(corpus.valid == corpus.words.index("<eos>"))[59] + 1
    )
