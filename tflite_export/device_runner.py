"""LiteRT's own benchmark_model: finding a build that runs on the phone, and starting it once per measurement."""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass
from pathlib import Path

from .device_adb import Phone
from .device_output import Timing, fault, ignored_flags, read_result, read_text
from .errors import ExportError

__all__ = ["Job", "check_build", "measure", "place_runner"]

_VARIABLE = "KERAS_ISS_RUNNER"
_USUAL = tuple(
    f"/data/local/tmp/{name}"
    for name in ("benchmark_model", "android_aarch64_benchmark_model", "android_arm_benchmark_model")
)
_WHERE = "docs/phones.md says where to get it"
# e_machine of the ELF header -> Android's name.
_MACHINES = {183: "arm64-v8a", 40: "armeabi-v7a", 62: "x86_64", 3: "x86", 243: "riscv64"}
_WRONG_BUILD = ("not executable", "Exec format error", "unexpected e_machine", "CANNOT LINK EXECUTABLE")
_RUN_S = 600
# The flags that, ignored, would time something else.
_NEEDED = {f"input_layer{end}" for end in ("", "_shape", "_value_range", "_value_files")} | {
    "signature_to_run_for"
}


@dataclass(frozen=True, kw_only=True)
class Job:
    """One file on the phone, and how it is run; a `signature` of "" leaves the choice to the runner."""

    path: Path
    model: str
    signature: str
    inputs: tuple[str, ...]
    threads: int
    warmup: int
    mask: str


def place_runner(phone: Phone, runner: str | os.PathLike | None, abis: list[str]) -> str:
    """Put benchmark_model into our folder on the phone and make it executable.

    Args:
        phone: The phone.
        runner: A build on this computer or on the phone; None takes the one the environment variable
            KERAS_ISS_RUNNER names, else one that lies on the phone in the usual place.
        abis: What the phone can run.

    Returns:
        Its path on the phone.
    """
    named = os.fspath(runner) if runner is not None else os.environ.get(_VARIABLE)
    target = f"{phone.folder}/benchmark_model"
    if named and not (named.startswith("/data/") and not os.path.exists(named)):
        phone.push(check_build(Path(named), abis), "benchmark_model")
        code, text = phone.shell(f"chmod 755 {target}")
    else:
        code, text = _copy(phone, (named,) if named else _USUAL, target)
    if code != 0:
        raise ExportError(
            f"The phone {phone.serial!r} can't use the runner ({text}); push another build of it."
        )
    return target


def _copy(phone: Phone, places: tuple[str, ...], target: str) -> tuple[int, str]:
    there = " ".join(map(shlex.quote, places))
    found = phone.shell(f"for f in {there}; do if [ -f $f ]; then echo $f; break; fi; done")[1]
    if not found:
        raise ExportError(
            f"There is no benchmark_model on the phone {phone.serial!r} (looked for {', '.join(places)}); give "
            f"LiteRT's Android build of it as runner=PATH (--runner PATH) or in {_VARIABLE}; {_WHERE}."
        )
    return phone.shell(f"cp {shlex.quote(found)} {target} && chmod 755 {target}")


def check_build(runner: Path, abis: list[str]) -> Path:
    """The runner's path, once it's sure that it's an Android program for one of these ABIs."""
    try:
        with open(runner, "rb") as file:
            head = file.read(4096)
    except OSError as error:
        raise ExportError(f"Can't read the runner {str(runner)!r}: {error.strerror}; {_WHERE}.") from error
    if head[:4] != b"\x7fELF":
        raise ExportError(
            f"The runner {str(runner)!r} is no program for Android (an app or a web page?); it has to be LiteRT's "
            f"benchmark_model; {_WHERE}."
        )
    build = _MACHINES.get(int.from_bytes(head[18:20], "little"), "another processor")
    if build not in abis:
        raise ExportError(
            f"The runner {str(runner)!r} is built for {build}, but the phone runs {', '.join(abis)}; get the build "
            f"for {abis[0]}; {_WHERE}."
        )
    if b"/ld-linux" in head:
        raise ExportError(
            f"The runner {str(runner)!r} is a build for Linux, not for Android; get the Android build; {_WHERE}."
        )
    return runner


def measure(phone: Phone, runner: str, job: Job, runs: int) -> Timing:
    """Start the runner once: warm up, then so many measured calls.

    Raises:
        PhoneLostError: The phone went away.
        ExportError: The runner can't run the file.
    """
    result = f"{phone.folder}/result.pb"
    words = [
        *(["taskset", job.mask] if job.mask else []),
        runner,
        f"--graph={job.model}",
        f"--num_threads={job.threads}",
        f"--num_runs={runs}",
        "--min_secs=0",  # its default would go on for a second whatever num_runs says
        f"--warmup_runs={job.warmup}",  # and goes on for half a second, until the clock frequency is up
        *([f"--signature_to_run_for={job.signature}"] if job.signature else []),
        *job.inputs,
        f"--result_file_path={result}",
    ]
    command = " ".join(map(shlex.quote, words))
    code, text = phone.shell(f"cd {phone.folder} && rm -f result.pb && {command}", timeout=_RUN_S)
    name = str(job.path)
    if any(sign in text for sign in _WRONG_BUILD):
        raise ExportError(
            f"The phone {phone.serial!r} can't run this build of benchmark_model ({fault(text)}); get the build for "
            f"its processor; {_WHERE}."
        )
    if code != 0:
        raise ExportError(
            f"The runner can't run {name!r} on the phone {phone.serial!r} ({fault(text)}); try another build of it, "
            "and `inputs` must suit the file."
        )
    unknown = sorted(_NEEDED & set(ignored_flags(text)))
    if unknown:
        raise ExportError(
            f"This build of benchmark_model doesn't know --{unknown[0]}, which {name!r} needs; get TensorFlow Lite's "
            f"build; {_WHERE}."
        )
    saved = phone.pull(result)
    timing = (read_result(saved) if saved else None) or read_text(text)
    if timing is None:
        raise ExportError(
            f"The runner gave no timings of {name!r} ({fault(text)}); get another build of it; {_WHERE}."
        )
    return timing
