"""Asks an exported file: python examples/squad_bidaf/main.py answer --model FILE --context TEXT --question TEXT"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

from squad_bidaf import answers, text

VOCABULARY = "vocabulary.json"


class AskError(ValueError):
    """What was asked can't be answered."""


class Reader:
    """An exported file and the vocabulary beside it.

    Args:
        path: The file.

    Raises:
        AskError: If one of the two is missing, or isn't what it should be.
    """

    def __init__(self, path: Path):
        from ai_edge_litert.interpreter import Interpreter

        listed = path.with_name(VOCABULARY)
        for needed in (path, listed):
            if not needed.is_file():
                raise AskError(
                    f"{needed} is missing: expected an exported model and, beside it, its {VOCABULARY}."
                )
        try:
            self.runner = Interpreter(model_path=str(path)).get_signature_runner("serving_default")
            self.vocabulary = text.Vocabulary.load(listed)
        except (ValueError, KeyError, TypeError) as error:
            raise AskError(f"{path} or its {VOCABULARY} can't be read: {error}") from error

    def predict(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Probabilities for a batch of one."""
        return self.runner(**inputs)

    def answer(self, context: str, question: str) -> tuple[str, float]:
        """The answer, an exact part of the context, and its probability.

        Raises:
            AskError: If there is no word in the context or in the question.
        """
        inputs = {}
        for name, written in (("context", context), ("question", question)):
            words, letters = self.vocabulary.encode(text.pieces(written))
            if not len(words):
                raise AskError(f"There is no word in the {name}. Expected text. Received: {written!r}")
            inputs |= {name: words[None], f"{name}_letters": letters[None]}
        found = self.predict(inputs)
        first, last = (int(places[0]) for places in answers.best_span(found["start"], found["end"]))
        return answers.extract(context, first, last), float(found["start"][0, first] * found["end"][0, last])


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="main.py answer", description="Answer a question with an exported file."
    )
    parser.add_argument("--model", type=Path, required=True, help="a .tflite file of main.py's output folder")
    parser.add_argument("--context", required=True, help="the text to read, or @FILE")
    parser.add_argument("--question", required=True)
    asked = parser.parse_args(argv)
    try:
        answer, probability = Reader(asked.model).answer(_text(asked.context), asked.question)
    except (AskError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{answer}  ({probability:.0%})")
    return 0


def _text(given: str) -> str:
    return Path(given[1:]).read_text(encoding="utf-8") if given.startswith("@") else given
