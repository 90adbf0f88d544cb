"""What a benchmark found: a row per file, as a table, JSON, CSV or a picture."""

from __future__ import annotations

import csv
import io
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from .errors import ExportError
from .files import check_writable, write_whole

__all__ = ["BenchmarkReport", "BenchmarkRow"]


@dataclass(frozen=True, kw_only=True)
class BenchmarkRow:
    """One file's figures. Times are per call, in milliseconds; memory and size in MB (1024² bytes) and bytes.

    Attributes:
        path: The file.
        min_ms: The fastest call.
        median_ms: The middle one; on a phone the median of the rounds' medians.
        p95_ms: 95 % of the calls were at least this fast; on a phone the median of the rounds' figures, None where an
            older runner doesn't tell.
        init_ms: Opening the file and allocating its tensors.
        first_ms: The first call of all, on cold caches.
        peak_mb: The most resident memory that opening and running the file added to the process.
        size_bytes: The file's size.
        threads: How many threads it ran on.
        runs: How many calls were measured.
        inputs: Input name -> the shape it was given.
        signature: The signature that was run; "" where the file has none.
        temperature_c: The phone's highest temperature right after this file's calls, in degrees Celsius.
    """

    path: str
    min_ms: float
    median_ms: float
    p95_ms: float | None
    init_ms: float | None
    peak_mb: float | None
    size_bytes: int
    threads: int
    runs: int
    inputs: dict[str, list[int]]
    first_ms: float | None = None
    signature: str = ""
    temperature_c: float | None = None


_COLUMNS = {
    "min ms": lambda row: _shown(row.min_ms, 3),
    "median ms": lambda row: _shown(row.median_ms, 3),
    "p95 ms": lambda row: _shown(row.p95_ms, 3),
    "first ms": lambda row: _shown(row.first_ms, 3),
    "init ms": lambda row: _shown(row.init_ms, 3),
    "peak MB": lambda row: _shown(row.peak_mb, 1),
    "size MB": lambda row: _shown(row.size_bytes / 1024**2, 2),
}


@dataclass(frozen=True, kw_only=True)
class BenchmarkReport:
    """The rows of one run, in the order of the files given.

    Attributes:
        rows: A row per file. On a phone that went away in the middle, the files measured until then.
        device: "host" or "adb:SERIAL".
        machine: What it ran on, in words.
        cpu: The processor.
        abi: Its instruction set.
        os_version: The operating system.
        problem: What kept the report from being complete, and the mend; "" where nothing did.
        notes: What a reader of the figures should know.
    """

    rows: tuple[BenchmarkRow, ...]
    device: str
    machine: str
    cpu: str = ""
    abi: str = ""
    os_version: str = ""
    problem: str = ""
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        columns = dict(_COLUMNS)
        if any(row.temperature_c is not None for row in self.rows):
            columns["temp °C"] = lambda row: _shown(row.temperature_c, 1)
        names = _short_names([row.path for row in self.rows])
        width = max(len("file"), *(len(name) for name in names))
        lines = ["  ".join([f"{'file':<{width}}", *(f"{title:>9}" for title in columns)])]
        for name, row in zip(names, self.rows, strict=True):
            lines.append("  ".join([f"{name:<{width}}", *(f"{show(row):>9}" for show in columns.values())]))
        threads = self.rows[0].threads
        runs = sorted({row.runs for row in self.rows})
        lines.append(
            f"{threads} thread{'s' if threads > 1 else ''}, {'–'.join(map(str, runs[:: max(1, len(runs) - 1)]))} "
            f"calls each, {self.machine}"
        )
        lines += [f"note: {note}" for note in self.notes]
        if self.problem:
            lines.append(f"incomplete: {self.problem}")
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
            [max(0.0, (row.p95_ms or row.median_ms) - row.median_ms) for row in self.rows],
        ]
        bars = axes.barh(names, medians, xerr=spread, capsize=3)
        axes.bar_label(bars, [f"{median:.3g} ms" for median in medians], padding=4)
        axes.margins(x=0.15)
        axes.invert_yaxis()
        axes.set_xlabel(f"ms per call (median; line: fastest to 95 %), {self.rows[0].threads} thread(s)")
        picture = io.BytesIO()
        figure.savefig(picture, format=path.suffix.lstrip(".") or "png", dpi=150)
        write_whole(path, picture.getvalue())


def _shown(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _short_names(paths: list[str]) -> list[str]:
    names = [Path(path).name for path in paths]
    return names if len(set(names)) == len(names) else paths
