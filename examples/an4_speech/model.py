"""The network after Deep Speech 2 (Amodei et al., arXiv 1512.02595): convolution, recurrent layers, characters."""

from __future__ import annotations

import dataclasses

import keras
from keras import layers

import keras_iss
from an4_speech.batches import STACKED
from an4_speech.decode import ALPHABET
from an4_speech.features import MELS


@dataclasses.dataclass(frozen=True)
class Network:
    """A network's shape.

    Attributes:
        filters, kernel: Of the convolution over steps of three frames.
        units: Of each direction of each recurrent layer.
        layers: Recurrent layers.
        dropout: Share of the values dropped between layers, in training.
        recurrent: "lstm", or "hlstm" whose gates are small networks.
        gate_units: Widths of the hidden layers of an H-LSTM's gates.
        gate_dropout: Dropout inside those gates.
        kernel_initializer: Of an H-LSTM's kernels: Keras's own for a layer starts gates that have a hidden layer too
            weak (in the second layer they'd vary half as much as an LSTM's), and epochs pass until they work.
        bidirectional: False: convolution and recurrence look back only, so that the model streams.
    """

    filters: int = 192
    kernel: int = 3
    units: int = 128
    layers: int = 2
    dropout: float = 0.3
    recurrent: str = "lstm"
    gate_units: tuple[int, ...] = ()
    gate_dropout: float = 0.0
    kernel_initializer: str = "he_uniform"
    bidirectional: bool = True


def build(network: Network) -> keras.Model:
    """From x (batch, steps, 3 · 64) to logits (batch, steps, characters); 0 is the blank."""
    inputs = keras.Input((None, STACKED * MELS), name="log_mel")
    x = layers.Conv1D(
        network.filters,
        network.kernel,
        padding="same" if network.bidirectional else "causal",
        use_bias=False,
        name="front",
    )(inputs)
    x = layers.BatchNormalization(name="front_norm")(x)
    x = layers.ReLU(name="front_relu")(x)
    for n in range(1, network.layers + 1):
        x = layers.Dropout(network.dropout, name=f"dropout_{n}")(x)
        x = _recurrent(network, n)(x)
    x = layers.Dropout(network.dropout, name="dropout_out")(x)
    return keras.Model(inputs, layers.Dense(len(ALPHABET), name="characters")(x), name="an4")


def recurrent_name(network: Network, n: int) -> str:
    """Name of the n-th recurrent layer, counted from 1."""
    return f"both_{n}" if network.bidirectional else f"{network.recurrent}_{n}"


def _recurrent(network: Network, n: int) -> keras.layers.Layer:
    if network.recurrent == "lstm":
        layer = layers.LSTM(network.units, return_sequences=True, name=f"lstm_{n}")
    elif network.recurrent == "hlstm":
        layer = keras_iss.layers.HLSTM(
            network.units,
            gate_units=network.gate_units,
            gate_dropout=network.gate_dropout,
            kernel_initializer=network.kernel_initializer,
            return_sequences=True,
            name=f"hlstm_{n}",
        )
    else:
        raise ValueError(
            f"Invalid value for argument recurrent. Expected 'lstm' or 'hlstm'. Received: {network.recurrent!r}"
        )
    return layers.Bidirectional(layer, name=recurrent_name(network, n)) if network.bidirectional else layer


def recurrent_weights(model: keras.Model) -> list:
    """The weights of all recurrent layers, for counting."""
    recurrent = (keras.layers.RNN, keras.layers.Bidirectional)
    return [v for layer in model.layers if isinstance(layer, recurrent) for v in layer.trainable_weights]
