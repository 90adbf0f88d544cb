"""Files beside the Keras model that they come from: size, time, error and the user's metric in one table."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from .benchmark import benchmark
from .errors import ExportError
from .files import check_writable, write_whole
from .metrics import Metric, as_metric
from .running import as_output, keras_on, run_file
from .signature import as_functional
from .user_data import as_data

__all__ = ["CompareReport", "CompareRow", "compare"]


@dataclass(frozen=True, kw_only=True)
class CompareRow:
    """One file's figures; None is what couldn't be measured, and `note` says why.

    Attributes:
        path: The file.
        size_bytes: Its size.
        median_ms: The middle time of a call, in milliseconds.
        max_abs_error: The largest difference of an output from Keras's.
        rms_error: The root-mean-square difference from Keras's outputs, over their root mean square.
        metric: The user's metric of the file's outputs.
        metric_change: That less the metric of Keras's outputs.
        note: What couldn't be compared, and why; or how the time is to be read.
    """

    path: str
    size_bytes: int
    median_ms: float
    max_abs_error: float | None = None
    rms_error: float | None = None
    metric: float | None = None
    metric_change: float | None = None
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class CompareReport:
    """The rows in the order of the files given, and what they're compared with.

    Attributes:
        rows: A row for every file.
        metric_name: The metric's name; None without one.
        keras_metric: The metric of the Keras model itself.
        samples: How many samples the errors and the metric come from.
        threads: How many threads the times come from.
        machine: What was measured on.
    """

    rows: tuple[CompareRow, ...]
    metric_name: str | None
    keras_metric: float | None
    samples: int
    threads: int
    machine: str

    def __str__(self) -> str:
        metric = self.metric_name or "metric"
        titles = ("file", "size MB", "median ms", "max error", "rms error", metric, "change")
        table = [titles, ("Keras model", "", "", "", "", _number(self.keras_metric, ".6g"), "")]
        table += [_cells(row) for row in self.rows]
        widths = [max(len(line[i]) for line in table) for i in range(len(titles))]
        used = [i for i in range(len(titles)) if i < 5 or self.metric_name]
        lines = [
            "  ".join(line[i].ljust(widths[i]) if i == 0 else line[i].rjust(widths[i]) for i in used)
            for line in (table if self.metric_name else [titles, *table[2:]])
        ]
        threads = f"{self.threads} thread{'s' if self.threads > 1 else ''}"
        lines.append(f"{self.samples} samples, {threads}, {self.machine}")
        lines += [f"note: {Path(row.path).name}: {row.note}" for row in self.rows if row.note]
        return "\n".join(line.rstrip() for line in lines)

    def to_dict(self) -> dict:
        """The report as plain dictionaries and lists."""
        return asdict(self)

    def to_json(self, path: str | os.PathLike) -> None:
        """Write the report as JSON."""
        write_whole(check_writable(path), (json.dumps(self.to_dict(), indent=2) + "\n").encode())


def compare(
    model: keras.Model,
    paths: str | os.PathLike | Iterable[str | os.PathLike],
    data: tuple,
    metric: Any = None,
    *,
    threads: int = 1,
    runs: int = 50,
) -> CompareReport:
    """Put TFLite files beside the float32 Keras model: size, time of a call, error, and your own metric.

    Every file runs on all of `data`, cut into the batches that it takes, and is timed as `benchmark` does. A file made by
    something else is compared as far as its inputs and outputs fit the model's (by name, or because there is one); its
    row's note says what doesn't. The signatures of a streaming export are fed chunk by chunk; their time is that of
    one step.

    With r Keras's outputs and y the file's, `rms_error` is ‖y − r‖ / ‖r‖ and `max_abs_error` is max |y − r|.

    Args:
        model: The model the files come from, built, Sequential or Functional, on any backend.
        paths: The files, or one file.
        data: (x, y): inputs (samples, ...) as an array, a dictionary by input name or a list, and what the metric
            compares the outputs with.
        metric: A function (y_true, y_pred) -> number of the whole set, a Keras metric or loss, or the name of one. It
            gets the output as an array, or the list of outputs where the model has several. None leaves it out.
        threads: Threads of the timed calls.
        runs: Timed calls per file.

    Returns:
        The report; `str(report)` is a table, `report.to_json(path)` writes it.

    Raises:
        ExportError: An argument is invalid, or a file is missing or can't be run at all.

    Example:
        >>> import tempfile, keras, numpy, tflite_export
        >>> model = keras.Sequential([keras.Input((8, 3)), keras.layers.LSTM(4), keras.layers.Dense(2)])
        >>> x, y = numpy.ones((5, 8, 3)), numpy.zeros((5, 2))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = tflite_export.export(model, f"{folder}/half.tflite", quantize="float16").path
        ...     report = tflite_export.compare(model, path, (x, y), "mean_absolute_error", runs=5)
        >>> abs(report.rows[0].metric_change) < 1e-3
        True
    """
    functional = as_functional(model)
    paths = [Path(p) for p in ([paths] if isinstance(paths, (str, os.PathLike)) else paths)]
    chosen = None if metric is None else as_metric(metric)
    inputs, y = as_data(functional, data)
    expected = keras_on(functional, inputs)
    keras_metric = None if chosen is None else chosen(y, as_output(expected))
    timed = benchmark(paths, threads=threads, runs=runs)
    rows = tuple(
        CompareRow(
            path=str(path),
            size_bytes=row.size_bytes,
            median_ms=row.median_ms,
            **_judged(path, functional, inputs, expected, chosen, y, keras_metric),
        )
        for path, row in zip(paths, timed.rows, strict=True)
    )
    return CompareReport(
        rows=rows,
        metric_name=None if chosen is None else chosen.name,
        keras_metric=keras_metric,
        samples=len(next(iter(inputs.values()))),
        threads=threads,
        machine=timed.machine,
    )


def _judged(
    path: Path, functional, inputs, expected: list[np.ndarray], metric: Metric | None, y: Any, keras_metric
) -> dict[str, Any]:
    """A row's errors and metric, or the note that says why there are none."""
    try:
        got = run_file(path.read_bytes(), functional, inputs)
    except ExportError as error:
        return {"note": f"not compared: {error}"}
    shapes = [(r.shape, o.shape) for r, o in zip(expected, got, strict=True)]
    if any(r != o for r, o in shapes):
        ours, theirs = next((r, o) for r, o in shapes if r != o)
        return {"note": f"not compared: it gives an output of shape {theirs}, the model {ours}"}
    found = _errors(expected, got)
    if metric is not None:
        value = metric(y, as_output(got))
        found |= {"metric": value, "metric_change": value - keras_metric}
    return found


def _errors(expected: list[np.ndarray], got: list[np.ndarray]) -> dict[str, float]:
    r = np.concatenate([x.ravel() for x in expected]).astype("float64")
    y = np.concatenate([x.ravel() for x in got]).astype("float64")
    return {
        "max_abs_error": float(np.abs(y - r).max(initial=0.0)),
        "rms_error": float(np.linalg.norm(y - r) / (np.linalg.norm(r) + 1e-12)),
    }


def _cells(row: CompareRow) -> tuple[str, ...]:
    return (
        Path(row.path).name,
        f"{row.size_bytes / 1024**2:.2f}",
        f"{row.median_ms:.3f}",
        _number(row.max_abs_error, ".2e"),
        _number(row.rms_error, ".2e"),
        _number(row.metric, ".6g"),
        _number(row.metric_change, "+.2g"),
    )


def _number(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)
