"""Times one TFLite file in a process of its own; talks JSON, a line each way. Run as a script, by path.

It imports numpy and LiteRT only, so that neither memory nor time of TensorFlow or Keras is measured. It ends when
its standard input closes, so that it can't outlive the process that started it.
"""

from __future__ import annotations

import json
import sys
import time

import numpy as np
from ai_edge_litert.interpreter import Interpreter


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


def reset_peak() -> None:
    """Start the peak anew, where the system can; elsewhere the process's whole peak counts."""
    try:
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")
    except OSError:
        pass


def load(path: str, threads: int, inputs: str | None, steps: int) -> tuple[Interpreter, dict]:
    """An interpreter ready to run on sensible inputs, and what loading it took."""
    given = {name.removeprefix("input "): x for name, x in np.load(inputs).items()} if inputs else {}
    reset_peak()
    before, _ = resident_mb()
    start = time.perf_counter()
    interpreter = Interpreter(model_path=path, num_threads=threads)
    names = signature_inputs(interpreter)
    unknown = set(given) - set(names)
    if unknown:
        raise ValueError(
            f"it has no input {sorted(unknown)[0]!r}; its inputs are {', '.join(map(repr, names))}"
        )
    for name, detail in names.items():
        shape = [int(n) if n > 0 else steps for n in detail["shape_signature"]]
        shape = list(given[name].shape) if name in given else shape
        if shape != list(detail["shape"]):
            interpreter.resize_tensor_input(detail["index"], shape, strict=True)
    interpreter.allocate_tensors()
    init = (time.perf_counter() - start) * 1e3
    rng = np.random.default_rng(0)
    shapes = {}
    for name, detail in signature_inputs(interpreter).items():
        value = given[name] if name in given else values(detail, rng)
        interpreter.set_tensor(detail["index"], value.astype(detail["dtype"]))
        shapes[name] = [int(n) for n in detail["shape"]]
    return interpreter, {"init_ms": init, "before_mb": before, "inputs": shapes}


def signature_inputs(interpreter: Interpreter) -> dict[str, dict]:
    """Input name -> its details; the signature's names where the file has exactly one signature."""
    details = interpreter.get_input_details()
    signatures = interpreter.get_signature_list()
    if len(signatures) == 1:
        runner = interpreter.get_signature_runner(next(iter(signatures)))
        by_index = {d["index"]: name for name, d in runner.get_input_details().items()}
        return {by_index.get(d["index"], d["name"]): d for d in details}
    return {d["name"]: d for d in details}


def values(detail: dict, rng: np.random.Generator) -> np.ndarray:
    """Whole numbers are 0 and 1, in range for any vocabulary; floats lie in [0, 1), which casts to 0."""
    if np.issubdtype(detail["dtype"], np.floating):
        return rng.random(detail["shape"])
    return rng.integers(0, 2, detail["shape"])


def main() -> None:
    """Load on the first line, then run as many calls as each further line asks for."""
    answer = sys.stdout
    try:
        order = json.loads(sys.stdin.readline())
        interpreter, loaded = load(**order)
        print(json.dumps(loaded), file=answer, flush=True)
        for line in sys.stdin:
            times = []
            for _ in range(int(line)):
                start = time.perf_counter()
                interpreter.invoke()
                times.append((time.perf_counter() - start) * 1e3)
            peak = max(0.0, resident_mb()[1] - loaded["before_mb"])
            print(json.dumps({"times_ms": times, "peak_mb": peak}), file=answer, flush=True)
    except (ValueError, RuntimeError, OSError) as error:
        print(json.dumps({"error": " ".join(str(error).split())}), file=answer, flush=True)


if __name__ == "__main__":
    main()
