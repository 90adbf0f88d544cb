"""Files, their sizes and times, and what they say: the mean over the seeds, and what each method needs at equal metric."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

import keras_iss
import tflite_export

SIZE, TIME = "file kB", "ms per digit"
NAMES = {"iss": "ISS, from the trained model", "one_shot": "one-shot, retrained"}  # in tables and the picture
MORE = (0.005, 0.01, 0.02, 0.04, 0.08)  # misheard, more than by the dense model


def export(found: keras_iss.Sweep, folder: Path) -> keras_iss.Sweep:
    """Writes a float32 file for every point; for magnitude pruning also a sparse one, beside those of its own converter."""
    for name, model in found.models().items():
        dense, *others = _possible(folder, name)
        _export(model, dense, None)
        if others:
            _export(model, others[0], "sparse")
    return found.measured(
        {
            row.name: {SIZE: min(file.stat().st_size for file in _files(folder, row.name)) / 1024}
            for row in found.rows
        }
    )


def _export(model: Path, file: Path, quantize: str | None) -> None:
    if not file.is_file():
        file.parent.mkdir(exist_ok=True)
        try:
            tflite_export.export(keras.models.load_model(model, compile=False), file, quantize=quantize)
        except tflite_export.ExportError as error:
            if quantize is None:
                raise
            print(f"{file.name} is left out: {error}", flush=True)


def _possible(folder: Path, name: str) -> list[Path]:
    """All files that a point may have; magnitude pruning has four, of which the smallest and the fastest count."""
    if not name.startswith("tfmot"):
        return [folder / "files" / f"{name}.tflite"]
    ours = [folder / "files" / f"{name}.{kind}.tflite" for kind in ("dense", "sparse")]
    return ours + [folder / "magnitude" / f"{name}.{kind}.tflite" for kind in ("tf_keras", "tf_keras_sparse")]


def _files(folder: Path, name: str) -> list[Path]:
    return [file for file in _possible(folder, name) if file.is_file()]


def latency(sweeps: Sequence[keras_iss.Sweep], folders: Sequence[Path], runs: int) -> list[keras_iss.Sweep]:
    """The sweeps with the median time of a call, one digit, one thread, all files of all seeds taking turns."""
    files = {
        (folder, row.name): _files(folder, row.name)
        for found, folder in zip(sweeps, folders, strict=True)
        for row in found.rows
    }
    report = tflite_export.benchmark([file for some in files.values() for file in some], threads=1, runs=runs)
    print(f"\n{report}", flush=True)
    times = {row.path: row.median_ms for row in report.rows}
    return [
        found.measured(
            {row.name: {TIME: min(times[str(f)] for f in files[folder, row.name])} for row in found.rows}
        )
        for found, folder in zip(sweeps, folders, strict=True)
    ]


def mean(sweeps: Sequence[keras_iss.Sweep]) -> keras_iss.Sweep:
    """Each point's mean over the seeds, its method by the name that readers get."""
    first = sweeps[0]
    rows = [
        dataclasses.replace(
            row,
            method=NAMES.get(row.method, row.method),
            metric=float(np.mean([s[row.name].metric for s in sweeps])),
            **{
                name: round(np.mean([getattr(s[row.name], name) for s in sweeps]))
                for name in ("macs", "parameters", "units")
            },
            measured={
                label: float(np.mean([s[row.name].measured[label] for s in sweeps])) for label in row.measured
            },
        )
        for row in first.rows
        if all(any(other.name == row.name for other in s.rows) for s in sweeps)
    ]
    return dataclasses.replace(first, rows=tuple(rows))


def at_equal_metric(found: keras_iss.Sweep) -> str:
    """A line of Markdown per share of digits misheard: the least that each method needs for at most so many."""
    methods = list(dict.fromkeys(row.method for row in found.rows))
    lines = [
        "| misheard at most | " + " | ".join(f"{method}: ms / kB" for method in methods) + " |",
        "|---" * (1 + len(methods)) + "|",
    ]
    for more in MORE:
        level = found["dense"].metric + more
        cells = []
        for method in methods:
            there = [row.measured for row in found.rows if row.method == method and row.metric <= level]
            least = [min(figures[label] for figures in there) for label in (TIME, SIZE) if there]
            cells.append(f"{least[0]:.3f} / {least[1]:,.0f}" if there else "–")
        lines.append(f"| {level:.1%} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def without_folders(result: Mapping[str, Any]) -> dict[str, Any]:
    """The result without the paths of the machine that it was made on."""
    rows = [row | {"path": row["path"] and Path(row["path"]).name} for row in result["rows"]]
    return {**result, "rows": rows}
