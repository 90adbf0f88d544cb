"""Batches of static shapes: questions whose contexts are of like length share one."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import keras
import numpy as np

from squad_bidaf.features import Encoded, Features


@dataclasses.dataclass(frozen=True)
class Shapes:
    """The shapes that are compiled.

    Attributes:
        contexts: Lengths in tokens, rising; a context is padded to the first that holds it.
        question: Length of every question; longer ones are cut.
        letters: Of a word; further ones are cut.
        batch_size: Questions per batch.
    """

    contexts: tuple[int, ...]
    question: int
    letters: int
    batch_size: int

    def __post_init__(self):
        if (
            list(self.contexts) != sorted({*self.contexts})
            or min((*self.contexts, self.question, self.letters)) < 1
        ):
            raise ValueError(
                f"Invalid value for argument contexts. Expected rising lengths. Received: contexts={self.contexts}"
            )

    def bucket(self, lengths: np.ndarray) -> np.ndarray:
        """Index of the first length that holds each context; len(contexts) for those too long."""
        return np.searchsorted(self.contexts, lengths)


def usable(encoded: Encoded, shapes: Shapes) -> np.ndarray:
    """Indices of the questions that can be trained on: an answer made of tokens, and nothing cut."""
    fits = encoded.contexts.lengths[encoded.context] <= shapes.contexts[-1]
    fits &= encoded.questions.lengths <= shapes.question
    return np.flatnonzero(fits & (encoded.span[:, 0] >= 0))


def held_out(encoded: Encoded, chosen: np.ndarray, share: float) -> tuple[np.ndarray, np.ndarray]:
    """Divides questions: those to train on, and about `share` of them, about the last paragraphs, to watch."""
    context = encoded.context[chosen]
    border = np.quantile(context, 1 - share, method="lower") if len(chosen) else 0
    return chosen[context < border], chosen[context >= border]


def inputs(
    features: Features, encoded: Encoded, rows: np.ndarray, width: int, shapes: Shapes
) -> dict[str, np.ndarray]:
    """The model's inputs for some questions, contexts padded to `width`."""
    found = {
        "context": encoded.contexts.padded(encoded.context[rows], width),
        "question": encoded.questions.padded(rows, shapes.question),
    }
    letters = {
        f"{name}_letters": features.form_letters[forms, : shapes.letters] for name, forms in found.items()
    }
    words = {name: features.form_words[forms] for name, forms in found.items()}
    return {name: array.astype("int32") for name, array in (words | letters).items()}


class Batches(keras.utils.PyDataset):
    """Batches to train on. All depend on the seed and the epoch's number only.

    An epoch is `steps` batches, not a pass: passes follow each other, each in an order of its own, and an epoch takes up
    where the one before ended.

    Args:
        features, encoded: All questions.
        rows: The indices of those to use.
        shapes: Of the batches.
        steps: Batches per epoch; None: one pass.
        seed: Of the order.
    """

    def __init__(
        self,
        features: Features,
        encoded: Encoded,
        rows: np.ndarray,
        shapes: Shapes,
        steps: int | None = None,
        seed: int = 0,
    ):
        super().__init__()
        self.features, self.encoded, self.shapes, self.seed = features, encoded, shapes, seed
        self.rows, self.bucket = rows, shapes.bucket(encoded.contexts.lengths[encoded.context[rows]])
        self.per_pass = len(self._pass(0))
        if not self.per_pass:
            raise ValueError(
                f"There are too few questions for a batch. Expected {shapes.batch_size} with contexts of like length. "
                f"Received: {len(rows)} questions"
            )
        self.steps = steps or self.per_pass
        self.begin(0)

    def _pass(self, number: int) -> list[np.ndarray]:
        """The batches of one pass; of each length the last few questions that fill no batch are left out."""
        random = np.random.default_rng((self.seed, number))
        batches = []
        for bucket in range(len(self.shapes.contexts)):
            mine = random.permutation(self.rows[self.bucket == bucket])
            whole = len(mine) // self.shapes.batch_size
            batches += list(mine[: whole * self.shapes.batch_size].reshape(whole, self.shapes.batch_size))
        return [batches[n] for n in random.permutation(len(batches))]

    def begin(self, epoch: int) -> None:
        """Lays out the batches of an epoch, counted from 0."""
        first = epoch * self.steps
        passes = range(first // self.per_pass, (first + self.steps - 1) // self.per_pass + 1)
        laid = [batch for number in passes for batch in self._pass(number)]
        skipped = first - passes.start * self.per_pass
        self.batches = laid[skipped : skipped + self.steps]

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, index: int) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        rows = self.batches[index]
        longest = self.encoded.contexts.lengths[self.encoded.context[rows]].max()
        width = self.shapes.contexts[int(self.shapes.bucket(longest))]
        span = self.encoded.span[rows]
        given = inputs(self.features, self.encoded, rows, width, self.shapes)
        return given, {"start": span[:, 0], "end": span[:, 1]}


def in_order(
    features: Features, encoded: Encoded, rows: np.ndarray, shapes: Shapes
) -> Iterator[tuple[np.ndarray, dict[str, np.ndarray]]]:
    """Batches for answering: all rows once, short contexts first; the last batch of a length is filled up by repeating.

    Yields:
        The questions' indices (at most a batch of them), and the inputs of a whole batch.
    """
    bucket = shapes.bucket(encoded.contexts.lengths[encoded.context[rows]])
    for number in np.unique(bucket):
        width = shapes.contexts[min(int(number), len(shapes.contexts) - 1)]
        mine = rows[bucket == number]
        for first in range(0, len(mine), shapes.batch_size):
            some = mine[first : first + shapes.batch_size]
            yield some, inputs(features, encoded, np.resize(some, shapes.batch_size), width, shapes)
