"""Images' features and their captions, in the files' form of Flickr8k; words and their numbers."""

from __future__ import annotations

import dataclasses
import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

FEATURES = "features.npz"
CAPTIONS = "captions_filtered.token.txt"
PARTS = ("train", "dev", "test")
LOOK = 0  # the word that stands for the image, an LSTM's first input; never an output, so that it pads, too
STOP = 1  # what comes before the first word and after the last, as in NeuralTalk
_WORD = re.compile(r"[a-z0-9]+")
_FORM = (
    f"Expected a folder (or its subfolder flickr8k) with {FEATURES}, {CAPTIONS} and "
    + ", ".join(f"{part}Images_filtered.txt" for part in PARTS)
    + "; examples/captioning/README.md describes them"
)


class DataError(ValueError):
    """The data are missing, or don't fit together."""


@dataclasses.dataclass(frozen=True)
class Images:
    """Some images with their captions.

    Attributes:
        names: File names.
        features: (images, width), float32.
        captions: Of each image a few, each a tuple of words.
    """

    names: tuple[str, ...]
    features: np.ndarray
    captions: tuple[tuple[tuple[str, ...], ...], ...]

    def __len__(self) -> int:
        return len(self.names)

    def first(self, count: int) -> Images:
        """The first so many."""
        return Images(self.names[:count], self.features[:count], self.captions[:count])


@dataclasses.dataclass(frozen=True)
class Vocabulary:
    """The words that a model knows; word n has the number n + 2.

    Args:
        words: Without repetition.

    Raises:
        ValueError: If a word comes twice.
    """

    words: tuple[str, ...]

    def __post_init__(self):
        if len(set(self.words)) != len(self.words):
            raise ValueError(
                f"Invalid value for argument words. Expected none twice. Received: {len(self.words)} words, "
                f"{len(set(self.words))} different"
            )
        object.__setattr__(self, "_numbers", {word: n for n, word in enumerate(self.words, start=STOP + 1)})

    def __len__(self) -> int:
        """How many numbers there are, LOOK and STOP included."""
        return len(self.words) + STOP + 1

    @classmethod
    def of(cls, captions: Iterable[Iterable[Sequence[str]]], threshold: int) -> Vocabulary:
        """The words that occur at least `threshold` times, the most frequent first."""
        counts = Counter(word for several in captions for caption in several for word in caption)
        return cls(
            tuple(
                w for w, n in sorted(counts.items(), key=lambda kept: (-kept[1], kept[0])) if n >= threshold
            )
        )

    def encode(self, words: Iterable[str]) -> list[int]:
        """The numbers of words; words that aren't known are left out, as in NeuralTalk."""
        return [self._numbers[word] for word in words if word in self._numbers]

    def decode(self, numbers: Iterable[int]) -> str:
        """The words up to the first STOP."""
        found = []
        for number in numbers:
            if number <= STOP:
                break
            found.append(self.words[number - STOP - 1])
        return " ".join(found)

    def save(self, path: Path) -> None:
        beside = path.with_name(f".{os.getpid()}-{path.name}")
        beside.write_text(json.dumps(self.words) + "\n", encoding="utf-8")
        os.replace(beside, path)

    @classmethod
    def load(cls, path: Path) -> Vocabulary:
        try:
            return cls(tuple(json.loads(path.read_text(encoding="utf-8"))))
        except (OSError, ValueError, TypeError) as error:
            raise DataError(
                f"The words of the model can't be read from {path} ({error}). Expected the file that training wrote "
                "beside the model: keep the two together."
            ) from error


def words(caption: str) -> tuple[str, ...]:
    """A caption's words: in lower case, without punctuation; "A boy's dog ." is a, boy, s, dog."""
    return tuple(_WORD.findall(caption.lower()))


def find(given: str | os.PathLike | None) -> Path:
    """The folder: given, or in $KERAS_ISS_DATA; itself or its subfolder flickr8k."""
    place = given or os.environ.get("KERAS_ISS_DATA")
    if place is None:
        raise DataError(f"No data: name their folder with --data or KERAS_ISS_DATA. {_FORM}.")
    for folder in (Path(place), Path(place, "flickr8k")):
        if (folder / FEATURES).is_file():
            return folder
    raise DataError(f"No {FEATURES} in {place}. {_FORM}.")


def read(folder: Path) -> dict[str, Images]:
    """Reads all images: "train", "dev" and "test".

    Raises:
        DataError: If a file is missing or isn't of the form, names and features differ in number, a list names an
            image without features, or an image has no caption.
    """
    rows, features = _features(folder / FEATURES)
    captions = _captions(folder / CAPTIONS)
    return {part: _part(folder / f"{part}Images_filtered.txt", rows, features, captions) for part in PARTS}


def feature(folder: Path, image: str) -> np.ndarray:
    """The features of one image, (1, width), float32."""
    rows, features = _features(folder / FEATURES)
    if image not in rows:
        raise DataError(
            f"No image {image!r} in {folder / FEATURES}. Expected one of its {len(rows)} names, "
            f"such as {next(iter(rows))}."
        )
    return features[rows[image]][None].astype("float32")


def _features(path: Path) -> tuple[dict[str, int], np.ndarray]:
    """Where each image's row lies, and the rows."""
    try:
        with np.load(path, allow_pickle=False) as file:
            names, features = (np.asarray(file[name]) for name in ("names", "features"))
    except Exception as error:  # a damaged zip fails in many ways
        raise DataError(
            f"{path} can't be read ({type(error).__name__}: {error}). Expected an .npz file with the arrays "
            "'names' (images,) and 'features' (images, width)."
        ) from error
    if names.ndim != 1 or features.ndim != 2 or len(names) != len(features):
        raise DataError(
            f"{path}: expected 'names' (images,) and 'features' (images, width) of as many images. "
            f"Received: names {names.shape}, features {features.shape}."
        )
    if not np.isfinite(features).all():
        raise DataError(f"{path}: expected finite features. Received: NaN or infinity among them.")
    return {str(name): row for row, name in enumerate(names)}, features


def _captions(path: Path) -> dict[str, list[tuple[str, ...]]]:
    found: dict[str, list[tuple[str, ...]]] = {}
    for number, line in enumerate(_lines(path), start=1):
        place, tab, text = line.partition("\t")
        if not tab:
            raise DataError(
                f"{path}, line {number}: expected 'IMAGE#N', a tab, a caption. Received: {line[:80]!r}."
            )
        if found_words := words(text):
            found.setdefault(place.rpartition("#")[0] or place, []).append(found_words)
    return found


def _part(path: Path, rows: Mapping[str, int], features: np.ndarray, captions: Mapping[str, list]) -> Images:
    names = [line.strip() for line in _lines(path) if line.strip()]
    if not names:
        raise DataError(f"{path} is empty. Expected the name of an image in each line.")
    for lacking, where, mend in (
        ([n for n in names if n not in rows], f"features in {FEATURES}", "Compute them"),
        ([n for n in names if n not in captions], f"a caption in {CAPTIONS}", "Add one"),
    ):
        if lacking:
            raise DataError(
                f"{path} names {len(lacking)} image(s) without {where}, {lacking[0]} for one. {mend}, or take "
                "the image from the list."
            )
    chosen = features[[rows[name] for name in names]].astype("float32")
    return Images(tuple(names), chosen, tuple(tuple(captions[name]) for name in names))


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} can't be read ({error}). {_FORM}.") from error
