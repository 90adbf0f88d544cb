"""The demo's measurements: the files exported, run on the unseen text, and timed against each other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_iss.demo.data import Corpus
from keras_iss.demo.training import bits_and_hits

FILES = ("dense_keras", "dense_float32", "small_float32", "small_int8")


def export_all(folder: Path, dense: keras.Model, small: keras.Model, steps: int) -> dict[str, dict[str, Any]]:
    """Writes the four TFLite files; batch of 1, fixed length.

    Returns:
        File's name without ending -> path, and the largest difference from Keras where our export checked it.
    """
    import tflite_export
    from tflite_export import convert

    path = folder / "dense_keras.tflite"
    convert.keras_export(dense, path, time_steps=steps)
    print(f"  {path.name}: {path.stat().st_size:,} bytes, Keras's own export", flush=True)
    files: dict[str, dict[str, Any]] = {"dense_keras": {"path": path, "max_abs_error": None}}
    for name, model, quantize in (
        ("dense_float32", dense, None),
        ("small_float32", small, None),
        ("small_int8", small, "dynamic_int8"),
    ):
        path = folder / f"{name}.tflite"
        result = tflite_export.export(model, path, time_steps=steps, quantize=quantize)
        files[name] = {"path": path, "max_abs_error": result.max_abs_error}
        print(f"  {path.name}: {result.size_bytes:,} bytes", flush=True)
    return files


def run_file(path: Path, corpus: Corpus) -> np.ndarray:
    """A file's probabilities for all of the unseen text, window by window; shape (windows, steps, characters)."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(path))
    interpreter.allocate_tensors()
    place, out = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    answers = []
    for window in corpus.validation_x:
        interpreter.set_tensor(place["index"], window[None].astype(place["dtype"]))
        interpreter.invoke()
        answers.append(interpreter.get_tensor(out["index"])[0])
    return np.stack(answers)


def measure(
    files: dict[str, dict[str, Any]], models: dict[str, keras.Model], corpus: Corpus, runs: int
) -> dict[str, Any]:
    """Quality and time of every file, and quality of the Keras models.

    Args:
        files: What `export_all` returned.
        models: "dense" and "small".
        corpus: The text.
        runs: Timed calls per file.

    Returns:
        {"files": name -> figures, "models": name -> {"bits", "hits"}, "timed": the benchmark's report,
        "difference": largest difference between the small float32 file and the small Keras model on all of the
        unseen text}.
    """
    import tflite_export

    answers = {
        name: np.asarray(model.predict(corpus.validation_x, batch_size=128, verbose=0))
        for name, model in models.items()
    }
    quality = {
        name: dict(zip(("bits", "hits"), bits_and_hits(p, corpus.validation_y), strict=True))
        for name, p in answers.items()
    }
    timed = tflite_export.benchmark([files[name]["path"] for name in FILES], threads=1, runs=runs)
    baseline = timed.rows[FILES.index("dense_keras")].median_ms
    figures: dict[str, dict[str, Any]] = {}
    difference = 0.0
    for name, row in zip(FILES, timed.rows, strict=True):
        probabilities = run_file(files[name]["path"], corpus)
        if name == "small_float32":
            difference = float(np.abs(probabilities - answers["small"]).max())
        bits, hits = bits_and_hits(probabilities, corpus.validation_y)
        figures[name] = {
            "file": files[name]["path"].name,
            "bits": bits,
            "hits": hits,
            "median_ms": row.median_ms,
            "min_ms": row.min_ms,
            "p95_ms": row.p95_ms,
            "init_ms": row.init_ms,
            "peak_mb": row.peak_mb,
            "size_bytes": row.size_bytes,
            "speedup": baseline / row.median_ms,
            "max_abs_error": files[name]["max_abs_error"],
        }
    return {"files": figures, "models": quality, "timed": timed, "difference": difference}
