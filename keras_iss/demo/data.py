"""The demo's text: Python's own language reference, which every CPython carries in `pydoc_data.topics`."""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Iterable, Mapping

import numpy as np

STEPS = 64  # characters per window, in training, validation and timing
UNKNOWN = "\N{REPLACEMENT CHARACTER}"  # stands for characters that the training text lacks
_VALIDATION = 0.1  # share of the text, in whole topics
_OVERSHOOT = 0.02  # how much more the last topic may bring
_SHORT = 40  # repeated paragraphs up to this length (headings, "Note:") are left in place


@dataclasses.dataclass(frozen=True)
class Corpus:
    """Windows of characters and, for each character, the one that follows it.

    Attributes:
        x, y: Training windows and their next characters, int32, shape (windows, steps).
        validation_x, validation_y: The same of the topics held out.
        characters: The vocabulary; a character's place in it is its number.
        read: Characters in the source, before repeated paragraphs were taken out.
        used: Characters left.
        topics: Number of topics (training, validation).
    """

    x: np.ndarray
    y: np.ndarray
    validation_x: np.ndarray
    validation_y: np.ndarray
    characters: tuple[str, ...]
    read: int
    used: int
    topics: tuple[int, int]


def load(*, steps: int = STEPS, limit: int | None = None, validation_limit: int | None = None) -> Corpus:
    """Reads the text and splits it by topic.

    Topics quote each other's paragraphs, so a paragraph stays only where it first stands: nothing that the model is
    tested on stands in what it is trained on.

    Args:
        steps: Characters per window.
        limit, validation_limit: At most so many training and validation windows, spread evenly over the text.

    Returns:
        The corpus; the same for every run on the same Python version.
    """
    from pydoc_data.topics import topics

    unique = without_repeats(topics)
    held_out = _choose(unique)
    training = "\n\n\n".join(text for name, text in unique.items() if name not in held_out)
    validation = "\n\n\n".join(unique[name] for name in sorted(held_out))
    characters = (UNKNOWN, *sorted(set(training)))
    x, y = windows(encode(training, characters), steps)
    validation_x, validation_y = windows(encode(validation, characters), steps)
    chosen, held = _spread(len(x), limit), _spread(len(validation_x), validation_limit)
    return Corpus(
        x=x[chosen],
        y=y[chosen],
        validation_x=validation_x[held],
        validation_y=validation_y[held],
        characters=characters,
        read=sum(map(len, topics.values())),
        used=len(training) + len(validation),
        topics=(len(unique) - len(held_out), len(held_out)),
    )


def _spread(count: int, limit: int | None) -> np.ndarray:
    """Places of at most `limit` out of `count`, evenly spread."""
    return np.linspace(0, count - 1, min(count, limit or count)).astype(int)


def without_repeats(topics: Mapping[str, str]) -> dict[str, str]:
    """The topics by name, each paragraph only where it first stands."""
    seen: set[str] = set()
    unique = {}
    for name, text in sorted(topics.items()):
        kept = []
        for paragraph in text.split("\n\n"):
            words = " ".join(paragraph.split())
            if len(words) > _SHORT and words in seen:
                continue
            seen.add(words)
            kept.append(paragraph)
        unique[name] = "\n\n".join(kept)
    return unique


def _choose(topics: Mapping[str, str]) -> set[str]:
    """About a tenth of the text, in whole topics, in an order that has nothing to do with what they say."""
    total = sum(map(len, topics.values()))
    chosen: set[str] = set()
    size = 0
    for name in sorted(topics, key=lambda name: zlib.crc32(name.encode())):
        if size < _VALIDATION * total and size + len(topics[name]) <= (_VALIDATION + _OVERSHOOT) * total:
            chosen.add(name)
            size += len(topics[name])
    return chosen


def encode(text: Iterable[str], characters: Iterable[str]) -> np.ndarray:
    """Each character's number, int32; 0 for characters that aren't in the vocabulary."""
    number = {character: i for i, character in enumerate(characters)}
    return np.array([number.get(character, 0) for character in text], "int32")


def windows(numbers: np.ndarray, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Consecutive windows and the same windows one character later, each of shape (count, steps)."""
    count = (len(numbers) - 1) // steps
    return numbers[: count * steps].reshape(count, steps), numbers[1 : count * steps + 1].reshape(
        count, steps
    )
