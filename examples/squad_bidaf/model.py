"""BiDAF (Seo et al., ICLR 2017, arXiv 1611.01603): where in a text the answer to a question begins and ends."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from squad_bidaf import text

MODELLING = ("modelling_1", "modelling_2")
OUTPUT = "output"


@dataclasses.dataclass(frozen=True)
class Network:
    """A network's shape; the defaults are the paper's, but for GloVe vectors of 50 in place of 100.

    Attributes:
        units: Of each direction of each recurrent layer.
        letter_size: Of a letter's vector.
        filters, kernel: Of the convolution over a word's letters.
        letters: Of a word, at most.
        dropout: Share of the features dropped before each recurrent and output layer, the same ones at all words.
    """

    units: int = 100
    letter_size: int = 8
    filters: int = 100
    kernel: int = 5
    letters: int = 16
    dropout: float = 0.2

    def __post_init__(self):
        if self.letters < self.kernel:
            raise ValueError(
                f"Invalid value for argument letters. Expected at least kernel={self.kernel}. Received: letters={self.letters}"
            )


def build(network: Network, vectors: np.ndarray) -> keras.Model:
    """From words and letters to the logits of where the answer begins and ends.

    Args:
        network: The shape.
        vectors: The vocabulary's GloVe vectors (words, features). They aren't trained.

    Returns:
        A model of four whole-number inputs, `context` and `question` (batch, words), `context_letters` and
        `question_letters` (batch, words, letters), where word 0 is padding; its outputs `start` and `end`
        (batch, words of the context) are logits, -1e9 at padding.
    """
    given = {name: keras.Input((None,), dtype="int32", name=name) for name in ("context", "question")}
    spelled = {
        name: keras.Input((None, network.letters), dtype="int32", name=f"{name}_letters") for name in given
    }
    mask = {name: ops.not_equal(words, text.PADDING) for name, words in given.items()}
    embed, read = _embedding(network, vectors), _reader(network, "contextual")
    h, u = (read(embed(given[name], spelled[name]), mask[name]) for name in ("context", "question"))
    g = _attention_flow(h, u, ops.expand_dims(mask["question"], 1), ops.expand_dims(mask["context"], 2))
    start, end = _modelling(network, g, mask["context"])
    return keras.Model([*given.values(), *spelled.values()], {"start": start, "end": end}, name="bidaf")


def _dropped(network: Network, x: Any) -> Any:
    return layers.SpatialDropout1D(network.dropout)(x) if network.dropout else x


def _reader(network: Network, name: str) -> Callable[[Any, Any], Any]:
    """A bidirectional LSTM that skips padding, and gives 0 there."""
    lstm = layers.LSTM(network.units, return_sequences=True, name="lstm")
    both = layers.Bidirectional(lstm, name=name)

    def read(x: Any, mask: Any) -> Any:
        # The product is also where Keras's own mask ends, which Dense and others would hand on to layers that fail on it.
        return both(_dropped(network, x), mask=mask) * ops.expand_dims(ops.cast(mask, x.dtype), 2)

    return read


def _embedding(network: Network, vectors: np.ndarray) -> Callable[[Any, Any], Any]:
    """A word's vector: GloVe's beside what a convolution makes of its letters, mixed by two highway layers."""
    table = np.concatenate([np.zeros((text.KNOWN, vectors.shape[1])), vectors])
    width = network.filters + vectors.shape[1]
    look_up = layers.Embedding(*table.shape, mask_zero=True, trainable=False, name="glove")
    look_up.build((None, None))
    look_up.set_weights([table])
    letters = layers.Embedding(text.LETTERS, network.letter_size, name="letters")
    convolve = layers.Conv2D(network.filters, (1, network.kernel), activation="relu", name="spelling")
    highway = [_highway(width, f"highway_{n}") for n in (1, 2)]

    def embed(words: Any, spelled: Any) -> Any:
        x = ops.concatenate([look_up(words), ops.max(convolve(letters(spelled)), axis=2)], axis=-1)
        for layer in highway:
            x = layer(x)
        return x

    return embed


def _highway(width: int, name: str) -> Callable[[Any], Any]:
    """x + t · (relu(W x) - x); the gate t starts at about 0.3, so that x mostly passes at first."""
    change = layers.Dense(width, activation="relu", name=f"{name}_change")
    gate = layers.Dense(
        width, activation="sigmoid", bias_initializer=keras.initializers.Constant(-1.0), name=f"{name}_gate"
    )

    def highway(x: Any) -> Any:
        return x + gate(x) * (change(x) - x)

    return highway


def _attention_flow(h: Any, u: Any, question_mask: Any, context_mask: Any) -> Any:
    """G = [h; ũ; h∘ũ; h∘h̃] (section 2, layer 4): 8 · units features from h (context) and u (question).

    The similarity of two words is w · [h; u; h∘u] = [h; a; 1] · [w'∘u; 1; b], where a is the part of h alone and b that
    of u: one matrix product. (With sums of a row and a column instead, LiteRT's file of open length is wrong.)
    """
    weighted = layers.DepthwiseConv1D(1, use_bias=False, name="similarity_product")(u)
    of_context = layers.Dense(1, use_bias=False, name="similarity_context")(h)
    of_question = layers.Dense(1, use_bias=False, name="similarity_question")(u)
    one, one_too = ops.ones_like(of_context), ops.ones_like(of_question)
    similarity = ops.matmul(
        ops.concatenate([h, of_context, one], axis=-1),
        _turned(ops.concatenate([weighted, one_too, of_question], axis=-1)),
    )
    u_seen = ops.matmul(_softmax(similarity, question_mask, axis=2), u)
    best = ops.max(similarity + _hidden(question_mask), axis=2, keepdims=True)
    h_seen = ops.matmul(_turned(_softmax(best, context_mask, axis=1)), h)
    return ops.concatenate([h, u_seen, h * u_seen, h * h_seen], axis=-1)


def _modelling(network: Network, g: Any, mask: Any) -> tuple[Any, Any]:
    """Start from [G; M], end from [G; M²], where M² reads [G; M; m; M∘m] and m is M at the likely start."""
    m = g
    for name in MODELLING:
        m = _reader(network, name)(m, mask)
    steps = ops.expand_dims(mask, 2)
    start = _pointer(network, "start", g, m)
    likely = ops.sum(m * _softmax(start, steps, axis=1), axis=1, keepdims=True)
    likely = likely * ops.cast(steps, g.dtype)  # the same at every word
    m2 = _reader(network, OUTPUT)(ops.concatenate([g, m, likely, m * likely], axis=-1), mask)
    end = _pointer(network, "end", g, m2)
    return _masked("start", start, mask), _masked("end", end, mask)


def _turned(x: Any) -> Any:
    return ops.transpose(x, (0, 2, 1))


def _hidden(mask: Any) -> Any:
    """What is added to logits to hide padding."""
    return ops.cast(ops.logical_not(mask), "float32") * -1e9


def _softmax(x: Any, mask: Any, *, axis: int) -> Any:
    return ops.softmax(x + _hidden(mask), axis=axis)


def _pointer(network: Network, name: str, g: Any, m: Any) -> Any:
    seen = _dropped(network, ops.concatenate([g, m], axis=-1))
    # Without a bias, which falls out of the softmax.
    return layers.Dense(1, use_bias=False, name=f"{name}_pointer")(seen)


def _masked(name: str, logits: Any, mask: Any) -> Any:
    return layers.Add(name=name)([ops.squeeze(logits, 2), _hidden(mask)])


def probabilities(model: keras.Model) -> keras.Model:
    """The model that is exported: probabilities in place of logits, 0 at padding."""
    found = {
        name: layers.Softmax(name=f"{name}_probability")(model.output[name]) for name in ("start", "end")
    }
    return keras.Model(model.input, found, name="bidaf")


def six() -> list[str]:
    """The names of the six structures that the paper makes smaller: both directions of the three last layers."""
    return [f"{layer}/{way}" for layer in (*MODELLING, OUTPUT) for way in ("forward", "backward")]


def recurrent_weights(model: keras.Model, *names: str) -> list:
    """The weights of all recurrent layers, or of those named, for counting."""
    chosen = [layer for layer in model.layers if isinstance(layer, layers.Bidirectional)]
    return [v for layer in chosen if not names or layer.name in names for v in layer.trainable_weights]
