"""Exact match and F1 as SQuAD's official evaluation counts them (Rajpurkar et al., arXiv 1606.05250, section 6.1)."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Mapping, Sequence

_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLES = re.compile(r"\b(?:a|an|the)\b")


def normalize(answer: str) -> str:
    """Lower case, without ASCII punctuation, without articles, with single spaces; in this order."""
    return " ".join(_ARTICLES.sub(" ", answer.lower().translate(_PUNCTUATION)).split())


def exact(given: str, expected: str) -> float:
    return float(normalize(given) == normalize(expected))


def f1(given: str, expected: str) -> float:
    """Harmonic mean of precision and recall over words, a word counting as often as it stands there."""
    ours, theirs = normalize(given).split(), normalize(expected).split()
    common = sum((Counter(ours) & Counter(theirs)).values())
    return 2 * common / (len(ours) + len(theirs)) if common else 0.0


def scores(answers: Mapping[str, str], expected: Mapping[str, Sequence[str]]) -> dict[str, float]:
    """Exact match and F1 in percent over all expected questions, each against the expected answer it fits best.

    Args:
        answers: Question id -> answer; a question without one counts as wrong.
        expected: Question id -> the answers that people gave.
    """
    totals = {"em": 0.0, "f1": 0.0}
    for question, theirs in expected.items():
        if question in answers:
            totals["em"] += max(exact(answers[question], answer) for answer in theirs)
            totals["f1"] += max(f1(answers[question], answer) for answer in theirs)
    return {name: 100 * total / len(expected) for name, total in totals.items()}
