"""Runs every kind of exported file on other versions of ai-edge-litert and compares the outputs with those of this one.

    python benchmarks/litert_versions.py [--versions 1.0.1 2.3.0] [--cache DIR] [--only MODEL ...] [--json FILE]

Without --versions it takes the oldest and the newest that pip can install here. Each gets a virtual environment of its
own in the cache folder, with the numpy that it asks for; the files are exported once, here. Models, kinds of files and
tolerances are those of arm64_check.py, but two steps of the 8-bit scale are allowed where that allows one: between
versions the integer kernels themselves have changed (1.0.0 is 1.2 steps off in the SimpleRNN's streaming int8 file).
Ends with exit code 1 where an output differs; a file that a version refuses or crashes on is a row of its own
("FAILS"), and ends it with 1 on the newest version only: what an old one can't run is to be known, not mended.
"""

import argparse
import dataclasses
import json
import re
import subprocess
import sys
import tempfile
import venv
from importlib.metadata import version
from pathlib import Path

import numpy as np
from arm64_check import LOWERINGS, Row, compare, export_all, models
from arm64_root import default_cache

PACKAGE = "ai-edge-litert"
_WORKER = Path(__file__).with_name("arm64_worker.py")


def available() -> list[str]:
    """The versions that pip finds for this Python, the oldest first."""
    command = [sys.executable, "-m", "pip", "index", "versions", PACKAGE]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = re.search(r"Available versions: (.*)", done.stdout)
    return [name.strip() for name in found[1].split(",")][::-1] if found else []


def python_of(wanted: str, cache: Path) -> Path:
    """The Python of an environment with that version; made where it is missing."""
    folder = cache / f"litert-{wanted}-{sys.version_info[0]}.{sys.version_info[1]}"
    python, ready = folder / "bin" / "python", folder / "ready"
    if not ready.exists():
        venv.create(folder, with_pip=True, clear=True)
        install(python, f"{PACKAGE}=={wanted}")
        ready.write_text("")
    return python


def install(python: Path, what: str) -> None:
    subprocess.run([str(python), "-m", "pip", "install", "--quiet", what], check=True)


def outputs(python: Path, job: dict, folder: Path) -> dict[str, np.ndarray] | str:
    """What a file gives there, or why it gives nothing."""
    (folder / "jobs.json").write_text(json.dumps([job]))
    done = subprocess.run(
        [str(python), str(_WORKER), str(folder)], capture_output=True, text=True, timeout=300
    )
    if done.returncode != 0:
        said = [line for line in done.stderr.splitlines() if line.strip()]
        return " ".join([f"exit code {done.returncode}:", *said[-1:]])[:200]
    file = folder / job["outputs"]
    with np.load(file) as stored:
        found = dict(stored)
    file.unlink()
    return found


def check(wanted: list[str], cache: Path, only: list[str] | None) -> dict[str, list[Row]]:
    """Version -> a row for each kind of file."""
    pythons = {name: python_of(name, cache) for name in wanted}
    rows: dict[str, list[Row]] = {name: [] for name in wanted}
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        chosen = {name: model for name, model in models().items() if only is None or name in only}
        for each in export_all(folder, chosen, LOWERINGS):
            if isinstance(each, Row):
                continue
            here = outputs(Path(sys.executable), each, folder)
            assert not isinstance(here, str), here
            for name, python in pythons.items():
                there = outputs(python, each, folder)
                if isinstance(there, str) and "SystemError" in there and not rows[name]:
                    # An old build, made for NumPy 1, whose metadata doesn't say so.
                    install(python, "numpy<2")
                    there = outputs(python, each, folder)
                if isinstance(there, str):
                    rows[name].append(Row(each["model"], each["quantize"], each["streaming"], reason=there))
                else:
                    rows[name].append(compare(each, here, there))
    return rows


def verdict(row: Row) -> str:
    if row.difference is None or row.tolerance is None:
        return "FAILS"
    steps = 2 if "int8" in row.quantize else 1
    return "ok" if row.difference <= steps * row.tolerance else "DIFFERS"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--versions", nargs="+", metavar="VERSION", help="default: the oldest and the newest")
    parser.add_argument("--cache", type=Path, default=default_cache(), help="default: %(default)s")
    parser.add_argument("--only", nargs="+", metavar="MODEL", help="for example LSTM GRU (default: all)")
    parser.add_argument("--json", type=Path, help="also write the rows as JSON")
    options = parser.parse_args()
    wanted = options.versions or available()[:: max(1, len(available()) - 1)]
    if not wanted:
        print(f"skipped: pip finds no {PACKAGE} here")
        return 0
    found = check(wanted, options.cache.absolute(), options.only)
    for name, rows in found.items():
        print(f"\n{PACKAGE} {name} against {version(PACKAGE)}")
        for row in rows:
            told = row.reason or f"{row.difference:.1e}, compared with {row.tolerance:.1e}"
            kind = f"{row.model}{', streaming' if row.streaming else ''}"
            print(f"{verdict(row):<8}{kind:<32}{row.quantize:<14}{told}")
    if options.json:
        stored = {
            "command": " ".join(["python", *sys.argv]),
            "here": version(PACKAGE),
            "versions": {
                name: [{**dataclasses.asdict(row), "verdict": verdict(row)} for row in rows]
                for name, rows in found.items()
            },
        }
        options.json.write_text(json.dumps(stored, indent=1) + "\n")
    newest = wanted[-1]
    bad = [row for name, rows in found.items() for row in rows if verdict(row) == "DIFFERS"]
    return int(bool(bad) or any(verdict(row) == "FAILS" for row in found[newest]))


if __name__ == "__main__":
    sys.exit(main())
