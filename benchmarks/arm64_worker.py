"""Runs TFLite files on given inputs and stores the outputs; imports numpy and LiteRT only, so it starts anywhere.

    python arm64_worker.py FOLDER

FOLDER holds jobs.json, a list of {"file": .., "inputs": an .npz, "outputs": the .npz to write, "streaming": bool}.
"""

import json
import platform
import sys
from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter


def run(file: Path, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """One call of a file's only signature."""
    interpreter = Interpreter(model_path=str(file))
    return interpreter.get_signature_runner(next(iter(interpreter.get_signature_list())))(**inputs)


def run_streaming(file: Path, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """A sequence fed step by step, then at once: the outputs of every step, the last states, the sequence's outputs."""
    interpreter = Interpreter(model_path=str(file))
    start, step, sequence = (
        interpreter.get_signature_runner(name) for name in ("initial_state", "step", "sequence")
    )
    states = {name: np.array(state) for name, state in start().items()}
    shapes = {name: detail["shape"] for name, detail in step.get_input_details().items()}
    chunk = {name: detail["shape_signature"] for name, detail in sequence.get_input_details().items()}
    steps, each, moving = next(iter(inputs.values())).shape[1], [], dict(states)
    for t in range(steps):
        # A step may keep its time axis of length 1 or have none.
        now = {
            name: x[:, t : t + 1] if len(shapes[name]) == x.ndim else x[:, t] for name, x in inputs.items()
        }
        outputs = step(**now, **moving)
        moving = {name: outputs.pop(name) for name in states}
        each.append(outputs)
    found = {f"steps: {name}": np.stack([outputs[name] for outputs in each]) for name in each[0]}
    found |= {f"state: {name}": y for name, y in moving.items()}
    at_once = sequence(**{name: x[:, : _length(chunk[name], steps)] for name, x in inputs.items()}, **states)
    return found | {f"sequence: {name}": y for name, y in at_once.items()}


def _length(shape: np.ndarray, steps: int) -> int:
    """How many steps a call takes: all of them where the file leaves that open."""
    return steps if shape[1] < 0 else int(shape[1])


def main(folder: Path) -> None:
    for job in json.loads((folder / "jobs.json").read_text()):
        with np.load(folder / job["inputs"]) as stored:
            inputs = dict(stored)
        outputs = (run_streaming if job["streaming"] else run)(folder / job["file"], inputs)
        np.savez(folder / job["outputs"], **outputs)
        print(f"{platform.machine()}: {job['file']}", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
