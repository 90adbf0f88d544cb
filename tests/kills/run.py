"""Kills trainings, growth rounds, sweeps, strips, exports and benchmarks at random moments, runs them again, and compares.

    python tests/kills/run.py --kills 200 [--operations train grow sweep strip export benchmark] [--seed 0] [--json FILE]

Each run is a process forked from one that has everything loaded, with a folder of its own for temporary files. Half of
the kills (SIGKILL) come after a random time, half right after a file has changed, where writing is under way. After a kill
every output file has to be absent, the old one, or whole; some runs are killed again while they resume. At the end the
result has to be that of a run that nobody killed, and nothing of ours may lie beside the outputs or among temporary files.
Ends with exit code 1 if anything was lost, half written, different or left behind.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import re
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parents[2])]

from tests.kills.operations import OPERATIONS, Operation, make_inputs, prepare, same  # noqa: E402

AGAIN = 0.3  # how likely a resumed run is killed, too
TENSORFLOWS = "__autograph_generated_file"  # TensorFlow removes them in a process that ends as usual
KERASS = re.compile(r"tmp\w{8}")
OLD = b"what was there"


def started(work: Callable[[], None], folder: Path) -> int:
    """A forked process that does the work and writes what goes wrong to the file "log"."""
    child = os.fork()
    if child:
        return child
    os.setpgid(0, 0)
    temporary = folder / "tmp"
    temporary.mkdir(exist_ok=True)
    os.environ["TMPDIR"] = tempfile.tempdir = str(temporary)
    log = os.open(folder / "log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for number in (1, 2):
        os.dup2(log, number)
    try:
        work()
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)
    os._exit(0)


def finished(work: Callable[[], None], folder: Path) -> tuple[float, str]:
    """Runs to the end; the seconds it took, and what went wrong."""
    begin = time.monotonic()
    child = started(work, folder)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    problem = f"ended with {code}: {(folder / 'log').read_text()[-1500:]}" if code else ""
    return time.monotonic() - begin, problem


def killed(work: Callable[[], None], folder: Path, when: Callable[[float], bool]) -> bool:
    """Runs until `when(seconds)` says so, then kills; whether the kill came before the end."""
    begin = time.monotonic()
    child = started(work, folder)
    while not when(time.monotonic() - begin):
        if os.waitpid(child, os.WNOHANG)[0]:
            return False
        time.sleep(0.0002)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    _wait_for_the_group(child)
    return True


def _wait_for_the_group(group: int) -> None:
    """What the killed process had started ends by itself; only then is the folder looked at."""
    end = time.monotonic() + 20
    with contextlib.suppress(ProcessLookupError):
        while time.monotonic() < end:
            os.killpg(group, 0)
            time.sleep(0.01)
        os.killpg(group, signal.SIGKILL)
        raise RuntimeError("a process outlived the one that was killed")


def at_a_moment(seconds: float, rng: random.Random) -> Callable[[float], bool]:
    moment = rng.uniform(0, seconds)
    return lambda passed: passed >= moment


def at_a_change(folder: Path, rng: random.Random) -> Callable[[float], bool]:
    """Right after a file has appeared, grown, moved or gone, the n-th time."""
    left, delay, seen = rng.randrange(1, 40), rng.choice((0.0, 0.0, rng.expovariate(200))), _sizes(folder)

    def now(passed: float) -> bool:
        nonlocal left, seen
        if (sizes := _sizes(folder)) != seen:
            left, seen = left - 1, sizes
            if not left:
                time.sleep(delay)
        return left <= 0

    return now


def _sizes(folder: Path) -> dict[str, int]:
    sizes = {}
    for place, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                if name != "log":
                    sizes[f"{place}/{name}"] = os.stat(f"{place}/{name}").st_size
    return sizes


def looked_at(operation: Operation, out: Path, reference: list[Any], *, ended: bool) -> str:
    """What is wrong with the output files: half written, or other than those of the run that nobody killed."""
    for name, expected in zip(operation.outputs, reference, strict=True):
        file = out / name
        if not ended and (not file.exists() or file.read_bytes() == OLD):
            continue
        try:
            found = operation.result(file)
        except Exception as error:
            return f"{name} is half written or lost: {error!r}"
        if not same(found, expected):
            return f"{name} differs"
    return ""


def left_behind(folder: Path, operation: Operation) -> list[str]:
    """What of ours lies beside the outputs and in the folder for temporary files."""
    beside = {path.name for path in (folder / "out").iterdir()} - {*operation.outputs}
    ours = {path.name for path in (folder / "tmp").iterdir() if not _others(path)}
    return sorted(beside | ours)


def _others(path: Path) -> bool:
    """Whether TensorFlow or Keras made it: `model.save` has a folder "tmp.../assets", empty where the model has no assets."""
    assets = KERASS.fullmatch(path.name) and path.is_dir() and {*path.rglob("*")} <= {path / "assets"}
    return bool(assets) or path.name.startswith(TENSORFLOWS)


def kill_once(
    operation: Operation, inputs: Path, folder: Path, seconds: float, reference, rng
) -> tuple[int, str]:
    """One run, killed once or more; how many kills hit it, and what went wrong."""
    out = folder / "out"
    out.mkdir()
    if operation.replaces and rng.random() < 0.5:
        for name in operation.outputs:
            (out / name).write_bytes(OLD)

    def work() -> None:
        operation.run(out, inputs)

    kills = 0
    while True:
        when = at_a_moment(seconds, rng) if rng.random() < 0.5 else at_a_change(folder, rng)
        kills += killed(work, folder, when)
        if problem := looked_at(operation, out, reference, ended=False):
            return kills, problem
        if rng.random() >= AGAIN:
            break
    _, problem = finished(work, folder)
    problem = problem or looked_at(operation, out, reference, ended=True)
    if not problem and (left := left_behind(folder, operation)):
        problem = f"left behind: {', '.join(left)}"
    return kills, problem


def run(kills: int, names: list[str], seed: int, report: Callable[[str], None] = print) -> dict[str, Any]:
    """So many kills over the operations in turn."""
    rng, done, found = random.Random(seed), Counter(), []
    with tempfile.TemporaryDirectory() as work:
        base = Path(work)
        (base / "inputs").mkdir()
        prepare()
        problem = finished(lambda: make_inputs(base / "inputs", names), base)[1]
        if problem:
            raise RuntimeError(problem)
        expected = {name: _reference(OPERATIONS[name], base, name) for name in names}
        number = 0
        while done.total() < kills:
            name = names[number % len(names)]
            folder = base / f"{number}-{name}"
            folder.mkdir()
            hit, problem = kill_once(OPERATIONS[name], base / "inputs", folder, *expected[name], rng)
            done[name] += hit
            if problem:
                found.append(f"{number}-{name}: {problem}")
                report(found[-1])
            _remove(folder)
            number += 1
    seconds = {name: round(took, 1) for name, (took, _) in expected.items()}
    return {
        "kills": done.total(),
        "seed": seed,
        "by_operation": dict(done),
        "seconds": seconds,
        "found": found,
    }


def _reference(operation: Operation, base: Path, name: str) -> tuple[float, list[Any]]:
    """How long it takes, and its results, where nobody kills it."""
    folder = base / name
    (folder / "out").mkdir(parents=True)
    seconds, problem = finished(lambda: operation.run(folder / "out", base / "inputs"), folder)
    if problem:
        raise RuntimeError(problem)
    return seconds, [operation.result(folder / "out" / output) for output in operation.outputs]


def _remove(folder: Path) -> None:
    import shutil

    shutil.rmtree(folder, ignore_errors=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--operations", nargs="+", choices=OPERATIONS, default=[*OPERATIONS])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="also write the summary")
    options = parser.parse_args()
    begin = time.monotonic()
    summary = run(options.kills, options.operations, options.seed, lambda line: print(line, flush=True))
    summary["minutes"] = round((time.monotonic() - begin) / 60, 1)
    print(json.dumps(summary, indent=1))
    if options.json:
        options.json.write_text(json.dumps(summary, indent=1) + "\n")
    return int(bool(summary["found"]))


if __name__ == "__main__":
    sys.exit(main())
