"""Learn which units of a Functional model can go, strip them, export and time both models.

Two sensors hear one knock; the model tells which heard it first. Each sensor has its own LSTM, a bidirectional
GRU reads both. `ISSPruning(target=0.7)` removes 70 % of the multiply-adds while the model trains.
"""

import tempfile
from pathlib import Path

import keras
import numpy as np
from keras import layers

import keras_iss
import tflite_export


def knocks(count, seed, steps=24):
    """What the left and the right sensor hear, (count, steps, 1) each, and whether the right one was first."""
    rng = np.random.default_rng(seed)
    right_first = rng.integers(0, 2, count)
    lag, start = rng.integers(1, 6, count), rng.integers(2, steps - 10, count)

    def heard(at):
        age = np.arange(steps) - at[:, None]
        sound = np.where(age >= 0, np.exp(-age / 3) * np.cos(1.3 * age), 0)
        return (sound + 0.15 * rng.normal(size=sound.shape))[..., None].astype("float32")

    return [heard(start + lag * right_first), heard(start + lag * (1 - right_first))], right_first


def build():
    left, right = keras.Input((24, 1), name="left"), keras.Input((24, 1), name="right")
    both = layers.Concatenate()(
        [
            layers.LSTM(48, return_sequences=True, name="left_ear")(left),
            layers.LSTM(48, return_sequences=True, name="right_ear")(right),
        ]
    )
    heard = layers.Dropout(0.1)(layers.Bidirectional(layers.GRU(48), name="judge")(both))
    model = keras.Model([left, right], layers.Dense(1, activation="sigmoid")(heard))
    model.compile(keras.optimizers.Adam(3e-3), "binary_crossentropy", metrics=["accuracy"])
    return model


def main():
    keras.utils.set_random_seed(0)
    x, y = knocks(2000, seed=0)
    x_new, y_new = knocks(1000, seed=1)
    model = build()
    dense = keras.models.clone_model(model)
    model.fit(
        x, y, batch_size=64, epochs=8, verbose=2, callbacks=[keras_iss.callbacks.ISSPruning(target=0.7)]
    )
    small = keras_iss.strip(model)
    print(keras_iss.report(small, baseline=dense))
    print(f"accuracy on new knocks: {small.evaluate(x_new, y_new, verbose=0)[1]:.1%}\n")

    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder, "dense.tflite"), Path(folder, "small.tflite")]
        tflite_export.export(dense, files[0])
        print(tflite_export.export(small, files[1]))
        print(tflite_export.benchmark(files))


if __name__ == "__main__":
    main()
