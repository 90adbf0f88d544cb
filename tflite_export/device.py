"""Timing TFLite files on a phone: pushed through adb, run by LiteRT's own benchmark_model, nothing left behind."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from time import sleep

import numpy as np

from .benchmark_report import BenchmarkReport, BenchmarkRow
from .device_adb import Phone, PhoneLostError, find_phone
from .device_inputs import Feed, feed, model_inputs
from .device_output import Timing
from .device_runner import Job, measure, place_runner
from .errors import ExportError

__all__ = ["benchmark_on_phone", "core_mask"]

_ROUNDS = 3  # each starts every file once; the row is the median of them


@dataclass(frozen=True, kw_only=True)
class PhoneFacts:
    """What the phone says of itself."""

    model: str
    cpu: str
    abis: tuple[str, ...]
    android: str

    def __str__(self) -> str:
        return f"{self.model}, {self.cpu}, {self.abis[0]}, Android {self.android}"


def benchmark_on_phone(
    paths: list[Path],
    *,
    serial: str | None,
    threads: int,
    runs: int,
    warmup: int,
    inputs: Mapping[str, np.ndarray],
    runner: str | os.PathLike | None,
    cores: str | None,
    cooldown: float,
    signature: str | None,
    open_steps: int,
) -> BenchmarkReport:
    """Time files on a phone; the arguments are those of `tflite_export.benchmark`.

    Raises:
        ExportError: Nothing could be measured. A phone that goes away later ends the report instead: it holds what
            was measured until then, and `problem` says what happened.
    """
    if cores not in (None, "big"):
        _listed(cores)
    feeds = [_feed(path, signature, inputs, open_steps) for path in paths]
    phone = find_phone(serial)
    facts = _facts(phone)
    mask = core_mask(phone, cores)
    timings: list[list[Timing]] = [[] for _ in paths]
    heat: list[list[float]] = [[] for _ in paths]
    problem = ""
    with phone:
        program = place_runner(phone, runner, list(facts.abis))
        jobs = [
            _job(phone, k, path, *each, threads=threads, warmup=warmup, mask=mask)
            for k, (path, each) in enumerate(zip(paths, feeds, strict=True))
        ]
        try:
            for calls in _shares(runs):
                for job, measured, warmth in zip(jobs, timings, heat, strict=True):
                    sleep(cooldown if any(timings) else 0)
                    measured.append(measure(phone, program, job, calls))
                    warmth += _temperature(phone)
        except PhoneLostError as error:
            if not any(timings):
                raise
            problem = str(error)
    return BenchmarkReport(
        rows=tuple(
            _row(path, each[0], each[2], measured, warmth, threads)
            for path, each, measured, warmth in zip(paths, feeds, timings, heat, strict=True)
            if measured
        ),
        device=f"adb:{phone.serial}",
        machine=str(facts) + (f", cores {mask}" if mask else ""),
        cpu=facts.cpu,
        abi=facts.abis[0],
        os_version=f"Android {facts.android}",
        problem=_problem(problem, phone.left_behind, paths, timings),
        notes=_notes(timings),
    )


def _feed(path: Path, signature: str | None, inputs, open_steps: int) -> tuple[str, bool, Feed]:
    """The file's signature that is run, whether it has others, and what it's fed."""
    key, several, wanted = model_inputs(path.read_bytes(), signature, path)
    return key, several, feed(wanted, inputs, open_steps, path)


def _job(phone: Phone, k: int, path: Path, signature: str, several: bool, fed: Feed, **options) -> Job:
    for name, values in fed.files.items():
        phone.push_bytes(values, f"model{k}_{fed.file_name(name)}")
    return Job(
        path=path,
        model=phone.push(path, f"model{k}.tflite"),
        signature=signature if several else "",
        inputs=tuple(fed.flags(f"{phone.folder}/model{k}_")),
        **options,
    )


def _shares(runs: int) -> list[int]:
    """The measured calls of each round, so that they sum to `runs`."""
    each, more = divmod(runs, _ROUNDS)
    return [n for n in (each + (k < more) for k in range(_ROUNDS)) if n]


def _row(path: Path, signature: str, fed: Feed, timings, heat: list[float], threads: int) -> BenchmarkRow:
    p95 = _median([t.p95_ms for t in timings])
    return BenchmarkRow(
        path=str(path),
        min_ms=min(t.min_ms for t in timings),
        median_ms=float(np.median([t.avg_ms if t.median_ms is None else t.median_ms for t in timings])),
        p95_ms=p95,
        init_ms=_median([t.init_ms for t in timings]),
        first_ms=_median([t.first_ms for t in timings]),
        peak_mb=max((t.peak_mb for t in timings if t.peak_mb is not None), default=None),
        size_bytes=path.stat().st_size,
        threads=threads,
        runs=sum(t.runs for t in timings),
        inputs=fed.shapes,
        signature=signature,
        temperature_c=max(heat, default=None),
    )


def _median(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.median(known)) if known else None


def _problem(problem: str, left_behind: str, paths: list[Path], timings: list[list[Timing]]) -> str:
    missing = [path.name for path, measured in zip(paths, timings, strict=True) if not measured]
    sentences = [problem.rstrip(".")] if problem else []
    if missing:
        sentences.append(f"nothing was measured of {', '.join(missing)}")
    elif problem:
        sentences.append("every file was measured, though not as often as asked")
    return "; ".join([*sentences, *filter(None, [left_behind])])


def _notes(timings: list[list[Timing]]) -> tuple[str, ...]:
    if any(t.median_ms is None for measured in timings for t in measured):
        return ("this older runner tells averages only: the median is that of the rounds' averages",)
    return ()


# ------------------------------------------------------------------------------------------- the phone itself


def _facts(phone: Phone) -> PhoneFacts:
    told = phone.properties()

    def first(*names: str) -> str:
        return next((told[name] for name in names if told.get(name)), "unknown")

    return PhoneFacts(
        model=first("ro.product.model", "ro.product.device"),
        cpu=first("ro.soc.model", "ro.board.platform", "ro.hardware"),
        abis=tuple(first("ro.product.cpu.abilist", "ro.product.cpu.abi").split(",")),
        android=first("ro.build.version.release"),
    )


def _temperature(phone: Phone) -> list[float]:
    """The hottest processor sensor in degrees Celsius, the battery's where Android tells no other, or nothing.

    Android 10 and later print "Temperature{mValue=62.5, mType=0, mName=CPU0, mStatus=0}" under "Current temperatures
    from HAL:" (type 0 is a processor, 0 degrees a sensor that isn't fitted), before stands a stale cache; all print
    the battery's "temperature: 287" in tenths.
    """
    now = phone.shell("dumpsys thermalservice")[1].partition("Current temperatures from HAL:")[2]
    now = now.partition("Current cooling devices")[0]
    sensors = [float(value) for value in re.findall(r"mValue=([-\d.]+), mType=0,", now)]
    if hot := [value for value in sensors if value > 0]:
        return [max(hot)]
    battery = re.search(r"^\s*temperature: (\d+)$", phone.shell("dumpsys battery")[1], re.MULTILINE)
    return [int(battery[1]) / 10] if battery else []


def core_mask(phone: Phone, cores: str | None) -> str:
    """taskset's mask, in hexadecimal, for "big" or a list such as "4-7"; "" pins nothing."""
    if cores is None:
        return ""
    chosen = _big(phone) if cores == "big" else _listed(cores)
    mask = f"{sum(1 << core for core in chosen):x}"
    code, text = phone.shell(f"taskset {mask} true")
    if code != 0:
        raise ExportError(
            f"The phone {phone.serial!r} can't pin a program to the cores {cores!r} ({text}); choose others or omit "
            "`cores`."
        )
    return mask


def _big(phone: Phone) -> set[int]:
    """All cores that are faster than the slowest ones."""
    listed = phone.shell("grep -H . /sys/devices/system/cpu/cpu[0-9]*/cpufreq/cpuinfo_max_freq")[1]
    clocks = {int(core): int(clock) for core, clock in re.findall(r"/cpu(\d+)/cpufreq/\w+:(\d+)", listed)}
    if not clocks:
        raise ExportError(
            f'The phone {phone.serial!r} doesn\'t tell the speed of its cores; name them, for example cores="4-7".'
        )
    return {core for core, clock in clocks.items() if clock > min(clocks.values())} or set(clocks)


def _listed(cores: str) -> set[int]:
    chosen = set()
    for part in cores.split(","):
        first, _, last = part.partition("-")
        if not (first.isdecimal() and (last or first).isdecimal() and int(first) <= int(last or first) < 64):
            raise ExportError(
                'Invalid value for argument `cores`. Expected "big" or core numbers such as "4-7" or "4,5,6". '
                f"Received: cores={cores!r}"
            )
        chosen |= set(range(int(first), int(last or first) + 1))
    return chosen
