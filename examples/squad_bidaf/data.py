"""SQuAD 1.1 and GloVe as files: found or downloaded, read whole, and refused with what is wrong."""

from __future__ import annotations

import dataclasses
import gzip
import json
import os
import zlib
from collections.abc import Set
from pathlib import Path
from typing import Any

import keras
import numpy as np

SQUAD = "https://rajpurkar.github.io/SQuAD-explorer/dataset/"
GLOVE = "https://nlp.stanford.edu/data/glove.6B.zip"
SETS = {"train": "train-v1.1.json", "dev": "dev-v1.1.json"}
VECTORS = "glove.6B.50d"
TABLE = f"{VECTORS}.squadvocab.npy"  # the vectors as an array, its words in a text file beside it
DIMENSIONS = 50


class DataError(ValueError):
    """A file is missing, or isn't what it should be."""


@dataclasses.dataclass(frozen=True)
class Question:
    """A question about one of the contexts.

    Attributes:
        name: Its id.
        text: What is asked.
        context: Index of the paragraph it is about.
        answers: What people answered, and where in the paragraph each answer begins.
    """

    name: str
    text: str
    context: int
    answers: tuple[tuple[str, int], ...]


@dataclasses.dataclass(frozen=True)
class Squad:
    """One of the two sets: paragraphs, and questions about them."""

    contexts: tuple[str, ...]
    questions: tuple[Question, ...]

    def expected(self) -> dict[str, list[str]]:
        """The answers by question id, as `score.scores` takes them."""
        return {q.name: [text for text, _ in q.answers] for q in self.questions}


def find(given: str | os.PathLike | None) -> dict[str, Path]:
    """The paths of "train", "dev" and "glove": in the given folder, in $KERAS_ISS_DATA, or downloaded."""
    place = given or os.environ.get("KERAS_ISS_DATA")
    if place is None:
        return {name: _download(SQUAD + file) for name, file in SETS.items()} | {"glove": _download(GLOVE)}
    folders = [Path(place), Path(place, "squad")]
    found = {name: _first(folders, (file, f"{file}.gz"), SQUAD + file) for name, file in SETS.items()}
    return found | {"glove": _first(folders, (TABLE, f"{VECTORS}.txt"), GLOVE)}


def _first(folders: list[Path], names: tuple[str, ...], address: str) -> Path:
    for path in (folder / name for folder in folders for name in names):
        if path.is_file():
            return path
    raise DataError(
        f"No {names[0]} in {folders[0]}: expected {' or '.join(names)} there or in its folder squad. Fetch it from {address}"
    )


def _download(address: str) -> Path:
    name = address.rpartition("/")[2]
    try:
        if name.endswith(".zip"):
            return Path(keras.utils.get_file(name, origin=address, extract=True), f"{VECTORS}.txt")
        return Path(keras.utils.get_file(name, origin=address))
    except Exception as error:  # get_file raises a bare Exception where the address can't be reached
        raise DataError(
            f"{address} can't be downloaded ({error}). "
            "Fetch it on a machine that is online and name its folder with --data or KERAS_ISS_DATA."
        ) from error


def read(path: Path, limit: int | None = None) -> Squad:
    """Reads a set; with `limit` only its first so many questions.

    Raises:
        DataError: If the file is truncated or damaged, or isn't laid out as SQuAD 1.1.
    """
    contexts: list[str] = []
    questions: list[Question] = []
    try:
        for article in _json(path)["data"]:
            for paragraph in article["paragraphs"]:
                asked = paragraph["qas"][: None if limit is None else limit - len(questions)]
                questions += [_question(one, len(contexts), paragraph["context"]) for one in asked]
                contexts.append(paragraph["context"])
                if limit is not None and len(questions) >= limit:
                    return Squad(tuple(contexts), tuple(questions))
    except DataError:
        raise
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError, IndexError) as error:
        raise DataError(
            f"{path} isn't laid out as SQuAD 1.1 (after {len(questions)} questions: {error!r}). Expected "
            f'{{"data": [{{"paragraphs": [{{"context", "qas": [{{"id", "question", "answers"}}]}}]}}]}}. Fetch it from {SQUAD}'
        ) from error
    if not questions:
        raise DataError(f"{path} holds no questions. Fetch it from {SQUAD}")
    return Squad(tuple(contexts), tuple(questions))


def _json(path: Path) -> Any:
    try:
        content = path.read_bytes()
        return json.loads(gzip.decompress(content) if path.suffix == ".gz" else content)
    except (OSError, EOFError, zlib.error, UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise DataError(f"{path} is truncated or damaged: {error}. Fetch it from {SQUAD}") from error


def _question(one: dict, context: int, paragraph: str) -> Question:
    answers = tuple((answer["text"], int(answer["answer_start"])) for answer in one["answers"])
    if not answers or not isinstance(paragraph, str) or not isinstance(one["question"], str):
        raise TypeError(f"question {one['id']} has no answer, or no text")
    return Question(str(one["id"]), one["question"], context, answers)


def vectors(path: Path, wanted: Set[str]) -> tuple[tuple[str, ...], np.ndarray]:
    """GloVe's vectors (words, 50) of the wanted words, in GloVe's order.

    Raises:
        DataError: If words and vectors aren't equally many, or the file isn't GloVe's.
    """
    words, table = _array(path) if path.suffix == ".npy" else _text(path, wanted)
    kept = [n for n, word in enumerate(words) if word in wanted]
    return tuple(words[n] for n in kept), table[kept]


def _array(path: Path) -> tuple[list[str], np.ndarray]:
    listed = path.with_suffix(".words.txt")
    if not listed.is_file():
        raise DataError(f"{listed} is missing: expected the words of {path.name}, one a line, beside it.")
    words = listed.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    try:
        table = np.load(path, allow_pickle=False)
    except Exception as error:  # a damaged file fails in many ways
        raise DataError(f"{path} is truncated or no array: {error}") from error
    if table.shape != (len(words), DIMENSIONS):
        raise DataError(
            f"{path} has the shape {table.shape}, but {listed.name} has {len(words)} words; "
            f"expected ({len(words)}, {DIMENSIONS}). Take both files from one place."
        )
    return words, table.astype("float32")


def _text(path: Path, wanted: Set[str]) -> tuple[list[str], np.ndarray]:
    words, rows = [], []
    with path.open(encoding="utf-8", errors="replace") as lines:
        for number, line in enumerate(lines, 1):
            word, *values = line.rstrip("\n").split(" ")
            if len(values) != DIMENSIONS:
                raise DataError(
                    f"Line {number} of {path} has {len(values)} numbers; expected a word and {DIMENSIONS}. Fetch it from {GLOVE}"
                )
            if word in wanted:
                words.append(word)
                rows.append(_numbers(values, path, number))
    return words, np.array(rows, "float32").reshape(-1, DIMENSIONS)


def _numbers(values: list[str], path: Path, number: int) -> np.ndarray:
    try:
        return np.array(values, "float32")
    except ValueError as error:
        raise DataError(f"Line {number} of {path} is damaged: {error}. Fetch it from {GLOVE}") from error
