"""Timing TFLite files: on this machine a process per file, the files taking turns; on a phone see device.py."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import re
import selectors
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .benchmark_report import BenchmarkReport, BenchmarkRow
from .errors import ExportError
from .files import working_folder

__all__ = ["BenchmarkReport", "BenchmarkRow", "benchmark"]

_BURST = 5  # measured calls before the next file's turn
_OPEN_STEPS = 16  # the length given to an axis that is chosen at run time
_SILENCE_S = 600  # a worker that says nothing for so long is given up


def benchmark(
    paths: str | os.PathLike | Iterable[str | os.PathLike],
    *,
    threads: int = 1,
    runs: int = 50,
    warmup: int = 5,
    device: str = "host",
    inputs: Mapping[str, np.ndarray] | None = None,
    signature: str | None = None,
    runner: str | os.PathLike | None = None,
    cores: str | None = None,
    cooldown: float = 5.0,
) -> BenchmarkReport:
    """Time TFLite files against each other, on this machine or on a phone.

    On this machine every file runs in its own process, which imports LiteRT and numpy only. The files take turns in
    bursts of a few calls (the first of each burst, on cold caches, isn't counted), so that whatever else the machine
    does falls on all alike; compare the medians.

    On a phone the files are pushed through adb to a folder of their own and run by LiteRT's benchmark_model, which
    warms up for at least half a second, in three rounds, the files taking turns. The folder is removed at the end,
    whatever happens. When the phone goes away in the middle, the report holds what was measured until then and says
    so in `problem`.

    Args:
        paths: The files, or one file.
        threads: Threads per file.
        runs: Measured calls per file.
        warmup: Calls before the measured ones.
        device: "host", "adb" for the only connected phone, or "adb:SERIAL".
        inputs: Input name -> array, given to every file that is timed. Without it floats lie in [0, 1) (on a phone in
            [-0.5, 0.5)), an axis whose length is chosen at run time gets 16 steps, and whole numbers are 0 and 1,
            which are in range for any vocabulary; on a phone they fill the table they're looked up in, and are asked
            for where the file doesn't tell.
        signature: Which signature to run; None takes the only one, "serving_default", or "step".
        runner: For a phone: the path of benchmark_model's Android build, here or on the phone. None takes the
            environment variable KERAS_ISS_RUNNER or one that lies in the phone's /data/local/tmp.
        cores: For a phone: pin the program to its "big" cores (all but the slowest kind) or to a list like "4-7".
        cooldown: For a phone: seconds of rest before each start.

    Returns:
        The report; `str(report)` is a table.

    Raises:
        ExportError: A file is missing or isn't a TFLite file that LiteRT can run, an argument is invalid, or the
            phone or its runner can't be used.

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
    _check(paths, threads, runs, warmup, device, cooldown)
    given = _arrays(inputs)
    if device != "host":
        from .device import benchmark_on_phone

        return benchmark_on_phone(
            paths,
            serial=device.partition(":")[2] or None,
            threads=threads,
            runs=runs,
            warmup=warmup,
            inputs=given,
            runner=runner,
            cores=cores,
            cooldown=cooldown,
            signature=signature,
            open_steps=_OPEN_STEPS,
        )
    if runner is not None or cores is not None:
        raise ExportError('Arguments `runner` and `cores` are for a phone; omit them or use device="adb".')
    return _benchmark_here(paths, threads, runs, warmup, given, signature)


def _benchmark_here(paths, threads, runs, warmup, given, signature) -> BenchmarkReport:
    with contextlib.ExitStack() as stack:
        saved = stack.enter_context(_saved(given))
        workers = [stack.enter_context(_Worker(path, threads, saved, signature)) for path in paths]
        for worker in workers:
            worker.run(warmup)
        times: list[list[float]] = [[] for _ in workers]
        while len(times[-1]) < runs:
            burst = min(_BURST, runs - len(times[-1]))
            for worker, measured in zip(workers, times, strict=True):
                measured += worker.run(1 + burst)[1:]
        rows = tuple(worker.row(measured) for worker, measured in zip(workers, times, strict=True))
    return BenchmarkReport(
        rows=rows,
        device="host",
        machine=_machine(),
        cpu=platform.processor() or platform.machine(),
        abi=platform.machine(),
        os_version=f"{platform.system()} {platform.release()}",
    )


def _check(paths: list[Path], threads: int, runs: int, warmup: int, device: str, cooldown: float) -> None:
    if device not in ("host", "adb") and not (isinstance(device, str) and re.fullmatch(r"adb:\S+", device)):
        raise ExportError(
            'Invalid value for argument `device`. Expected "host", "adb" or "adb:SERIAL". '
            f"Received: device={device!r}"
        )
    for name, value, least in (("threads", threads, 1), ("runs", runs, 1), ("warmup", warmup, 0)):
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ExportError(
                f"Invalid value for argument `{name}`. Expected a whole number of at least {least}. "
                f"Received: {name}={value!r}"
            )
    if not isinstance(cooldown, (int, float)) or not 0 <= cooldown < float("inf"):
        raise ExportError(
            "Invalid value for argument `cooldown`. Expected seconds, a number of at least 0. "
            f"Received: cooldown={cooldown!r}"
        )
    if not paths:
        raise ExportError(
            "Invalid value for argument `paths`. Expected at least one TFLite file. Received: paths=[]"
        )
    for path in paths:
        _check_file(path)


def _check_file(path: Path) -> None:
    if path.exists() and not path.is_file():
        raise ExportError(
            f"Can't read {str(path)!r}: it is a folder or a device; give the name of a TFLite file."
        )
    try:
        with open(path, "rb") as file:
            head = file.read(8)
    except OSError as error:
        raise ExportError(f"Can't read {str(path)!r}: {error.strerror}; check the path.") from error
    if head[4:8] != b"TFL3":
        raise ExportError(
            f"{str(path)!r} isn't a TFLite file (its mark TFL3 is missing); export the model again."
        )


def _arrays(inputs: Mapping[str, np.ndarray] | None) -> dict[str, np.ndarray]:
    if inputs is None:
        return {}
    if not isinstance(inputs, Mapping):
        raise ExportError(
            "Invalid value for argument `inputs`. Expected a dictionary from input name to array. "
            f"Received: inputs={type(inputs).__name__}"
        )
    return {name: np.asarray(value) for name, value in inputs.items()}


@contextlib.contextmanager
def _saved(inputs: dict[str, np.ndarray]):
    """The inputs in a file that the workers read, or None."""
    if not inputs:
        yield None
        return
    with working_folder() as folder:
        file = os.path.join(folder, "inputs.npz")
        # The prefix keeps an input called "file" apart from savez's own argument.
        named: dict[str, Any] = {f"input {name}": value for name, value in inputs.items()}
        np.savez(file, **named)
        yield file


class _Worker:
    """The process that runs one file."""

    def __init__(self, path: Path, threads: int, inputs: str | None, signature: str | None):
        self.path, self.threads = path, threads
        self.order = {
            "path": str(path),
            "threads": threads,
            "inputs": inputs,
            "steps": _OPEN_STEPS,
            "signature": signature,
        }

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
        self.peak_mb, self.first_ms = 0.0, None
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
        self.first_ms = (*answer["times_ms"], None)[0] if self.first_ms is None else self.first_ms
        return answer["times_ms"]

    def row(self, times: list[float]) -> BenchmarkRow:
        return BenchmarkRow(
            path=str(self.path),
            min_ms=float(np.min(times)),
            median_ms=float(np.median(times)),
            p95_ms=float(np.percentile(times, 95)),
            init_ms=self.loaded["init_ms"],
            first_ms=self.first_ms,
            peak_mb=self.peak_mb,
            size_bytes=self.path.stat().st_size,
            threads=self.threads,
            runs=len(times),
            inputs=self.loaded["inputs"],
            signature=self.loaded["signature"],
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


def _machine() -> str:
    return f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()} {platform.release()}"
