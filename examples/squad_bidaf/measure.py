"""What a model weighs: parameters, units, multiply-adds, files, latency; and the table of all results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
from runs import files_at_hand, times_of

import keras_iss
import tflite_export
from squad_bidaf.model import MODELLING, OUTPUT, probabilities, recurrent_weights


def sizes(model: keras.Model) -> dict[str, Any]:
    """Weights trained, those of all recurrent layers and of the six that the paper makes smaller; units; multiply-adds."""
    six = (*MODELLING, OUTPUT)
    return {
        "parameters": _count(model.trainable_weights),
        "recurrent": _count(recurrent_weights(model)),
        "six": _count(recurrent_weights(model, *six)),
        "units": {name: model.get_layer(name).forward_layer.units for name in ("contextual", *six)},
        "macs": int(keras_iss.report(model).macs),
    }


def _count(weights: Sequence) -> int:
    return sum(int(np.prod(v.shape)) for v in weights)


def export(
    model: keras.Model, stem: Path, recipes: Sequence[str | None], checked: bool
) -> dict[str, dict[str, Any]]:
    """Writes a file per quantization beside `stem`; contexts and questions of any length. Returns name -> file and size."""
    found = {}
    for quantize in recipes:
        name = quantize or "float32"
        path = stem.with_name(f"{stem.name}.{name}.tflite")
        result = tflite_export.export(probabilities(model), path, quantize=quantize, verify=checked)
        found[name] = {"file": path.name, "bytes": result.size_bytes}
    return found


def latency(
    folder: Path, results: Sequence[Mapping], inputs: Mapping[str, np.ndarray], runs: int = 50
) -> dict[str, dict[str, float]]:
    """Median milliseconds for one question, one thread, all files that are in the folder taking turns in one run."""
    if not (files := files_at_hand(folder, results)):
        return {}
    report = tflite_export.benchmark(files, threads=1, runs=runs, inputs=inputs)
    return {Path(row.path).name: {"ms": row.median_ms} for row in report.rows}


def table(results: Sequence[Mapping]) -> str:
    """A line of Markdown per result."""
    heads = (
        "model",
        "seed",
        "EM",
        "F1",
        "units of modelling 1, modelling 2, output",
        "weights of these six LSTMs",
        "of all recurrent layers",
        "file kB, float32 / int8",
        "EM / F1 of the int8 file",
        "ms a question",
    )
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for r in results:
        size, files, test = r["sizes"], r["files"], r["test"]
        quantized = files.get("dynamic_int8")
        cells = (
            r["model"],
            r["seed"],
            f"{test['em']:.2f}",
            f"{test['f1']:.2f}",
            ", ".join(f"2 × {size['units'][name]}" for name in (*MODELLING, OUTPUT)),
            f"{size['six']:,}",
            f"{size['recurrent']:,}",
            " / ".join(f"{kept['bytes'] / 1024:,.0f}" for kept in files.values()) or "–",
            f"{quantized['em']:.2f} / {quantized['f1']:.2f}" if quantized else "–",
            times_of(files.values(), digits=1),
        )
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)
