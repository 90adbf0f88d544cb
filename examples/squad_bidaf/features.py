"""Both sets as arrays of numbers, made once and kept in a file."""

from __future__ import annotations

import dataclasses
import os
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from squad_bidaf import data, text

LETTERS = 16  # of a word, at most
_MAKING = 1  # to be raised when what the file holds is made in another way


@dataclasses.dataclass(frozen=True)
class Ragged:
    """Sequences of unequal length, one after another; `ends` tells where each ends."""

    values: np.ndarray
    ends: np.ndarray

    @classmethod
    def of(cls, rows: Sequence[Sequence[int]]) -> Ragged:
        lengths = np.array([len(row) for row in rows], "int64")
        return cls(np.fromiter((n for row in rows for n in row), "int32", lengths.sum()), lengths.cumsum())

    @property
    def lengths(self) -> np.ndarray:
        return np.diff(self.ends, prepend=0)

    def padded(self, rows: np.ndarray, width: int) -> np.ndarray:
        """Some of the sequences side by side, (rows, width), padded with 0; longer ones are cut."""
        places = (self.ends - self.lengths)[rows, None] + np.arange(width)
        inside = places < self.ends[rows, None]
        return np.where(inside, self.values[np.where(inside, places, 0)], 0)


@dataclasses.dataclass(frozen=True)
class Encoded:
    """One set.

    Attributes:
        contexts, questions: Their tokens, as numbers of forms (see `Features`).
        context: Index of each question's context.
        span: First and last token of each question's first answer (questions, 2); -1 where no tokens begin and end
            where the answer does.
    """

    contexts: Ragged
    questions: Ragged
    context: np.ndarray
    span: np.ndarray

    @property
    def unaligned(self) -> int:
        """Questions whose answer isn't a sequence of tokens."""
        return int((self.span[:, 0] < 0).sum())


@dataclasses.dataclass(frozen=True)
class Features:
    """Both sets, and what a form (a token as it is written; 0 is padding) is: a word number and letter numbers.

    Attributes:
        train, dev: The sets.
        words: The words of the vocabulary, number KNOWN and on.
        vectors: Their GloVe vectors (words, 50).
        form_words: Word number of each form (forms,).
        form_letters: Letter numbers of each form (forms, 16).
    """

    train: Encoded
    dev: Encoded
    words: tuple[str, ...]
    vectors: np.ndarray
    form_words: np.ndarray
    form_letters: np.ndarray

    def vocabulary(self, letters: int) -> text.Vocabulary:
        return text.Vocabulary(self.words, letters)


def load(paths: Mapping[str, Path], squad: Mapping[str, data.Squad], cache: Path) -> Features:
    """Reads features from the cache if it was made from the same files; else makes them and writes it."""
    origin = "\n".join([str(_MAKING), *(f"{p.name} {p.stat().st_size}" for p in paths.values())])
    if (kept := _read(cache, origin)) is not None:
        return kept
    made = make(squad, paths["glove"])
    _write(cache, origin, made)
    return made


def make(squad: Mapping[str, data.Squad], glove: Path) -> Features:
    """Cuts all texts into tokens and looks these up; of GloVe's words only those of the two sets are kept."""
    forms: dict[str, int] = {"": 0}
    sets = [_encode(squad[part], forms) for part in ("train", "dev")]
    words, vectors = data.vectors(glove, {form.lower() for form in forms})
    known = text.Vocabulary(words, LETTERS)
    form_words, form_letters = known.encode(forms)
    form_words[0] = text.PADDING
    return Features(*sets, words, vectors, form_words, form_letters.astype("uint8"))


def _encode(squad: data.Squad, forms: dict[str, int]) -> Encoded:
    def numbers(found: Sequence[str]) -> list[int]:
        return [forms.setdefault(token, len(forms)) for token in found]

    places = [text.tokens(context) for context in squad.contexts]
    begins = [{begin: n for n, (begin, _) in enumerate(spots)} for spots in places]
    ends = [{end: n for n, (_, end) in enumerate(spots)} for spots in places]
    spans = []
    for question in squad.questions:
        answer, begin = question.answers[0]
        span = begins[question.context].get(begin, -1), ends[question.context].get(begin + len(answer), -1)
        spans.append(span if 0 <= span[0] <= span[1] else (-1, -1))
    return Encoded(
        Ragged.of(
            [
                numbers([context[b:e] for b, e in spots])
                for context, spots in zip(squad.contexts, places, strict=True)
            ]
        ),
        Ragged.of([numbers(text.pieces(question.text)) for question in squad.questions]),
        np.array([question.context for question in squad.questions], "int32"),
        np.array(spans, "int32").reshape(-1, 2),
    )


def _write(path: Path, origin: str, made: Features) -> None:
    """The whole file or none."""
    arrays = {"origin": np.array(origin), "words": np.array("\n".join(made.words))}
    arrays |= {name: getattr(made, name) for name in ("vectors", "form_words", "form_letters")}
    for part in ("train", "dev"):
        one = getattr(made, part)
        for name in ("contexts", "questions"):
            arrays |= {
                f"{part}_{name}": getattr(one, name).values,
                f"{part}_{name}_ends": getattr(one, name).ends,
            }
        arrays |= {f"{part}_{name}": getattr(one, name) for name in ("context", "span")}
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{os.getpid()}-{path.name}")
    np.savez(beside, **arrays)
    os.replace(beside, path)


def _read(path: Path, origin: str) -> Features | None:
    """What the file holds; None if there is none, it is damaged, or it was made from other files."""
    try:
        with np.load(path, allow_pickle=False) as file:
            if str(file["origin"]) != origin:
                return None
            held = {name: file[name] for name in file.files}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    sets = [
        Encoded(
            *(
                Ragged(held[f"{part}_{name}"], held[f"{part}_{name}_ends"])
                for name in ("contexts", "questions")
            ),
            *(held[f"{part}_{name}"] for name in ("context", "span")),
        )
        for part in ("train", "dev")
    ]
    words = tuple(str(held["words"]).split("\n"))
    return Features(*sets, words, held["vectors"], held["form_words"], held["form_letters"])
