"""Make a trained model smaller without training it again.

Two LSTM layers tell sine, square, saw and triangle waves apart in noise. `keras_iss.prune` zeroes the weakest
units of the trained model, `keras_iss.strip` removes them, and a table shows what each size costs in accuracy.
"""

import keras
import numpy as np

import keras_iss


def waves(count, seed, steps=32):
    """Noisy waves of four shapes, random in length and phase: (count, steps, 1), and which shape: (count,)."""
    rng = np.random.default_rng(seed)
    shape = rng.integers(0, 4, count)
    cycles, phase = rng.uniform(1.5, 4, (count, 1)), rng.uniform(0, 1, (count, 1))
    t = (phase + cycles * np.arange(steps) / steps) % 1
    clean = np.stack([np.sin(2 * np.pi * t), np.sign(t - 0.5), 2 * t - 1, 1 - 4 * np.abs(t - 0.5)])
    noisy = clean[shape, np.arange(count)] + 0.3 * rng.normal(size=(count, steps))
    return noisy[..., None].astype("float32"), shape


def main():
    keras.utils.set_random_seed(0)
    x, y = waves(4000, seed=0)
    x_new, y_new = waves(2000, seed=1)
    model = keras.Sequential(
        [
            keras.Input((32, 1)),
            keras.layers.LSTM(64, return_sequences=True, name="lower"),
            keras.layers.LSTM(64, name="upper"),
            keras.layers.Dense(4, activation="softmax"),
        ]
    )
    model.compile(keras.optimizers.Adam(3e-3), "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(x, y, batch_size=64, epochs=6, verbose=2)
    dense_parameters = model.count_params()
    accuracy = model.evaluate(x_new, y_new, verbose=0)[1]
    print(keras_iss.trace(model))

    print(f"\n{'units kept':>10} {'parameters':>10} {'accuracy':>8}")
    print(f"{'all':>10} {dense_parameters:>10,} {accuracy:>8.1%}")
    for keep in (0.95, 0.9, 0.8, 0.7, 0.5):
        small = keras_iss.strip(keras_iss.prune(model, keep))
        accuracy = small.evaluate(x_new, y_new, verbose=0)[1]
        print(f"{keep:>10.0%} {small.count_params():>10,} {accuracy:>8.1%}")


if __name__ == "__main__":
    main()
