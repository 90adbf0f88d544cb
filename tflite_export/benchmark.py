"""Timing TFLite files on this machine: a process per file, the files taking turns."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import platform
import selectors
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .errors import ExportError
from .files import check_writable, write_whole

__all__ = ["BenchmarkReport", "BenchmarkRow", "benchmark"]

_BURST = 5  # measured calls before the next file's turn
_OPEN_STEPS = 16  # the length given to an axis that is chosen at run time
_SILENCE_S = 600  # a worker that says nothing for so long is given up


@dataclass(frozen=True, kw_only=True)
class BenchmarkRow:
    """One file's figures. Times are per call, in milliseconds; memory and size in MB (1024² bytes) and bytes.

    Attributes:
        path: The file.
        min_ms: The fastest call.
        median_ms: The middle one.
        p95_ms: 95 % of the calls were at least this fast.
        init_ms: Opening the file and allocating its tensors.
        peak_mb: The most resident memory that opening and running the file added to the process.
        size_bytes: The file's size.
        threads: How many threads it ran on.
        runs: How many calls were measured.
        inputs: Input name -> the shape it was given.
    """

    path: str
    min_ms: float
    median_ms: float
    p95_ms: float
    init_ms: float
    peak_mb: float
    size_bytes: int
    threads: int
    runs: int
    inputs: dict[str, list[int]]


@dataclass(frozen=True, kw_only=True)
class BenchmarkReport:
    """The rows of one run, in the order of the files given."""

    rows: tuple[BenchmarkRow, ...]
    device: str
    machine: str

    def __str__(self) -> str:
        names = _short_names([row.path for row in self.rows])
        width = max(len("file"), *(len(name) for name in names))
        titles = [
            f"{title:>9}" for title in ("min ms", "median ms", "p95 ms", "init ms", "peak MB", "size MB")
        ]
        head = "  ".join([f"{'file':<{width}}", *titles])
        lines = [head]
        for name, row in zip(names, self.rows, strict=True):
            times = "  ".join(f"{ms:>9.3f}" for ms in (row.min_ms, row.median_ms, row.p95_ms, row.init_ms))
            lines.append(f"{name:<{width}}  {times}  {row.peak_mb:>9.1f}  {row.size_bytes / 1024**2:>9.2f}")
        threads = self.rows[0].threads
        lines.append(
            f"{threads} thread{'s' if threads > 1 else ''}, {self.rows[0].runs} calls each, {self.machine}"
        )
        return "\n".join(lines)

    def to_dict(self) -> dict:
        """The report as plain dictionaries and lists."""
        return asdict(self)

    def to_json(self, path: str | os.PathLike) -> None:
        """Write the report as JSON."""
        write_whole(check_writable(path), (json.dumps(self.to_dict(), indent=2) + "\n").encode())

    def to_csv(self, path: str | os.PathLike) -> None:
        """Write a line per file; the input shapes stand in one column as JSON."""
        text = io.StringIO()
        writer = csv.DictWriter(text, fieldnames=list(asdict(self.rows[0])))
        writer.writeheader()
        for row in self.rows:
            writer.writerow({**asdict(row), "inputs": json.dumps(row.inputs)})
        write_whole(check_writable(path), text.getvalue().encode())

    def plot(self, path: str | os.PathLike) -> None:
        """Draw the median times as bars, with a line from the fastest call to the 95th percentile."""
        path = check_writable(path)
        try:
            from matplotlib.figure import Figure
        except ImportError as error:
            raise ExportError("Plotting needs matplotlib; install it with: pip install matplotlib") from error
        names = _short_names([row.path for row in self.rows])
        figure = Figure(figsize=(8, 1.2 + 0.5 * len(names)), layout="constrained")
        axes = figure.subplots()
        medians = [row.median_ms for row in self.rows]
        spread = [
            [row.median_ms - row.min_ms for row in self.rows],
            [row.p95_ms - row.median_ms for row in self.rows],
        ]
        bars = axes.barh(names, medians, xerr=spread, capsize=3)
        axes.bar_label(bars, [f"{median:.3g} ms" for median in medians], padding=4)
        axes.margins(x=0.15)
        axes.invert_yaxis()
        axes.set_xlabel(f"ms per call (median; line: fastest to 95 %), {self.rows[0].threads} thread(s)")
        picture = io.BytesIO()
        figure.savefig(picture, format=path.suffix.lstrip(".") or "png", dpi=150)
        write_whole(path, picture.getvalue())


def benchmark(
    paths: str | os.PathLike | Iterable[str | os.PathLike],
    *,
    threads: int = 1,
    runs: int = 50,
    warmup: int = 5,
    device: str = "host",
    inputs: Mapping[str, np.ndarray] | None = None,
) -> BenchmarkReport:
    """Time TFLite files against each other on this machine.

    Every file runs in its own process, which imports LiteRT and numpy only. The files take turns in bursts of a few
    calls (the first of each burst, on cold caches, isn't counted), so that whatever else the machine does falls on
    all alike; compare the medians.

    Args:
        paths: The files, or one file.
        threads: Threads per file.
        runs: Measured calls per file.
        warmup: Calls before the measured ones.
        device: "host". Phones ("adb") are not available in this version.
        inputs: Input name -> array, given to every file that is timed. Without it whole-number inputs are 0 and 1,
            which are in range for any vocabulary, floats lie in [0, 1), and an axis whose length is chosen at run
            time gets 16 steps.

    Returns:
        The report; `str(report)` is a table.

    Raises:
        ExportError: A file is missing or isn't a TFLite file that LiteRT can run, or an argument is invalid.

    Example:
        >>> import tempfile, keras, tflite_export
        >>> model = keras.Sequential([keras.Input((8, 3)), keras.layers.LSTM(4), keras.layers.Dense(2)])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     result = tflite_export.export(model, f"{folder}/model.tflite")
        ...     report = tflite_export.benchmark([result.path], runs=5)
        >>> report.rows[0].median_ms > 0
        True
    """
    paths = [Path(p) for p in ([paths] if isinstance(paths, (str, os.PathLike)) else paths)]
    _check(paths, threads, runs, warmup, device)
    with contextlib.ExitStack() as stack:
        given = stack.enter_context(_saved(inputs))
        workers = [stack.enter_context(_Worker(path, threads, given)) for path in paths]
        for worker in workers:
            worker.run(warmup)
        times: list[list[float]] = [[] for _ in workers]
        while len(times[-1]) < runs:
            burst = min(_BURST, runs - len(times[-1]))
            for worker, measured in zip(workers, times, strict=True):
                measured += worker.run(1 + burst)[1:]
        rows = tuple(worker.row(measured) for worker, measured in zip(workers, times, strict=True))
    return BenchmarkReport(rows=rows, device=device, machine=_machine())


def _check(paths: list[Path], threads: int, runs: int, warmup: int, device: str) -> None:
    if device == "adb" or str(device).startswith("adb:"):
        raise ExportError('device="adb" is not available in this version; use device="host".')
    if device != "host":
        raise ExportError(
            f'Invalid value for argument `device`. Expected "host". Received: device={device!r}'
        )
    for name, value, least in (("threads", threads, 1), ("runs", runs, 1), ("warmup", warmup, 0)):
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ExportError(
                f"Invalid value for argument `{name}`. Expected a whole number of at least {least}. "
                f"Received: {name}={value!r}"
            )
    if not paths:
        raise ExportError(
            "Invalid value for argument `paths`. Expected at least one TFLite file. Received: paths=[]"
        )
    for path in paths:
        _check_file(path)


def _check_file(path: Path) -> None:
    try:
        with open(path, "rb") as file:
            head = file.read(8)
    except OSError as error:
        raise ExportError(f"Can't read {str(path)!r}: {error.strerror}; check the path.") from error
    if head[4:8] != b"TFL3":
        raise ExportError(
            f"{str(path)!r} isn't a TFLite file (its mark TFL3 is missing); export the model again."
        )


@contextlib.contextmanager
def _saved(inputs: Mapping[str, np.ndarray] | None):
    """The inputs in a file that the workers read, or None."""
    if inputs is None:
        yield None
        return
    if not isinstance(inputs, Mapping):
        raise ExportError(
            "Invalid value for argument `inputs`. Expected a dictionary from input name to array. "
            f"Received: inputs={type(inputs).__name__}"
        )
    with tempfile.TemporaryDirectory() as folder:
        file = os.path.join(folder, "inputs.npz")
        # The prefix keeps an input called "file" apart from savez's own argument.
        named: dict[str, Any] = {f"input {name}": np.asarray(value) for name, value in inputs.items()}
        np.savez(file, **named)
        yield file


class _Worker:
    """The process that runs one file."""

    def __init__(self, path: Path, threads: int, inputs: str | None):
        self.path, self.threads = path, threads
        self.order = {"path": str(path), "threads": threads, "inputs": inputs, "steps": _OPEN_STEPS}

    def __enter__(self) -> _Worker:
        script = Path(__file__).with_name("benchmark_worker.py")
        self.process = subprocess.Popen(
            [sys.executable, str(script)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.questions, self.answers = self.process.stdin, self.process.stdout
        try:
            self.loaded = self._ask(json.dumps(self.order))
        except BaseException:
            self.__exit__()
            raise
        self.peak_mb = 0.0
        return self

    def __exit__(self, *_) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.questions, self.answers):
            with contextlib.suppress(OSError):
                pipe.close()

    def run(self, calls: int) -> list[float]:
        """The times of so many calls, in milliseconds."""
        answer = self._ask(str(calls))
        self.peak_mb = answer["peak_mb"]
        return answer["times_ms"]

    def row(self, times: list[float]) -> BenchmarkRow:
        return BenchmarkRow(
            path=str(self.path),
            min_ms=float(np.min(times)),
            median_ms=float(np.median(times)),
            p95_ms=float(np.percentile(times, 95)),
            init_ms=self.loaded["init_ms"],
            peak_mb=self.peak_mb,
            size_bytes=self.path.stat().st_size,
            threads=self.threads,
            runs=len(times),
            inputs=self.loaded["inputs"],
        )

    def _ask(self, line: str) -> dict:
        with contextlib.suppress(BrokenPipeError):
            self.questions.write(line + "\n")
            self.questions.flush()
        with selectors.DefaultSelector() as selector:
            selector.register(self.answers, selectors.EVENT_READ)
            ready = selector.select(timeout=_SILENCE_S)
        answer = self.answers.readline() if ready else ""
        if not answer:
            raise ExportError(
                f"LiteRT {'crashed on' if ready else 'is stuck in'} {str(self.path)!r}: the file is damaged or cut "
                "short; export the model again."
            )
        answer = json.loads(answer)
        if "error" in answer:
            raise ExportError(
                f"LiteRT can't run {str(self.path)!r} ({answer['error']}); a damaged file has to be "
                "exported again, and `inputs` must have the file's input names and shapes."
            )
        return answer


def _short_names(paths: list[str]) -> list[str]:
    names = [Path(path).name for path in paths]
    return names if len(set(names)) == len(names) else paths


def _machine() -> str:
    return f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()} {platform.release()}"
