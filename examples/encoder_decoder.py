"""Shrink an encoder and a decoder together.

The model writes numbers in Roman numerals: an LSTM reads the digits, and its last state starts a second LSTM that
writes the letters. Handing the state over ties unit k of the one to unit k of the other, so both lose the same
units. The trace shows it as one structure.
"""

import keras
import numpy as np
from keras import layers

import keras_iss

LETTERS = "$^IVXLCDM"  # end, begin, numerals
LONGEST = 15  # MMMDCCCLXXXVIII


def roman(number):
    values = (1000, 900, 500, 400, 100, 90, 50, 40, 10, 9, 5, 4, 1)
    numerals = ("M", "CM", "D", "CD", "C", "XC", "L", "XL", "X", "IX", "V", "IV", "I")
    text = ""
    for value, numeral in zip(values, numerals, strict=True):
        text += numeral * (number // value)
        number %= value
    return text


def examples(numbers):
    """Digits (count, 4); letters behind a begin sign (count, 16); letters before an end sign (count, 16)."""
    digits = np.array([[int(c) for c in f"{n:04d}"] for n in numbers])
    letters = np.array([[LETTERS.index(c) for c in f"^{roman(n)}".ljust(LONGEST + 2, "$")] for n in numbers])
    return [digits, letters[:, :-1]], letters[:, 1:]


def build(units=96):
    digits, letters = keras.Input((4,), name="digits"), keras.Input((LONGEST + 1,), name="letters")
    _, *state = layers.LSTM(units, return_state=True, name="encoder")(
        layers.Embedding(10, 16, name="digit")(digits)
    )
    decoder = layers.LSTM(units, return_sequences=True, name="decoder")
    written = decoder(layers.Embedding(len(LETTERS), 16, name="letter")(letters), initial_state=state)
    following = layers.Dense(len(LETTERS), activation="softmax", name="following")(written)
    model = keras.Model([digits, letters], following)
    model.compile(keras.optimizers.Adam(1e-2), "sparse_categorical_crossentropy")
    return model


def write(model, numbers):
    """Writes letter by letter, each from those before it."""
    (digits, letters), _ = examples(numbers)
    letters[:, 1:] = 0
    for position in range(LONGEST):
        letters[:, position + 1] = model.predict_on_batch([digits, letters])[:, position].argmax(-1)
    return ["".join(LETTERS[i] for i in row[1:]).partition("$")[0] for row in letters]


def main():
    keras.utils.set_random_seed(0)
    numbers = np.random.default_rng(0).permutation(np.arange(1, 4000))
    known, unknown = numbers[:3600], numbers[3600:]
    model = build()
    print(keras_iss.trace(model))
    x, y = examples(known)
    pruning = keras_iss.callbacks.ISSPruning(target=0.5)
    model.fit(x, y, batch_size=64, epochs=8, verbose=2, callbacks=[pruning])

    small = keras_iss.strip(model)
    print(keras_iss.report(small, baseline=build()))
    written = write(small, unknown)
    right = np.mean([text == roman(n) for text, n in zip(written, unknown, strict=True)])
    print(f"{unknown[0]} = {written[0]}, {unknown[1]} = {written[1]}; {right:.1%} of unseen numbers right")


if __name__ == "__main__":
    main()
