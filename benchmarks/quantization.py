"""What every recipe of `export` costs in accuracy, and what it saves in bytes and time, on two trained models.

The demo's language model (two LSTM of 256 units on characters, a few epochs) is judged in bits per character on
text it hasn't seen; a classifier of spoken digits (LSTM 96, GRU 64 on mel energies) in percent wrong on the test
recordings of the Free Spoken Digit Dataset. `--data` names the folder that holds that set's zip archive.

    KERAS_BACKEND=tensorflow python benchmarks/quantization.py --data DIR --output docs/results/quantization.json

Trained models are kept in `--models` and used again.
"""

from __future__ import annotations

import argparse
import io
import json
import platform
import tempfile
import wave
import zipfile
from pathlib import Path

import keras
import numpy as np
from keras import layers

import tflite_export
from keras_iss.demo import data as text
from keras_iss.demo import training

RECIPES = (None, "float16", "dynamic_int8", "int8")
STEPS = 48  # frames of a recording, 16 ms apart
BANDS = 32  # mel energies of a frame
BATCH = 32  # samples of a call while accuracy is measured; time is measured on files for one sample


def bits(following: np.ndarray, probabilities: np.ndarray) -> float:
    """Bits per character, the mean of -log2 p(the character that came)."""
    return training.bits_and_hits(probabilities, following)[0]


def percent_wrong(digits: np.ndarray, probabilities: np.ndarray) -> float:
    return float(100 * np.mean(probabilities.argmax(-1) != digits))


def language_model(folder: Path) -> tuple[keras.Model, np.ndarray, tuple]:
    """The demo's dense model, inputs to calibrate on, and the unseen text."""
    corpus = text.load()
    held_out = corpus.validation_x, corpus.validation_y
    plan = training.Plan(warmup=1, ramp=0, finetune=3)

    def train() -> keras.Model:
        model = training.build(plan, len(corpus.characters))
        training.train_dense(model, plan, corpus, 0, training.warm_up(model, plan, corpus, 0))
        return model

    return kept(folder / "characters.keras", train), corpus.x[::64], held_out


def classifier(folder: Path, archive: Path) -> tuple[keras.Model, np.ndarray, tuple]:
    """A classifier of spoken digits, inputs to calibrate on, and the test recordings."""
    (x, y), test = spoken_digits(archive)

    def train() -> keras.Model:
        model = keras.Sequential(
            [
                keras.Input((STEPS, BANDS), name="energies"),
                layers.LSTM(96, return_sequences=True),
                layers.GRU(64),
                layers.Dense(10, activation="softmax", name="digits"),
            ],
            name="digits",
        )
        rate = keras.optimizers.schedules.CosineDecay(3e-3, 20 * len(x) // 32)
        loss = "sparse_categorical_crossentropy"
        model.compile(keras.optimizers.Adam(rate, clipnorm=1.0), loss, metrics=["accuracy"])
        model.fit(x, y, batch_size=32, epochs=20, validation_data=test, verbose=2)
        return model

    return kept(folder / "digits.keras", train), x[::10], test


def kept(path: Path, train) -> keras.Model:
    """The model that an earlier run saved, or a new one."""
    if not path.exists():
        keras.utils.set_random_seed(0)
        path.parent.mkdir(parents=True, exist_ok=True)
        train().save(path)
    return keras.models.load_model(path, compile=False)


def spoken_digits(archive: Path):
    """Log mel energies (recordings, STEPS, BANDS), standardized, and digits; the set's own split.

    Recordings 0 to 4 of every digit and speaker are the test set. Shorter recordings are padded in front.
    """
    found: dict[bool, list] = {True: [], False: []}
    with zipfile.ZipFile(archive) as files:
        for name in sorted(n for n in files.namelist() if n.endswith(".wav")):
            digit, _, index = Path(name).stem.split("_")
            found[int(index) < 5].append((energies(files.read(name)), int(digit)))
    (x, y), (test_x, test_y) = (
        (np.stack([frames for frames, _ in part]), np.array([digit for _, digit in part]))
        for part in (found[False], found[True])
    )
    mean, spread = x.mean((0, 1)), x.std((0, 1))
    return ((x - mean) / spread, y), ((test_x - mean) / spread, test_y)


def energies(data: bytes) -> np.ndarray:
    """The last STEPS frames of one recording; frames that it lacks are silent."""
    with wave.open(io.BytesIO(data)) as recording:
        rate = recording.getframerate()
        sound = np.frombuffer(recording.readframes(recording.getnframes()), "<i2") / 2**15
    window, hop = 256, rate * 16 // 1000
    sound = np.concatenate([np.zeros(max(0, window + hop * (STEPS - 1) - len(sound))), sound])
    frames = np.lib.stride_tricks.sliding_window_view(sound, window)[::hop][-STEPS:]
    power = np.abs(np.fft.rfft(frames * np.hanning(window))) ** 2
    return np.log(power @ mel_bands(window // 2 + 1, rate).T + 1e-6).astype("float32")


def mel_bands(bins: int, rate: int) -> np.ndarray:
    """BANDS triangles, equally wide in mel = 2595 log10(1 + f / 700)."""
    edges = 700 * (10 ** (np.linspace(0, 2595 * np.log10(1 + rate / 2 / 700), BANDS + 2) / 2595) - 1)
    frequency = np.linspace(0, rate / 2, bins)
    low, mid, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    return np.clip(np.minimum((frequency - low) / (mid - low), (high - frequency) / (high - mid)), 0, None)


def without_small_weights(model: keras.Model, share: float) -> keras.Model:
    """The model with the given share of every matrix set to zero, the smallest ones: what grow-and-prune leaves."""
    sparse = keras.models.clone_model(model)
    sparse.set_weights(
        [w * (np.abs(w) > np.quantile(np.abs(w), share)) if w.ndim > 1 else w for w in model.get_weights()]
    )
    return sparse


def measure(model: keras.Model, samples: np.ndarray, data: tuple, metric, recipes, runs: int) -> dict:
    """Accuracy on files that take many samples a call, size and time on files that take one."""
    with tempfile.TemporaryDirectory() as folder:
        paths: dict[int, list[Path]] = {1: [], BATCH: []}
        for batch, files in paths.items():
            for recipe in recipes:
                files.append(Path(folder, f"{recipe or 'float32'}_{batch}.tflite"))
                given = {"representative_data": samples} if recipe == "int8" else {}
                steps = data[0].shape[1]
                tflite_export.export(
                    model, files[-1], batch_size=batch, time_steps=steps, quantize=recipe, **given
                )
        judged = tflite_export.compare(model, paths[BATCH], data, metric, runs=1)
        timed = tflite_export.benchmark(paths[1], runs=runs)
    print(f"{judged}\n\n{timed}\n", flush=True)
    rows = {
        recipe or "float32": {
            "size_bytes": time.size_bytes,
            "median_ms": time.median_ms,
            "max_abs_error": row.max_abs_error,
            "rms_error": row.rms_error,
            "metric": row.metric,
            "metric_change": row.metric_change,
        }
        for recipe, row, time in zip(recipes, judged.rows, timed.rows, strict=True)
    }
    return {"metric_name": judged.metric_name, "keras_metric": judged.keras_metric, "recipes": rows}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data", type=Path, help="folder with free-spoken-digit-dataset.zip; None leaves it out"
    )
    parser.add_argument("--models", type=Path, default=Path("quantization-models"))
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    results: dict = {"machine": platform.platform(), "keras": keras.__version__, "runs": options.runs}
    model, samples, held_out = language_model(options.models)
    results["language model"] = measure(model, samples, held_out, bits, RECIPES, options.runs)
    # Not trained again, so that its bits per character say nothing but that "sparse" leaves them alone.
    sparse = without_small_weights(model, 0.9)
    results["language model, 90 % of its weights zero"] = measure(
        sparse, samples, held_out, bits, (None, "float16", "sparse"), options.runs
    )
    if options.data is not None:
        model, samples, test = classifier(options.models, options.data / "free-spoken-digit-dataset.zip")
        results["spoken digits"] = measure(model, samples, test, percent_wrong, RECIPES, options.runs)
    if options.output is not None:
        options.output.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
