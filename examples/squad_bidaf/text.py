"""From text to numbers and back: tokens with their places, and the numbers of words and letters."""

from __future__ import annotations

import dataclasses
import json
import re
import string
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path

import numpy as np

# A number with its separators, a word, an English ending such as 's, or any other character by itself.
_TOKEN = re.compile(r"\d+(?:[.,]\d+)+|[^\W_]+|'(?:s|t|re|ve|ll|d|m)\b|\S", re.IGNORECASE)
_LETTERS = string.digits + string.ascii_letters + string.punctuation
LETTERS = len(_LETTERS) + 2  # 0 is padding, 1 any other character
PADDING, UNKNOWN, KNOWN = 0, 1, 2  # numbers of words; those in the list begin at KNOWN


def tokens(text: str) -> list[tuple[int, int]]:
    """Where each token begins and ends: text[begin:end]."""
    return [match.span() for match in _TOKEN.finditer(text)]


def pieces(text: str) -> list[str]:
    """The tokens themselves."""
    return _TOKEN.findall(text)


def spell(token: str, length: int) -> list[int]:
    """The numbers of a token's first `length` characters, padded with 0."""
    numbers = [_LETTERS.find(character) + 2 for character in token[:length]]
    return numbers + [PADDING] * (length - len(numbers))


@dataclasses.dataclass(frozen=True)
class Vocabulary:
    """The words a model knows, in the order of its table, and how many letters of a word it reads."""

    words: tuple[str, ...]
    letters: int

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {word: number for number, word in enumerate(self.words, KNOWN)}

    def number(self, token: str) -> int:
        return self._numbers.get(token.lower(), UNKNOWN)

    def encode(self, found: Iterable[str]) -> tuple[np.ndarray, np.ndarray]:
        """Word numbers (tokens,) and letter numbers (tokens, letters) of some tokens."""
        found = list(found)
        words = np.array([self.number(token) for token in found], "int32")
        letters = np.array([spell(token, self.letters) for token in found], "int32")
        return words, letters.reshape(len(found), self.letters)

    def save(self, path: Path) -> None:
        path.write_text(json.dumps(dataclasses.asdict(self), ensure_ascii=False) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Vocabulary:
        held = json.loads(path.read_text(encoding="utf-8"))
        return cls(tuple(held["words"]), held["letters"])
