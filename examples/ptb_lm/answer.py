"""Goes on with a sentence, or tells a text's perplexity, by an exported streaming file and LiteRT alone.

python examples/ptb_lm/answer.py OUTPUT/iss-seed0.stream.float32.tflite "the company said" [--words 20] [--perplexity]
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter

END, UNKNOWN = "<eos>", "<unk>"
VOCABULARY = "vocabulary.json"


class LanguageModel:
    """A streaming file with its vocabulary: reads word after word, and tells how likely each next word is.

    Args:
        path: The file; the vocabulary lies beside it.

    Raises:
        FileNotFoundError: If one of the two isn't there.
    """

    def __init__(self, path: Path):
        for needed in (path, path.with_name(VOCABULARY)):
            if not needed.is_file():
                raise FileNotFoundError(
                    f"{needed} isn't there. Expected what main.py writes: FILE and {VOCABULARY}"
                )
        self.words: list[str] = json.loads(path.with_name(VOCABULARY).read_text(encoding="utf-8"))
        self.numbers = {word: number for number, word in enumerate(self.words)}
        interpreter = Interpreter(str(path))
        self._step = interpreter.get_signature_runner("step")
        self._states = interpreter.get_signature_runner("initial_state")()

    def encode(self, word: str) -> int:
        """A word's number; that of `UNKNOWN` where it has none."""
        return self.numbers[word if word in self.numbers else UNKNOWN]

    def read(self, word: int) -> np.ndarray:
        """Reads a word; returns log p of each next word, (vocabulary,), in nats."""
        found = self._step(words=np.array([[word]], "int32"), **self._states)
        self._states = {name: found[name] for name in self._states}
        (name,) = set(found) - set(self._states)
        logits = found[name].reshape(-1).astype("float64")
        return logits - np.logaddexp.reduce(logits)


def complete(model: LanguageModel, sentence: Sequence[str], words: int, seed: int | None = None) -> list[str]:
    """Goes on until the sentence ends, or for `words` words: the likeliest each time or, with a seed, drawn.

    `UNKNOWN` is never written.
    """
    draw = None if seed is None else np.random.default_rng(seed)
    never = model.numbers.get(UNKNOWN)
    scores = model.read(model.encode(END))
    for word in sentence:
        scores = model.read(model.encode(word))
    written: list[str] = []
    while len(written) < words:
        chances = np.exp(scores)
        if never is not None:
            chances[never] = 0
        chosen = int(
            chances.argmax() if draw is None else draw.choice(len(chances), p=chances / chances.sum())
        )
        if model.words[chosen] == END:
            break
        written.append(model.words[chosen])
        scores = model.read(chosen)
    return written


def perplexity(model: LanguageModel, lines: Iterable[str]) -> float:
    """Of lines of words, the end of each counted, too; the model reads on from line to line."""
    scores, nats, count = model.read(model.encode(END)), 0.0, 0
    for line in lines:
        for word in (*line.split(), END):
            number = model.encode(word)
            nats, count = nats - scores[number], count + 1
            scores = model.read(number)
    return math.exp(nats / count)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", type=Path, help="a .stream. file that main.py wrote")
    parser.add_argument(
        "text", nargs="?", help="a sentence, lower case, words apart; without it, standard input"
    )
    parser.add_argument("--words", type=int, default=20, help="how many words to write at most")
    parser.add_argument("--seed", type=int, help="draw the words; without it, the likeliest one each time")
    parser.add_argument("--perplexity", action="store_true", help="tell the text's perplexity instead")
    asked = parser.parse_args(argv)
    try:
        model = LanguageModel(asked.file)
    except FileNotFoundError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    lines = [asked.text] if asked.text is not None else sys.stdin.read().splitlines()
    if asked.perplexity:
        print(f"perplexity {perplexity(model, lines):.2f}")
        return 0
    sentence = " ".join(lines).split()
    print(" ".join([*sentence, "|", *complete(model, sentence, asked.words, asked.seed)]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
