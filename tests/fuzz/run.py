"""Feeds damaged files to our code and counts crashes, hangs, memory blow-ups and undocumented errors.

    python tests/fuzz/run.py --target keras_file --minutes 20 [--seed 0] [--keep DIR] [--json FILE]
    python tests/fuzz/run.py --target keras_file --file DIR/FINDING        # one finding again, with its traceback

Targets: keras_file, config_json, tflite_file, adb_text, data_readers. Each case runs in a process forked from one that
has everything loaded. Ends with exit code 1 if anything was found; the damaged files are kept, a summary is printed.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import json
import os
import random
import resource
import select
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[2])]

from tests.fuzz.targets import SILENCE_S, TARGETS, Target, prepare  # noqa: E402

CASE_S = 2 * SILENCE_S + 20  # a case that takes longer hangs
MEMORY = 3 * 1024**3  # bytes a case may take on top of what is loaded
BATCH = 20  # cases of one forked process
FINE = ("taken", "refused")


def judge(target: Target, path: Path) -> str:
    """What reading the file comes to: taken, refused, memory, or the undocumented error in short."""
    try:
        target.read(path)
    except MemoryError as error:
        return f"memory\n{error}"
    except SystemExit as error:
        return f"error: SystemExit({error.code})"
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{Path(last.filename).stem}:{type(error).__name__}"
        if type(error).__name__ in target.expected or place in target.expected:
            return "refused"
        ours = next((f for f in reversed(traceback.extract_tb(error.__traceback__)) if "/tests/" not in f.filename
                     and any(n in f.filename for n in ("keras_iss", "tflite_export", "examples"))), last)  # fmt: skip
        return f"error: {place} from {Path(ours.filename).name}:{ours.lineno}\n{' '.join(str(error).split())[:300]}"
    return "taken"


def in_a_process(target: Target, paths: Sequence[Path]) -> Iterator[str]:
    """`judge` of each file, in a forked process that may end in any way; after its end another goes on."""
    left = list(paths)
    while left:
        child, pipe = _started(target, left)
        try:
            while left:
                verdict = _line(pipe)
                if verdict is None:
                    break
                left.pop(0)
                yield verdict
            else:
                return
            stuck = child.poll() is None
        finally:
            os.close(pipe)
            child.kill()
        left.pop(0)
        yield "hang" if stuck else child.how_it_ended()


class _Child:
    """A forked process and what it starts."""

    def __init__(self, number: int):
        self.number, self._status = number, None

    def poll(self) -> int | None:
        """Its status once it has ended; a process that just closed its pipe gets a second for that."""
        end = time.monotonic() + 1
        while self._status is None and time.monotonic() < end:
            done, status = os.waitpid(self.number, os.WNOHANG)
            if done:
                self._status = status
            else:
                time.sleep(0.01)
        return self._status

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.number, signal.SIGKILL)
        if self._status is None:
            self._status = os.waitpid(self.number, 0)[1]

    def how_it_ended(self) -> str:
        code = os.waitstatus_to_exitcode(self._status or 0)
        return f"crash: {signal.Signals(-code).name}" if code < 0 else f"error: ended with {code}"


def _started(target: Target, paths: Sequence[Path]) -> tuple[_Child, int]:
    back, forth = os.pipe()
    child = os.fork()
    if child:
        os.close(forth)
        with contextlib.suppress(OSError):
            os.setpgid(child, child)
        return _Child(child), back
    os.close(back)
    with contextlib.suppress(OSError):
        os.setpgid(0, 0)  # so that what it starts can be ended with it
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY, size + MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    null = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(null, number)
    for path in paths:
        os.write(forth, json.dumps(judge(target, path)[:2000]).encode() + b"\n")
    os._exit(0)


def _line(pipe: int) -> str | None:
    """The next verdict; None where none comes any more, or none in time."""
    told, end = b"", time.monotonic() + CASE_S
    while not told.endswith(b"\n"):
        ready, _, _ = select.select([pipe], [], [], max(0.0, end - time.monotonic()))
        if not ready or not (part := os.read(pipe, 1)):
            return None
        told += part
    return json.loads(told)


def fuzz(
    target: Target, *, minutes: float, seed: int, keep: Path, cases: int | None = None
) -> collections.Counter:
    """Runs cases until the time is up; findings are kept as files named after the case."""
    warnings.simplefilter("ignore")
    rng, counts = random.Random(seed), collections.Counter()
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        _in_another(target.seeds, folder)
        prepare(target)
        seeds = sorted(path for path in folder.iterdir() if not (target.expected[1:2] == ("PhoneLostError",)
                       and path.suffix == ".tflite"))  # fmt: skip
        (folder / "case").mkdir()
        end = time.monotonic() + 60 * minutes
        while time.monotonic() < end and (cases is None or counts.total() < cases):
            paths = []
            for number in range(counts.total(), counts.total() + BATCH):
                source = rng.choice(seeds)
                paths.append(folder / "case" / f"{number}-{source.name}")
                paths[-1].write_bytes(target.damage(source.name, source.read_bytes(), rng))
            for path, verdict in zip(paths, in_a_process(target, paths), strict=True):
                found, _, message = verdict.partition("\n")
                counts[found] += 1
                if found not in FINE and counts[found] <= 3:
                    keep.mkdir(parents=True, exist_ok=True)
                    (keep / path.name).write_bytes(path.read_bytes())
                    print(f"{path.name}: {found} {message}", flush=True)
                path.unlink()
    return counts


def _in_another(make, folder: Path) -> None:
    """Runs `make(folder)` in a forked process, so that this one stays without the threads it starts."""
    child = os.fork()
    if not child:
        try:
            make(folder)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]):
        raise RuntimeError("the valid files could not be made")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--target", choices=TARGETS, required=True)
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, default=Path("fuzz-findings"), help="default: %(default)s")
    parser.add_argument("--json", type=Path, help="also write the counts")
    parser.add_argument("--file", type=Path, help="read only this file, in this process")
    options = parser.parse_args()
    target = TARGETS[options.target]
    if options.file:
        prepare(target)
        target.read(options.file)
        return 0
    started = time.monotonic()
    counts = fuzz(target, minutes=options.minutes, seed=options.seed, keep=options.keep / options.target)
    found = {what: count for what, count in counts.items() if what not in FINE}
    summary = {
        "target": options.target,
        "seed": options.seed,
        "minutes": round((time.monotonic() - started) / 60, 1),
        "cases": counts.total(),
        **{what: counts[what] for what in FINE},
        "found": found,
    }
    print(json.dumps(summary, indent=1))
    if options.json:
        options.json.write_text(json.dumps(summary, indent=1) + "\n")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
