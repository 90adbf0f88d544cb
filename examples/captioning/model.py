"""NeuralTalk's network (Karpathy, Fei-Fei; Vinyals et al., arXiv 1411.4555): the image is an LSTM's first input."""

from __future__ import annotations

import dataclasses

import keras
from keras import layers, ops

import keras_iss
from captioning.data import LOOK

KINDS = ("lstm", "hlstm")


@dataclasses.dataclass(frozen=True)
class Network:
    """A network's shape.

    Attributes:
        embedding: Width of words and of the projected image.
        units: Of each recurrent layer.
        layers: Recurrent layers.
        dropout: Share of the values dropped before and after each recurrent layer, in training.
        recurrent: "lstm", or "hlstm" whose gates are small networks.
        gate_units: Widths of the hidden layers of an H-LSTM's gates.
        gate_dropout: Dropout inside those gates.
    """

    embedding: int = 512
    units: int = 512
    layers: int = 1
    dropout: float = 0.3
    recurrent: str = "lstm"
    gate_units: tuple[int, ...] = ()
    gate_dropout: float = 0.0

    def __post_init__(self):
        if self.recurrent not in KINDS:
            raise ValueError(
                f"Invalid value for argument recurrent. Expected one of {KINDS}. Received: {self.recurrent!r}"
            )

    def recurrent_names(self) -> list[str]:
        """The recurrent layers' names, in order."""
        return [f"{self.recurrent}_{n}" for n in range(1, self.layers + 1)]


def build(network: Network, width: int, vocabulary: int, scale: float = 1.0) -> keras.Model:
    """From an image's features (batch, width) and words (batch, steps) to logits of the next words (batch, steps, words).

    It is made of two models, which are exported apart, for the image is looked at only once: "look", from features to
    the LSTM's first input, and "tell", from words and that input to logits.

    Args:
        network: Its shape.
        width: Of the features.
        vocabulary: How many words there are, LOOK and STOP included.
        scale: What the features are multiplied with, so that they are about as large as words' embeddings are.
    """
    look, tell = _look(network, width, scale), _tell(network, vocabulary)
    image, word = keras.Input((width,), name="image"), keras.Input((None,), dtype="int32", name="word")
    return keras.Model(
        {"image": image, "word": word}, tell({"seen": look(image), "word": word}), name="captioning"
    )


def _look(network: Network, width: int, scale: float) -> keras.Model:
    image = keras.Input((width,), name="image")
    scaled = layers.Rescaling(scale, name="image_scale")(image)
    return keras.Model(image, layers.Dense(network.embedding, name="image_projection")(scaled), name="look")


def _tell(network: Network, vocabulary: int) -> keras.Model:
    seen = keras.Input((network.embedding,), name="seen")
    word = keras.Input((None,), dtype="int32", name="word")
    x = first_input(layers.Embedding(vocabulary, network.embedding, name="word_embedding"), word, seen)
    for n, name in enumerate(network.recurrent_names(), start=1):
        x = layers.Dropout(network.dropout, name=f"dropout_{n}")(x)
        x = _recurrent(network, name)(x)
    x = layers.Dropout(network.dropout, name="dropout_out")(x)
    return keras.Model(
        {"seen": seen, "word": word}, layers.Dense(vocabulary, name="next_word")(x), name="tell"
    )


def first_input(embedding: keras.Layer, word, seen):
    """What the LSTM reads: the word's embedding, and where the word is LOOK, what is seen besides. (batch, steps, width)."""
    looking = ops.expand_dims(ops.cast(ops.equal(word, LOOK), "float32"), -1)
    return layers.Add(name="input")(
        [embedding(word), layers.Multiply(name="seen_once")([looking, ops.expand_dims(seen, 1)])]
    )


def _recurrent(network: Network, name: str) -> keras.Layer:
    if network.recurrent == "lstm":
        return layers.LSTM(network.units, return_sequences=True, name=name)
    return keras_iss.layers.HLSTM(
        network.units,
        gate_units=network.gate_units,
        gate_dropout=network.gate_dropout,
        kernel_initializer="he_uniform",  # with half of them missing, gates start as large as an LSTM's
        return_sequences=True,
        name=name,
    )


class Taught(keras.Model):
    """Trains a captioning model on captions and on what another one would write next.

    Per word that is asked for, the loss is (1 - share) of the cross-entropy and `share` of the Kullback-Leibler divergence
    from the teacher's predictions. Keras's own `Distiller` would count the words that fill up, too. Judged is the
    cross-entropy alone.

    Args:
        student: What learns, a model of `build`.
        teacher: A trained one with the same vocabulary; it isn't changed.
        share: Of the loss.
    """

    def __init__(self, student: keras.Model, teacher: keras.Model, share: float):
        super().__init__(name="captioning_taught")
        teacher.trainable = False
        self.student, self.teacher, self.share = student, teacher, share
        self(student.input)  # builds it

    def call(self, inputs, training=None):
        return self.student(inputs, training=training)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        loss = super().compute_loss(x, y, y_pred, sample_weight, training)
        if not training:
            return loss
        told = ops.log_softmax(self.teacher(x, training=False))
        divergence = ops.sum(ops.exp(told) * (told - ops.log_softmax(y_pred)), axis=-1)
        asked = ops.cast(ops.not_equal(y, LOOK), divergence.dtype)
        return (1 - self.share) * loss + self.share * ops.sum(divergence * asked) / ops.sum(asked)


def writer(model: keras.Model) -> keras.Model:
    """What writes the captions: the model, or the one that is taught."""
    return model.student if isinstance(model, Taught) else model


def recurrent_layers(model: keras.Model) -> list[keras.layers.RNN]:
    """The recurrent layers of a captioning model, in order."""
    return [layer for layer in model.get_layer("tell").layers if isinstance(layer, keras.layers.RNN)]


def stepper(model: keras.Model) -> keras.Model:
    """One word further: from word (batch, 1), seen and the states h and c of every layer to logits and new states.

    It shares the weights of the model.
    """
    tell = model.get_layer("tell")
    embedding = tell.get_layer("word_embedding")
    word, seen = keras.Input((1,), dtype="int32"), keras.Input((embedding.output_dim,))
    x = first_input(embedding, word, seen)
    given, new = [], []
    for layer in recurrent_layers(model):
        states = [keras.Input((layer.units,)) for _ in "hc"]
        step = layers.RNN(layer.cell, return_sequences=True, return_state=True, unroll=True)
        x, *after = step(x, initial_state=states)
        given += states
        new += after
    return keras.Model([word, seen, *given], [tell.get_layer("next_word")(x)[:, 0], *new], name="stepper")
