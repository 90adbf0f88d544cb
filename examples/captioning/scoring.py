"""How good captions are: CIDEr, BLEU, ROUGE-L and METEOR by pycocoevalcap, the code of the MSCOCO evaluation.

Both sides are tokenised by `data.words`: lower case, no punctuation. (MSCOCO's own tokeniser needs Java; it leaves
English captions in the same words but for things like "'s".)
"""

from __future__ import annotations

import contextlib
import io
import shutil
from collections.abc import Sequence

import numpy as np

from captioning.data import DataError


class Scorer:
    """Scores captions of fixed images.

    Args:
        references: Of each image the captions that people gave, as words.

    Raises:
        DataError: If pycocoevalcap isn't installed.
    """

    def __init__(self, references: Sequence[Sequence[Sequence[str]]]):
        try:
            from pycocoevalcap.bleu.bleu import Bleu
            from pycocoevalcap.cider.cider import Cider
            from pycocoevalcap.meteor.meteor import Meteor
            from pycocoevalcap.rouge.rouge import Rouge
        except ImportError as error:
            raise DataError(
                f"Captions can't be scored: {error}. Install it with: pip install 'keras-iss[captions]'"
            ) from error
        self._cider, self._bleu, self._rouge, self._meteor = Cider, Bleu, Rouge, Meteor
        self._references = {n: [" ".join(words) for words in several] for n, several in enumerate(references)}

    def cider(self, captions: Sequence[str]) -> float:
        """CIDEr-D, between 0 and 10; word frequencies are those of the references."""
        return float(self.cider_of_each(captions).mean())

    def cider_of_each(self, captions: Sequence[str]) -> np.ndarray:
        """Of each caption its CIDEr-D; their mean is that of all."""
        return np.asarray(self._cider().compute_score(self._references, self._told(captions))[1])

    def all(self, captions: Sequence[str]) -> dict[str, float]:
        """CIDEr, BLEU-1 to BLEU-4, ROUGE-L, and METEOR where Java is installed."""
        told = self._told(captions)
        with contextlib.redirect_stdout(io.StringIO()):  # they tell lengths
            bleu, _ = self._bleu(4).compute_score(self._references, told, verbose=0)
        found = {"CIDEr": self.cider(captions)}
        found |= {f"BLEU-{n}": float(score) for n, score in enumerate(bleu, start=1)}
        found["ROUGE-L"] = float(self._rouge().compute_score(self._references, told)[0])
        if shutil.which("java"):
            found["METEOR"] = float(self._meteor().compute_score(self._references, told)[0])
        return found

    def _told(self, captions: Sequence[str]) -> dict[int, list[str]]:
        if len(captions) != len(self._references):
            raise ValueError(
                f"Invalid value for argument captions. Expected {len(self._references)}, one for each image. "
                f"Received: {len(captions)}"
            )
        return {n: [caption] for n, caption in enumerate(captions)}


def difference(one: Sequence[np.ndarray], other: Sequence[np.ndarray]) -> tuple[float, float]:
    """How much higher one model scores than another on the same images, and the standard error of that.

    Both told the same images, so that only the differences count, not how hard images are.

    Args:
        one, other: Of each seed the scores (images,).
    """
    higher = np.mean(one, axis=0) - np.mean(other, axis=0)
    return float(higher.mean()), float(higher.std(ddof=1) / np.sqrt(len(higher)))
