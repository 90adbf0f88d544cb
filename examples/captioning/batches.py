"""Captions in batches of like length: few shapes to compile, little padding."""

from __future__ import annotations

import keras
import numpy as np

from captioning.data import LOOK, STOP, Images, Vocabulary

LENGTHS = (8, 11, 14, 20)  # words; a caption is padded to the next, and cut after the last


class Batches(keras.utils.PyDataset):
    """Captions with their images' features: x = {"image": (batch, width), "word": (batch, steps)}, y (batch, steps).

    The words of an input are LOOK, STOP, w_1 … w_n; the outputs asked for are nothing (LOOK, which isn't counted),
    w_1 … w_n, STOP. For training every batch is full, and the order depends on nothing but the seed and the epoch's
    number, so that a resumed training sees what an uninterrupted one sees.

    Args:
        images: What to take; every caption is one example.
        vocabulary: Numbers the words.
        batch_size: Captions in a batch.
        seed: Of the order, for training; None: every caption once, the last batch of each length filled up with
            captions that count nothing.
    """

    def __init__(self, images: Images, vocabulary: Vocabulary, batch_size: int, seed: int | None = None):
        super().__init__()
        self.images, self.batch_size, self.seed = images, batch_size, seed
        coded = [
            (row, vocabulary.encode(caption))
            for row, several in enumerate(images.captions)
            for caption in several
        ]
        coded = [(row, numbers) for row, numbers in coded if numbers]
        self.rows = np.array([row for row, _ in coded])
        self.inputs = np.full((len(coded), LENGTHS[-1] + 2), LOOK, "int32")
        self.outputs = np.full_like(self.inputs, LOOK)
        for x, y, (_, numbers) in zip(self.inputs, self.outputs, coded, strict=True):
            x[1 : len(numbers) + 2] = [STOP, *numbers][: LENGTHS[-1] + 1]
            y[1 : len(numbers) + 2] = [*numbers, STOP][: LENGTHS[-1] + 1]
        lengths = (self.outputs != LOOK).sum(1) - 1
        self.bucket = np.searchsorted(LENGTHS, np.minimum(lengths, LENGTHS[-1]))
        self.begin(0)

    def begin(self, epoch: int) -> None:
        """Lays out the batches of an epoch."""
        random = None if self.seed is None else np.random.default_rng([self.seed, epoch])
        self.batches: list[tuple[int, np.ndarray]] = []
        for bucket, length in enumerate(LENGTHS):
            members = np.flatnonzero(self.bucket == bucket)
            if not len(members):
                continue
            if random is not None:
                members = random.permutation(members)
                spare = -len(members) % self.batch_size
                members = np.concatenate([members, random.choice(members, spare)])
            self.batches += [
                (length + 2, members[i : i + self.batch_size])
                for i in range(0, len(members), self.batch_size)
            ]
        if random is not None:
            random.shuffle(self.batches)

    def for_fit(self):
        """What `fit` takes. On TensorFlow a dataset of open length: Keras would take it from the first batches."""
        if keras.backend.backend() != "tensorflow":
            return self
        import tensorflow as tf

        words = tf.TensorSpec((self.batch_size, None), "int32")
        image = tf.TensorSpec((self.batch_size, self.images.features.shape[1]), "float32")
        dataset = tf.data.Dataset.from_generator(
            lambda: (self[i] for i in range(len(self))),
            output_signature=({"image": image, "word": words}, words),
        )
        return dataset.apply(tf.data.experimental.assert_cardinality(len(self))).prefetch(2)

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
        steps, members = self.batches[index]
        spare = self.batch_size - len(members)
        x = {"image": self.images.features[self.rows[members]], "word": self.inputs[members, :steps]}
        y = np.pad(self.outputs[members, :steps], ((0, spare), (0, 0)), constant_values=LOOK)
        return {name: np.pad(part, ((0, spare), (0, 0))) for name, part in x.items()}, y
