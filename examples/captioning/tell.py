"""From features to captions: greedy and beam search, with a Keras model or with exported files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import keras
import numpy as np

from captioning import model as networks
from captioning.data import LOOK, STOP, DataError, Vocabulary

LIMIT = 20  # words
WIDTH = 3  # of the beam
_ROWS = 500  # images at a time

States = list[np.ndarray]  # each (captions, ...)


class Teller(Protocol):
    """What says word after word."""

    def look(self, features: np.ndarray) -> States:
        """What is known of some images, (images, width), before the first word."""
        ...

    def step(self, numbers: np.ndarray, states: States) -> tuple[np.ndarray, States]:
        """From words (captions,) and states to logits (captions, words) and the states after them."""
        ...


class KerasTeller:
    """Tells with a model of `model.build`, all captions at once."""

    def __init__(self, model: keras.Model):
        self._look, self._stepper = model.get_layer("look"), networks.stepper(model)
        self._units = [layer.units for layer in networks.recurrent_layers(model)]

    def look(self, features: np.ndarray) -> States:
        zeros = [np.zeros((len(features), units), "float32") for units in self._units for _ in "hc"]
        return [self._look.predict_on_batch(features), *zeros]

    def step(self, numbers: np.ndarray, states: States) -> tuple[np.ndarray, States]:
        logits, *new = self._stepper.predict_on_batch([numbers[:, None].astype("int32"), *states])
        return logits, [states[0], *new]


class FileTeller:
    """Tells with exported files, caption by caption, as a phone does.

    Args:
        path: The streaming file of "tell"; that of "look" lies beside it (`look_beside`).
        threads: For LiteRT.

    Raises:
        DataError: If a file isn't there, or isn't one of those that training exports.
    """

    def __init__(self, path: Path, threads: int = 1):
        self._interpreters = [_open(file, threads) for file in (look_beside(path), path)]
        looking, telling = self._interpreters
        try:
            self._look = looking.get_signature_runner()
            self._initial, self._step = (telling.get_signature_runner(n) for n in ("initial_state", "step"))
        except ValueError as error:
            raise DataError(
                f"{path} is no captioning model: expected signatures initial_state and step ({error})."
            ) from error
        self._image = next(iter(self._look.get_input_details()))

    def look(self, features: np.ndarray) -> States:
        wanted = tuple(self._look.get_input_details()[self._image]["shape"])
        if features.shape[1:] != wanted[1:]:
            raise DataError(
                f"The model reads features of width {wanted[-1]}. Received: {features.shape[-1]}. "
                "Give it the features it was trained on."
            )
        seen = [next(iter(self._look(**{self._image: row[None]}).values())) for row in features]
        start = self._initial()
        self._names = list(start)
        return [np.concatenate(seen), *(np.repeat(start[name], len(features), 0) for name in self._names)]

    def step(self, numbers: np.ndarray, states: States) -> tuple[np.ndarray, States]:
        found = []
        for row, number in enumerate(numbers):
            seen, *given = (state[row : row + 1] for state in states)
            outputs = self._step(
                word=np.array([[number]], "int32"), seen=seen, **dict(zip(self._names, given, strict=True))
            )
            after = [outputs.pop(name) for name in self._names]
            found.append([next(iter(outputs.values()))[:, 0], *after])
        logits, *new = (np.concatenate(parts) for parts in zip(*found, strict=True))
        return logits, [states[0], *new]


def look_beside(path: Path) -> Path:
    """Where the file of "look" lies that belongs to one of "tell": gp-seed0.float32.tflite, gp-seed0.float32.look.tflite."""
    return path.with_name(f"{path.name.removesuffix('.tflite')}.look.tflite")


def _open(path: Path, threads: int):
    from ai_edge_litert.interpreter import Interpreter

    if not path.is_file():
        raise DataError(
            f"No file {path}. Expected one that training exported, and its .look.tflite beside it."
        )
    try:
        return Interpreter(str(path), num_threads=threads)
    except ValueError as error:
        raise DataError(f"{path} is no TFLite file ({error}). Export it again.") from error


def greedy(teller: Teller, features: np.ndarray, limit: int = LIMIT) -> list[list[int]]:
    """The likeliest word after each word; of each image the numbers up to STOP, which is left out."""
    return beam(teller, features, width=1, limit=limit)


def beam(teller: Teller, features: np.ndarray, width: int = WIDTH, limit: int = LIMIT) -> list[list[int]]:
    """The likeliest caption found with the `width` best beginnings kept after every word, all images together.

    Args:
        teller: What says words.
        features: (images, width of the features).
        width: Beginnings kept for each image.
        limit: Most words in a caption.

    Returns:
        Of each image the numbers of its words.
    """
    images = len(features)
    states = teller.look(features)
    _, states = teller.step(np.full(images, LOOK), states)
    logits, states = teller.step(np.full(images, STOP), states)
    totals = _log_probabilities(logits)
    words = _best(totals, width)
    scores = np.take_along_axis(totals, words, 1)
    told = words[:, :, None]
    states = [np.repeat(state, width, 0) for state in states]
    while told.shape[2] < limit and (told[:, :, -1] > STOP).any():
        logits, states = teller.step(told[:, :, -1].ravel(), states)
        further = _log_probabilities(logits).reshape(images, width, -1)
        over = told[:, :, -1] <= STOP
        further[over] = -np.inf
        further[over, STOP] = 0.0  # a caption that is over stays as it is
        totals = (scores[:, :, None] + further).reshape(images, -1)
        best = _best(totals, width)
        scores = np.take_along_axis(totals, best, 1)
        parents, words = np.divmod(best, further.shape[-1])
        told = np.concatenate([np.take_along_axis(told, parents[:, :, None], 1), words[:, :, None]], 2)
        rows = (parents + np.arange(images)[:, None] * width).ravel()
        states = [state[rows] for state in states]
    chosen = told[np.arange(images), scores.argmax(1)]
    return [[int(n) for n in row[: _end(row)]] for row in chosen]


def _end(row: np.ndarray) -> int:
    return next((i for i, number in enumerate(row) if number <= STOP), len(row))


def _log_probabilities(logits: np.ndarray) -> np.ndarray:
    """Of each word; LOOK is never said."""
    logits = logits.astype("float32")
    logits[:, LOOK] = -np.inf
    logits -= logits.max(1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(1, keepdims=True))


def _best(scores: np.ndarray, width: int) -> np.ndarray:
    """Where the `width` largest of each row lie."""
    return np.argpartition(scores, -width, axis=1)[:, -width:]


def captions(
    teller: Teller,
    features: np.ndarray,
    vocabulary: Vocabulary,
    search: Callable[..., list[list[int]]] = greedy,
) -> list[str]:
    """Captions of many images, in words, some hundred images at a time."""
    return [
        vocabulary.decode(numbers)
        for i in range(0, len(features), _ROWS)
        for numbers in search(teller, features[i : i + _ROWS])
    ]
