"""The language models: stacked LSTMs (Zaremba et al., arXiv 1409.2329) and variational recurrent highway networks."""

from __future__ import annotations

import dataclasses

import keras
import numpy as np
from keras import layers

import keras_iss


@dataclasses.dataclass(frozen=True)
class Network:
    """A network's shape.

    Attributes:
        recurrent: "lstm", or "rhn": a variational recurrent highway network (Zilly et al., arXiv 1607.03474).
        vocabulary: How many words there are.
        embedding: Width of a word's vector.
        units: Width of each recurrent layer.
        depth: Highway layers per step of an RHN.
        tied: Whether the words' vectors are the output's weights, too; the last layer is then as wide as they are.
        initial: Weights are drawn evenly from -initial to initial.
        dropout: Share of the values dropped after the embedding and after each LSTM, in training.
        drop_words, drop_input, drop_state, drop_output: The four dropouts of an RHN: of whole words, and of the layer's
            input, state and output, the same at all steps of a sequence.
    """

    recurrent: str = "lstm"
    vocabulary: int = 10_000
    embedding: int = 200
    units: tuple[int, ...] = (200, 200)
    depth: int = 1
    tied: bool = False
    initial: float = 0.1
    dropout: float = 0.0
    drop_words: float = 0.0
    drop_input: float = 0.0
    drop_state: float = 0.0
    drop_output: float = 0.0

    def __post_init__(self):
        if self.recurrent not in ("lstm", "rhn"):
            raise ValueError(
                f"Invalid value for argument recurrent. Expected 'lstm' or 'rhn'. Received: {self.recurrent!r}"
            )
        if self.tied and self.units[-1] != self.embedding:
            raise ValueError(
                "Invalid value for argument tied. Expected the last layer to be as wide as the embedding. "
                f"Received: units={self.units}, embedding={self.embedding}"
            )


def build(
    network: Network, batch: int | None = None, steps: int | None = None, *, stateful: bool = False
) -> keras.Model:
    """From words (batch, steps), int32, to logits (batch, steps, vocabulary).

    Args:
        network: The shape.
        batch, steps: Fixed sizes; None leaves them open.
        stateful: Whether a batch goes on with the states that the one before left; needs `batch`.
    """
    uniform = keras.initializers.RandomUniform(-network.initial, network.initial)
    inputs = keras.Input(batch_shape=(batch, steps), dtype="int32", name="words")
    table = layers.ReversibleEmbedding if network.tied else layers.Embedding
    embedding = table(network.vocabulary, network.embedding, embeddings_initializer=uniform, name="embedding")
    x = embedding(inputs)
    if network.drop_words:
        x = layers.Dropout(network.drop_words, noise_shape=(None, None, 1), name="drop_words")(x)
    if network.dropout:
        x = layers.Dropout(network.dropout, name="dropout_0")(x)
    for n, units in enumerate(network.units, 1):
        kind = _lstm if network.recurrent == "lstm" else _rhn
        x = kind(network, n, units, uniform, stateful)(x)
        if network.dropout:
            x = layers.Dropout(network.dropout, name=f"dropout_{n}")(x)
    if network.tied:
        logits = embedding(x, reverse=True)
    else:
        logits = layers.Dense(network.vocabulary, kernel_initializer=uniform, name="logits")(x)
    return Carrying(inputs, logits, name="ptb_lm") if stateful else keras.Model(inputs, logits, name="ptb_lm")


class Carrying(keras.Model):
    """A model whose stateful layers go on, from batch to batch, on every backend.

    On JAX, `fit` and `evaluate` hand a model's variables on to the next step, and Keras doesn't count the states of stateful
    layers among them: each batch would begin with the states that the epoch began with. It is trained, not saved: see `plain`.
    """

    @property
    def non_trainable_variables(self):
        states = [state for layer in recurrent_layers(self) for state in layer.states or ()]
        return [*super().non_trainable_variables, *states]


def plain(model: keras.Model) -> keras.Model:
    """The same layers in a model that is saved and loaded without this file."""
    return keras.Model(model.inputs, model.outputs, name=model.name)


def _lstm(network: Network, n: int, units: int, initializer, stateful: bool) -> keras.layers.Layer:
    return layers.LSTM(
        units,
        kernel_initializer=initializer,
        recurrent_initializer=initializer,
        unit_forget_bias=False,
        return_sequences=True,
        stateful=stateful,
        name=f"lstm_{n}",
    )


def _rhn(network: Network, n: int, units: int, initializer, stateful: bool) -> keras.layers.Layer:
    return keras_iss.layers.RHN(
        units,
        network.depth,
        kernel_initializer=initializer,
        recurrent_initializer=initializer,
        dropout=network.drop_input,
        recurrent_dropout=network.drop_state,
        output_dropout=network.drop_output,
        return_sequences=True,
        stateful=stateful,
        name=f"rhn_{n}",
    )


def recurrent_layers(model: keras.Model) -> list[keras.layers.RNN]:
    """The recurrent layers, in their order."""
    return [layer for layer in model.layers if isinstance(layer, keras.layers.RNN)]


def network_of(model: keras.Model, network: Network) -> Network:
    """The network with the widths that a stripped model has."""
    return dataclasses.replace(
        network,
        embedding=model.get_layer("embedding").output_dim,
        units=tuple(layer.units for layer in recurrent_layers(model)),
    )


def copy_weights(source: keras.Model, target: keras.Model) -> None:
    """Gives a model the trained weights of one with the same network, whatever their batches and states."""
    for old, new in zip(source.trainable_variables, target.trainable_variables, strict=True):
        # A copy: JAX would let both share a buffer, which training then gives away.
        new.assign(np.array(keras.ops.convert_to_numpy(old)))


def reset(model: keras.Model) -> None:
    """Sets all states to 0, as at the beginning of a text."""
    for layer in recurrent_layers(model):
        layer.reset_state()
