"""Reading what LiteRT's benchmark_model prints and the result file it writes, in all the forms it has had.

The forms, each from the tool's source (tensorflow/lite/tools/benchmark in TensorFlow, nowadays tflite/tools/benchmark
and litert/tools in LiteRT):

- `BenchmarkLoggingListener::OnBenchmarkEnd`: "Inference timings in us: Init: .., First inference: .., Warmup (avg): ..,
  Inference (avg): .."; in the oldest builds "Average inference timings in us: Warmup: .., Init: .., Inference: .." (or
  "no stats: .."). Newer builds begin their lines with "INFO: ".
- `Stat::OutputToStream` of util/stats_calculator.h, once for the warm-up and once for the measured calls: "count=50
  first=.. curr=.. min=.. max=.. avg=.. std=..", in newer builds followed by "p5=.. median=.. p95=.."; "count=1 curr=.." or
  "count=5 curr=7(all same)" where there is nothing to tell apart.
- "Memory footprint delta from the start of the tool (MB): init=.. overall=.."; in older builds "Peak memory footprint (MB):
  init=.. overall=..". Both are the growth of getrusage's ru_maxrss (profiling/memory_info.cc), so a peak. "Overall peak
  memory footprint (MB) via periodic monitoring: .." is the whole process's and only printed on request.
- litert/tools/benchmark_litert_model.h: "Model initialization: .. ms", "Warmup (first): .. ms", "Overall footprint: .. MB"
  beside the count= lines.
- `--result_file_path`: a protocol buffer, tools/benchmark/proto/benchmark_result.proto.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from typing import Any

__all__ = ["Timing", "fault", "ignored_flags", "read_result", "read_text"]

_STAT = re.compile(r"^(?:\w+: )?(count=\d+ .*)$", re.MULTILINE)
_FIELD = re.compile(r"(\w+)=([-+.\de]+)")
# What a figure's line looks like, and what makes it milliseconds or MB; the first line found counts.
_INIT = (
    (r"timings in us:.*?\bInit: ([\d.]+)", 1e-3),
    (r"Initialized session in ([\d.]+)ms", 1),
    (r"Model initialization: +([\d.]+) ms", 1),
)
_FIRST = ((r"First inference: ([\d.]+)", 1e-3), (r"Warmup \(first\): +([\d.]+) ms", 1))
_PEAK = (
    (r"Memory footprint delta from the start of the tool \(MB\): init=\S+ overall=([\d.]+)", 1),
    (r"Peak memory footprint \(MB\): init=\S+ overall=([\d.]+)", 1),
    (r"Overall footprint: +([\d.]+) MB", 1),
    (r"Overall peak memory footprint \(MB\) via periodic monitoring: ([\d.]+)", 1),
)


@dataclass(frozen=True, kw_only=True)
class Timing:
    """One start of the runner. Times in milliseconds, memory in MB (1024² bytes); None: not told."""

    runs: int
    avg_ms: float
    min_ms: float
    median_ms: float | None = None
    p95_ms: float | None = None
    init_ms: float | None = None
    first_ms: float | None = None
    peak_mb: float | None = None


def read_text(text: str) -> Timing | None:
    """The figures in what the runner printed, or None where it printed none."""
    try:
        return _timing(text)
    except (KeyError, ValueError, OverflowError):  # a line is cut short or garbled
        return None


def _timing(text: str) -> Timing | None:
    stats = [_stat(line) for line in _STAT.findall(text)]
    if not stats or not stats[-1]["count"]:
        return None
    measured = stats[-1]
    first = _figure(text, _FIRST)
    if first is None and len(stats) > 1:
        first = stats[-2]["first"] * 1e-3  # the warm-up's
    return Timing(
        runs=int(measured["count"]),
        avg_ms=measured["avg"] * 1e-3,
        min_ms=measured["min"] * 1e-3,
        median_ms=measured["median"] * 1e-3 if "median" in measured else None,
        p95_ms=measured["p95"] * 1e-3 if "p95" in measured else None,
        init_ms=_figure(text, _INIT),
        first_ms=first,
        peak_mb=_figure(text, _PEAK),
    )


def _stat(line: str) -> dict[str, float]:
    """The fields of a count= line; where all calls took the same time only that time stands there."""
    fields = {name: float(value) for name, value in _FIELD.findall(line)}
    if "curr" in fields:
        fields = {**dict.fromkeys(("first", "min", "avg"), fields["curr"]), **fields}
    return fields


def _figure(text: str, forms: tuple[tuple[str, float], ...]) -> float | None:
    for pattern, scale in forms:
        if found := re.search(pattern, text):
            return float(found[1]) * scale
    return None


# Field numbers of benchmark_result.proto.
_LATENCY, _MEMORY, _MISC = 2, 3, 4
_AVG, _MIN, _MEDIAN, _P95, _INIT_MS, _FIRST_MS = 1, 2, 5, 7, 8, 9
_OVERALL_KB, _NUM_RUNS = 2, 2


def read_result(data: bytes) -> Timing | None:
    """The figures in the runner's result file, or None where it is empty or cut short."""
    try:
        parts = _fields(data)
        latency, memory, misc = (_fields(parts.get(number, b"")) for number in (_LATENCY, _MEMORY, _MISC))
        kilobytes = memory.get(_OVERALL_KB)
        return Timing(
            runs=int(misc[_NUM_RUNS]),
            avg_ms=latency[_AVG],
            min_ms=latency[_MIN],
            median_ms=latency.get(_MEDIAN),
            p95_ms=latency.get(_P95),
            init_ms=latency.get(_INIT_MS),
            first_ms=latency.get(_FIRST_MS),
            peak_mb=None if kilobytes is None else kilobytes / 1024,
        )
    except (KeyError, IndexError, TypeError, struct.error, ValueError):
        return None


def _fields(data: bytes) -> dict[int, Any]:
    """Field number -> value of one protocol buffer message; a nested message is bytes."""
    found, at = {}, 0
    while at < len(data):
        key, at = _varint(data, at)
        number, kind = key >> 3, key & 7
        if kind == 0:
            found[number], at = _varint(data, at)
        elif kind == 5:
            found[number], at = struct.unpack_from("<f", data, at)[0], at + 4
        elif kind == 2:
            size, at = _varint(data, at)
            if at + size > len(data):
                raise ValueError("cut short")
            found[number], at = data[at : at + size], at + size
        else:
            raise ValueError(f"wire type {kind}")
    return found


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


def ignored_flags(text: str) -> list[str]:
    """The flags that this build of the runner doesn't know ("Unconsumed cmdline flags: --a=1 --b=2")."""
    line = re.search(r"Unconsumed cmdline flags: (.*)", text)
    return re.findall(r"--(\w+)", line[1]) if line else []


def fault(text: str) -> str:
    """What the runner said went wrong: its first ERROR line, else its last line."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if re.match(r"(ERROR|FATAL)\b", line)] or lines[-1:]
    return re.sub(r"^\w+: ", "", errors[0]) if errors else "it printed nothing"
