"""What a model weighs: parameters, multiply-adds, files, latency; and the table of all results."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import keras
import numpy as np
from runs import files_at_hand, times_of

import keras_iss
import tflite_export
from captioning import tell
from captioning.batches import Batches
from captioning.data import DataError, Images, Vocabulary
from captioning.model import recurrent_layers
from captioning.scoring import Scorer
from captioning.train import Recipe, compile_model


def sizes(model: keras.Model) -> dict[str, int]:
    """Parameters, stored and not zero, of the model and of its recurrent layers; multiply-adds per word."""
    every = [keras.ops.convert_to_numpy(v) for v in model.trainable_weights]
    layers = recurrent_layers(model)
    recurrent = [keras.ops.convert_to_numpy(v) for layer in layers for v in layer.trainable_weights]
    zeros = sum(v.size - np.count_nonzero(v) for v in recurrent if v.ndim > 1)
    macs = keras_iss.report(model.get_layer("tell")).macs
    found = {
        "parameters": sum(v.size for v in every),
        "nonzero": sum(np.count_nonzero(v) for v in every),
        "recurrent_parameters": sum(v.size for v in recurrent),
        "recurrent_nonzero": sum(np.count_nonzero(v) for v in recurrent),
        "macs_per_word": macs,
        "macs_per_word_nonzero": macs - zeros,
    }
    return {name: int(value) for name, value in found.items()}


def losses(model: keras.Model, images: Images, vocabulary: Vocabulary, recipe: Recipe) -> dict[str, float]:
    """Cross-entropy per word with each caption's own image and with another's.

    The difference is how far the model goes by the image: none, and it only knows how captions usually read.
    """
    count = len(images)
    others = dataclasses.replace(images, features=np.roll(images.features, count // 2, axis=0))
    compile_model(model, recipe, 1)
    return {
        name: float(model.evaluate(Batches(seen, vocabulary, recipe.batch_size).for_fit(), verbose=0))
        for name, seen in (("own_image", images), ("other_image", others))
    }


def export(
    model: keras.Model, stem: Path, recipes: Sequence[str | None], test: Images, vocabulary: Vocabulary
) -> dict[str, dict]:
    """Writes two files per quantization beside `stem`, "look" and the streaming "tell", and scores what they tell.

    Returns:
        Quantization -> the file of "tell", the bytes of both, and the CIDEr of greedy captions of the test set.
    """
    found, scorer = {}, Scorer(test.captions)
    for quantize in recipes:
        name = quantize or "float32"
        path = stem.with_name(f"{stem.name}.{name}.tflite")
        looked_with = None if quantize == "sparse" else quantize  # the projection isn't sparse
        look = tflite_export.export(model.get_layer("look"), tell.look_beside(path), quantize=looked_with)
        told = tflite_export.export(model.get_layer("tell"), path, quantize=quantize, streaming=True)
        cider = float(cider_of_each(path, test, vocabulary, scorer, tell.greedy).mean())
        sized = {"bytes": told.size_bytes, "look_bytes": look.size_bytes}
        found[name] = {"file": path.name, **sized, "CIDEr_greedy": cider}
    return found


def float_files(folder: Path, model: str) -> list[Path]:
    """The float32 files of a model, one for each seed.

    Raises:
        DataError: If there is none.
    """
    if not (found := sorted(folder.glob(f"{model}-seed*.float32.tflite"))):
        raise DataError(
            f"No file {folder / model}-seedN.float32.tflite. Train {model} first, with the same --output."
        )
    return found


def cider_of_each(
    file: Path, images: Images, vocabulary: Vocabulary, scorer: Scorer, search: Callable[..., list[list[int]]]
) -> np.ndarray:
    """CIDEr of the caption that a file tells of each image, (images,)."""
    return scorer.cider_of_each(tell.captions(tell.FileTeller(file), images.features, vocabulary, search))


def latency(
    folder: Path, results: Sequence[Mapping], features: np.ndarray, runs: int = 200
) -> dict[str, dict]:
    """Median milliseconds, one thread, the files taking turns: for a word, and for a whole greedy caption.

    Args:
        folder: Where the files lie.
        results: Whose files, those that are there.
        features: (images, width) of images to tell about.
        runs: Words to time.

    Returns:
        File -> {"ms_per_word", "ms_per_caption"}.
    """
    if not (files := files_at_hand(folder, results)):
        return {}
    report = tflite_export.benchmark(files, threads=1, runs=runs, signature="step")
    words = {Path(row.path).name: row.median_ms for row in report.rows}
    tellers = {path.name: tell.FileTeller(path) for path in files}
    taken: dict[str, list[float]] = {name: [] for name in tellers}
    for image in features:
        for name, teller in tellers.items():
            started = time.perf_counter()
            tell.greedy(teller, image[None])
            taken[name].append(1000 * (time.perf_counter() - started))
    return {
        name: {"ms_per_word": words[name], "ms_per_caption": float(np.median(taken[name]))}
        for name in tellers
    }


def table(results: Sequence[Mapping]) -> str:
    """A line of Markdown per result."""
    lines = [
        "| model | seed | recurrent parameters, stored / not zero | all parameters | multiply-adds per word |"
        " file kB | ms per word | ms per caption | loss, own / another's image | CIDEr greedy / beam |"
        " BLEU-4 | METEOR | ROUGE-L |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for r in results:
        size, files, test = r["sizes"], list(r["files"].values()), r["test"]
        cells = [
            r["model"],
            str(r["seed"]),
            *(
                f"{size[stored]:,} / {size[kept]:,}"
                for stored, kept in (
                    ("recurrent_parameters", "recurrent_nonzero"),
                    ("parameters", "nonzero"),
                    ("macs_per_word", "macs_per_word_nonzero"),
                )
            ),
            " / ".join(f"{kept['bytes'] / 1024:,.0f}" for kept in files),
            times_of(files, "ms_per_word"),
            times_of(files, "ms_per_caption", digits=1),
            " / ".join(f"{loss:.2f}" for loss in r.get("losses", {}).values()) or "–",
            f"{test['greedy']['CIDEr']:.3f} / {test['beam']['CIDEr']:.3f}",
            *(
                f"{test['beam'][m]:.3f}" if m in test["beam"] else "–"
                for m in ("BLEU-4", "METEOR", "ROUGE-L")
            ),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)
