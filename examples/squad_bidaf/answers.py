"""From two rows of probabilities to an answer, an exact part of the context."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from squad_bidaf import text
from squad_bidaf.batches import Shapes, in_order
from squad_bidaf.data import Squad
from squad_bidaf.features import Features

LONGEST = 20  # tokens; 99 % of the training set's answers have at most so many

Predict = Callable[[Mapping[str, np.ndarray]], Mapping[str, np.ndarray]]


def best_span(start: np.ndarray, end: np.ndarray, longest: int = LONGEST) -> tuple[np.ndarray, np.ndarray]:
    """First and last token of the likeliest answer: the largest start[i] · end[j] with i <= j < i + longest.

    Args:
        start, end: Probabilities (questions, tokens), 0 at padding.
        longest: In tokens.
    """
    width = start.shape[1]
    ends = np.pad(end, ((0, 0), (0, longest)))
    scores = np.stack([start * ends[:, more : more + width] for more in range(longest)], axis=2)
    flat = scores.reshape(len(start), -1).argmax(axis=1)
    return flat // longest, flat // longest + flat % longest


def extract(context: str, first: int, last: int) -> str:
    """The text from one token to another."""
    places = text.tokens(context)
    return context[places[first][0] : places[last][1]]


def answer_all(
    predict: Predict, features: Features, part: str, squad: Squad, rows: np.ndarray, shapes: Shapes
) -> dict[str, str]:
    """Answers some questions of one set.

    Args:
        predict: From the model's inputs to `start` and `end`, as probabilities.
        features: Of both sets.
        part: "train" or "dev".
        squad: The texts of that set.
        rows: The indices of the questions.
        shapes: Of the batches; contexts longer than the longest are cut.

    Returns:
        Question id -> answer.
    """
    found = {}
    for some, inputs in in_order(features, getattr(features, part), rows, shapes):
        output = predict(inputs)
        firsts, lasts = best_span(*(np.asarray(output[name])[: len(some)] for name in ("start", "end")))
        for row, first, last in zip(some, firsts, lasts, strict=True):
            question = squad.questions[row]
            found[question.name] = extract(squad.contexts[question.context], int(first), int(last))
    return found
