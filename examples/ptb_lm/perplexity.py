"""Perplexity, counted as everyone does on this set: the state carried through the whole text, every word counted once."""

from __future__ import annotations

import math

import keras
import numpy as np

from ptb_lm import data
from ptb_lm.model import Network, build, copy_weights, reset


class Scorer:
    """Perplexity of one text under models of one network: exp of the mean of -log p(word | all words before it).

    With `streams=1` the text is read from its first word to its last in one go, which is exact. More streams read as
    many parts of it beside each other, each from a state of 0, which is faster and comes out a little higher; the
    published training logs do so with 20 for the validation set.

    Args:
        network: Of the models.
        ids: The text; its first word isn't predicted.
        streams: Parts read beside each other.
        steps: Words per call.
    """

    def __init__(self, network: Network, ids: np.ndarray, streams: int = 1, steps: int = 400):
        self.x, self.y, self.weights = data.whole(ids, streams, steps)
        self.streams = streams
        self.model = build(network, streams, self.x.shape[1], stateful=True)
        # A weighted metric, because a loss is divided by the number of words, those that fill up included.
        self.model.compile(
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            weighted_metrics=[keras.metrics.SparseCategoricalCrossentropy(from_logits=True, name="nats")],
            jit_compile=keras.backend.backend() == "jax",
        )

    def __call__(self, model: keras.Model) -> float:
        copy_weights(model, self.model)
        reset(self.model)
        found = self.model.evaluate(
            self.x, self.y, self.streams, sample_weight=self.weights, verbose=0, return_dict=True
        )
        return math.exp(found["nats"])
