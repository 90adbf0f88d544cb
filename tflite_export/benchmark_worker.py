"""Times one TFLite file in a process of its own; talks JSON, a line each way. Run as a script, by path.

It imports numpy and LiteRT only, so that neither memory nor time of TensorFlow or Keras is measured. It ends when
its standard input closes, so that it can't outlive the process that started it.
"""

from __future__ import annotations

import functools
import json
import os
import sys
import time
from collections.abc import Callable, Iterable

import numpy as np
from ai_edge_litert.interpreter import Interpreter

LIMIT_VARIABLE, LIMIT_GB = "KERAS_ISS_MAX_GB", 4.0


def resident_mb() -> tuple[float, float]:
    """The resident memory of this process in MB: now, and at its peak since the last reset."""
    try:
        with open("/proc/self/status") as file:
            fields = dict(line.split(":", 1) for line in file if line.startswith("Vm"))
        now, peak = (int(fields[name].split()[0]) / 1024 for name in ("VmRSS", "VmHWM"))
        return now, peak
    except (OSError, KeyError):
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (
            1024**2 if sys.platform == "darwin" else 1024
        )
        return peak, peak


def limit_memory(path: str) -> None:
    """Let this process take a few GB beyond the file's own size, so that a damaged file can't take all there is."""
    try:
        import resource

        with open("/proc/self/statm") as file:
            used = int(file.read().split()[0]) * resource.getpagesize()
        allowed = float(os.environ.get(LIMIT_VARIABLE) or LIMIT_GB) * 1024**3
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        most = int(used + 2 * os.path.getsize(path) + allowed)
        resource.setrlimit(resource.RLIMIT_AS, (most if hard < 0 else min(most, hard), hard))
    except (ImportError, OSError, ValueError, OverflowError):
        return  # no Linux, or no number


def reset_peak() -> None:
    """Start the peak anew, where the system can; elsewhere the process's whole peak counts."""
    try:
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")
    except OSError:
        pass


def load(
    path: str, threads: int, inputs: str | None, steps: int, signature: str | None = None
) -> tuple[Callable, dict]:
    """A call that runs the file once on sensible inputs, and what loading it took."""
    given = {name.removeprefix("input "): x for name, x in np.load(inputs).items()} if inputs else {}
    reset_peak()
    before, _ = resident_mb()
    start = time.perf_counter()
    interpreter = Interpreter(model_path=path, num_threads=threads)
    key = choose_signature(list(interpreter.get_signature_list()), signature)
    details = signature_inputs(interpreter, key)
    unknown = set(given) - set(details)
    if unknown:
        raise ValueError(
            f"it has no input {sorted(unknown)[0]!r}; its inputs are {', '.join(map(repr, details))}"
        )
    shapes = {
        name: list(given[name].shape)
        if name in given
        else [int(n) if n > 0 else steps for n in wanted(detail)]
        for name, detail in details.items()
    }
    first = _tensors(interpreter.get_input_details()) == _tensors(details.values())
    if first:
        for name, detail in details.items():
            if shapes[name] != list(detail["shape"]):
                interpreter.resize_tensor_input(detail["index"], shapes[name], strict=True)
        interpreter.allocate_tensors()
    init = (time.perf_counter() - start) * 1e3
    rng = np.random.default_rng(0)
    feeds = {
        name: (given[name] if name in given else values(detail["dtype"], shapes[name], rng)).astype(
            detail["dtype"]
        )
        for name, detail in details.items()
    }
    loaded = {"init_ms": init, "before_mb": before, "inputs": shapes, "signature": key}
    if not first:
        # Only the signature's own runner reaches another graph; its calls copy inputs and outputs, as an app's do.
        return functools.partial(interpreter.get_signature_runner(key), **feeds), loaded
    for name, detail in details.items():
        interpreter.set_tensor(detail["index"], feeds[name])
    return interpreter.invoke, loaded


def choose_signature(there: list[str], signature: str | None) -> str:
    """The wanted signature; without a wish the only one, the usual one, or one step of a streaming file."""
    named = ", ".join(map(repr, there)) or "none"
    if signature is not None and signature not in there:
        raise ValueError(f"it has no signature {signature!r}; its signatures are: {named}")
    usual = [signature, "serving_default", "step", *there[:1], ""]
    if len(there) > 1 and not {*usual[:3]} & {*there}:
        raise ValueError(f"it has several signatures; choose one with signature=...: {named}")
    return next(key for key in usual if key in there or key == "")


def signature_inputs(interpreter: Interpreter, key: str) -> dict[str, dict]:
    """Input name -> its details; the names are the signature's where the file has one."""
    if not key:
        return {detail["name"]: detail for detail in interpreter.get_input_details()}
    return interpreter.get_signature_runner(key).get_input_details()


def _tensors(details: Iterable[dict]) -> set[tuple[str, int]]:
    return {(detail["name"], detail["index"]) for detail in details}


def wanted(detail: dict) -> list[int]:
    """The shape, with -1 for a length that is chosen at run time."""
    signature = detail["shape_signature"]
    return list(signature if len(signature) else detail["shape"])


def values(dtype: type, shape: list[int], rng: np.random.Generator) -> np.ndarray:
    """Whole numbers are 0 and 1, in range for any vocabulary; floats lie in [0, 1), which casts to 0."""
    return rng.random(shape) if np.issubdtype(dtype, np.floating) else rng.integers(0, 2, shape)


def main() -> None:
    """Load on the first line, then run as many calls as each further line asks for."""
    answer = sys.stdout
    try:
        order = json.loads(sys.stdin.readline())
        limit_memory(order["path"])
        call, loaded = load(**order)
        print(json.dumps(loaded), file=answer, flush=True)
        for line in sys.stdin:
            times = []
            for _ in range(int(line)):
                start = time.perf_counter()
                call()
                times.append((time.perf_counter() - start) * 1e3)
            peak = max(0.0, resident_mb()[1] - loaded["before_mb"])
            print(json.dumps({"times_ms": times, "peak_mb": peak}), file=answer, flush=True)
    except MemoryError as error:
        mend = f"allow more with {LIMIT_VARIABLE}, or give smaller `inputs`"
        print(json.dumps({"error": f"it wants too much memory ({error}): {mend}"}), file=answer, flush=True)
    except (ValueError, RuntimeError, OSError) as error:
        print(json.dumps({"error": " ".join(str(error).split())}), file=answer, flush=True)


if __name__ == "__main__":
    main()
