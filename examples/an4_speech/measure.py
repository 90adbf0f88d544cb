"""What a model weighs: parameters, multiply-adds, files, latency; and the table of all results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import keras
import numpy as np
from runs import files_at_hand, times_of

import keras_iss
import tflite_export
from an4_speech.model import recurrent_weights

STEPS = 100  # 3 seconds of speech


def sizes(model: keras.Model) -> dict[str, int]:
    """Parameters, stored and not zero, of the model and of its recurrent layers; multiply-adds per step of 30 ms."""
    every = [keras.ops.convert_to_numpy(v) for v in model.trainable_weights]
    recurrent = [keras.ops.convert_to_numpy(v) for v in recurrent_weights(model)]
    kernels = [v for v in every if v.ndim > 1]  # each weight of a kernel is one multiply-add per step
    macs = keras_iss.report(model).macs
    found = {
        "parameters": sum(v.size for v in every),
        "nonzero": sum(np.count_nonzero(v) for v in every),
        "recurrent_parameters": sum(v.size for v in recurrent),
        "recurrent_nonzero": sum(np.count_nonzero(v) for v in recurrent),
        "macs": macs,
        "macs_nonzero": macs - sum(v.size - np.count_nonzero(v) for v in kernels),
    }
    return {name: int(value) for name, value in found.items()}


def export(model: keras.Model, stem: Path, recipes: Sequence[str | None], streaming: bool) -> dict[str, dict]:
    """Writes a file per quantization beside `stem`; returns name -> file and size."""
    found = {}
    for quantize in recipes:
        name = quantize or "float32"
        path = stem.with_name(f"{stem.name}.{name}.tflite")
        steps = None if streaming else STEPS
        result = tflite_export.export(model, path, time_steps=steps, quantize=quantize, streaming=streaming)
        found[name] = {"file": path.name, "bytes": result.size_bytes}
    return found


def latency(folder: Path, results: Sequence[Mapping], runs: int = 100) -> dict[str, dict[str, float]]:
    """Median milliseconds for 3 seconds of speech (streaming: for one step), batch 1, one thread, by file.

    All files that are in the folder take turns in one run.
    """
    if not (files := files_at_hand(folder, results)):
        return {}
    report = tflite_export.benchmark(files, threads=1, runs=runs)
    return {Path(row.path).name: {"ms": row.median_ms} for row in report.rows}


def table(results: Sequence[Mapping]) -> str:
    """A line of Markdown per result."""
    lines = [
        "| model | seed | recurrent parameters, stored / not zero | all parameters | multiply-adds per 30 ms |"
        " file kB, float32 / int8 | ms for 3 s of speech | characters wrong | words wrong, greedy / beam |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for r in results:
        size, files, test = r["sizes"], r["files"], r["test"]
        kilobytes = " / ".join(f"{kept['bytes'] / 1024:,.0f}" for kept in files.values())
        times = times_of(files.values())
        recurrent = f"{size['recurrent_parameters']:,} / {size['recurrent_nonzero']:,}"
        whole = f"{size['parameters']:,} / {size['nonzero']:,}"
        macs = f"{size['macs']:,} / {size['macs_nonzero']:,}"
        wrong = f"{test['greedy']['cer']:.1%} | {test['greedy']['wer']:.1%} / {test['beam']['wer']:.1%}"
        lines.append(
            f"| {r['model']} | {r['seed']} | {recurrent} | {whole} | {macs} | {kilobytes} | {times} | {wrong} |"
        )
    return "\n".join(lines)


def summary(results: Sequence[Mapping]) -> str:
    """Words wrong by greedy decoding: mean and spread over the seeds of each model."""
    lines = []
    for name in dict.fromkeys(r["model"] for r in results):
        wrong = [r["test"]["greedy"]["wer"] for r in results if r["model"] == name]
        lines.append(
            f"{name}: {np.mean(wrong):.1%} words wrong over {len(wrong)} seed(s), "
            f"from {min(wrong):.1%} to {max(wrong):.1%}"
        )
    return "\n".join(lines)
