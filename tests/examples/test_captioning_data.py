"""What the captioning example reads: files, words and batches, on a small made-up set in Flickr8k's files."""

import shutil

import numpy as np
import pytest

pytest.importorskip("pycocoevalcap", reason="pip install 'keras-iss[captions]'")

from captioning import data, main
from captioning.batches import Batches
from captioning.data import LOOK, STOP, DataError, Vocabulary

from tests.examples.made_up_captions import write

# --- the data


def test_the_files_are_read_with_words_in_lower_case_and_without_punctuation(images):
    assert {part: len(images[part]) for part in images} == {"train": 54, "dev": 9, "test": 9}
    assert images["train"].features.shape == (54, 9)
    assert images["train"].features.dtype == np.float32
    assert images["test"].names[0] == "test_0.jpg"
    assert images["test"].captions[0][:2] == (
        ("a", "black", "cat", "is", "on", "the", "sand"),
        ("a", "black", "cat", "on", "sand"),
    )


def test_words_that_are_rare_are_left_out_and_numbers_stop_at_stop(vocabulary):
    assert Vocabulary.of([[("a", "b", "a"), ("a", "c")]], 2).words == ("a",)
    numbers = vocabulary.encode(("a", "purple", "dog"))
    assert len(numbers) == 2
    assert min(numbers) > STOP
    assert vocabulary.decode([*numbers, STOP, *numbers]) == "a dog"


def test_a_vocabulary_is_the_same_after_saving_and_a_missing_one_is_named(vocabulary, tmp_path):
    vocabulary.save(tmp_path / "words.json")
    assert Vocabulary.load(tmp_path / "words.json") == vocabulary
    with pytest.raises(
        DataError, match=r"words of the model can't be read from .*none.json.*keep the two together"
    ):
        Vocabulary.load(tmp_path / "none.json")


def without_captions(folder):
    (folder / data.CAPTIONS).unlink()


def with_too_few_names(folder):
    with np.load(folder / data.FEATURES) as file:
        names, features = file["names"], file["features"]
    np.savez(folder / data.FEATURES, names=names[:-1], features=features)


def with_other_arrays(folder):
    np.savez(folder / data.FEATURES, images=np.zeros(3))


def with_nan(folder):
    with np.load(folder / data.FEATURES) as file:
        names, features = file["names"], file["features"].copy()
    features[3, 2] = np.nan
    np.savez(folder / data.FEATURES, names=names, features=features)


def with_half_a_file(folder):
    path = folder / data.FEATURES
    path.write_bytes(path.read_bytes()[:500])


def with_an_image_nobody_described(folder):
    path = folder / data.CAPTIONS
    path.write_text("".join(line for line in path.open() if not line.startswith("dev_3.jpg#")))


def with_an_unknown_image(folder):
    with (folder / "testImages_filtered.txt").open("a") as file:
        file.write("nobody.jpg\n")


def with_an_empty_list(folder):
    (folder / "trainImages_filtered.txt").write_text("\n")


def with_a_line_without_tab(folder):
    with (folder / data.CAPTIONS).open("a") as file:
        file.write("train_0.jpg#5 A cat .\n")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            without_captions,
            r"captions_filtered.token.txt can't be read .* Expected a folder .* with features.npz",
        ),
        (with_too_few_names, r"of as many images. Received: names \(71,\), features \(72, 9\)"),
        (with_other_arrays, "features.npz can't be read .* Expected an .npz file with the arrays 'names'"),
        (with_nan, "expected finite features"),
        (with_half_a_file, "features.npz can't be read"),
        (
            with_an_image_nobody_described,
            "devImages_filtered.txt names 1 .* without a caption .*, dev_3.jpg for one. Add one, or take",
        ),
        (with_an_unknown_image, "testImages_filtered.txt names 1 .* without features .*, nobody.jpg for one"),
        (with_an_empty_list, "trainImages_filtered.txt is empty"),
        (
            with_a_line_without_tab,
            "line 361: expected 'IMAGE#N', a tab, a caption. Received: 'train_0.jpg#5 A cat .'",
        ),
    ],
)
def test_spoiled_data_are_refused_with_what_is_wrong(tmp_path, spoil, message):
    write(tmp_path)
    spoil(tmp_path)
    with pytest.raises(DataError, match=message):
        data.read(tmp_path)


def test_data_are_found_by_argument_and_by_environment(things, tmp_path, monkeypatch):
    shutil.copytree(things, tmp_path / "flickr8k")
    assert data.find(tmp_path) == data.find(tmp_path / "flickr8k") == tmp_path / "flickr8k"
    monkeypatch.setenv("KERAS_ISS_DATA", str(tmp_path))
    assert data.find(None) == tmp_path / "flickr8k"
    monkeypatch.delenv("KERAS_ISS_DATA")
    with pytest.raises(DataError, match="name their folder with --data or KERAS_ISS_DATA"):
        data.find(None)


def test_a_user_sees_one_line_and_exit_code_2(tmp_path, capsys):
    assert main.main(["train", "--data", str(tmp_path), "--output", str(tmp_path / "out")]) == 2
    shown = capsys.readouterr().err
    assert shown.startswith("error: No features.npz in ")
    assert shown.count("\n") == 1


# --- batches


def test_outputs_are_the_next_words_and_what_is_padded_counts_nothing(images, vocabulary):
    batches = Batches(images["train"], vocabulary, 16)
    seen = set()
    for index in range(len(batches)):
        x, y = batches[index]
        assert x["image"].shape == (16, 9)
        assert x["word"].shape == y.shape
        for image, word, output in zip(x["image"], x["word"], y, strict=True):
            said = [int(n) for n in output if n != LOOK]
            if not said:  # fills a batch up
                continue
            assert list(word[: len(said) + 1]) == [LOOK, STOP, *said[:-1]]
            assert not word[len(said) + 1 :].any()
            whole = said[-1] == STOP
            assert whole or len(said) == batches.outputs.shape[1] - 1
            row = int(np.flatnonzero((images["train"].features == image).all(1))[0])
            text = vocabulary.decode(said)
            assert any(
                " ".join(c).startswith(text) and (not whole or " ".join(c) == text)
                for c in images["train"].captions[row]
            )
            seen.add((row, text))
    assert len(seen) == 54 * 5


def test_an_epochs_batches_depend_on_seed_and_number_only(images, vocabulary):
    def epoch(number, seed=1):
        batches = Batches(images["train"], vocabulary, 16, seed)
        batches.begin(number)
        return [batches[i][1] for i in range(len(batches))]

    once = epoch(3)
    assert all(np.array_equal(a, b) for a, b in zip(once, epoch(3), strict=True))
    assert all((y != LOOK).any(1).all() for y in once)
    for other in (epoch(4), epoch(3, seed=2)):
        assert not all(np.array_equal(a, b) for a, b in zip(once, other, strict=True))
