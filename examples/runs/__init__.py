"""What the larger examples' runs share: epochs that can be resumed, and results: written whole, collected, timed."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import keras


class Seeded(Protocol):
    """Batches that an epoch's number alone decides on."""

    def begin(self, epoch: int) -> None:
        """What comes from now on is this epoch's."""


class Epoch(keras.callbacks.Callback):
    """Makes batches and dropout depend on the epoch's number, so that a resumed training is the uninterrupted one."""

    def __init__(self, batches: Seeded):
        super().__init__()
        self.batches = batches

    def on_epoch_begin(self, epoch, logs=None):
        self.batches.begin(epoch)
        for variable in self.model.variables:
            # A seed and a count of draws, which isn't saved.
            if variable.path.endswith("seed_generator_state"):
                seed = keras.ops.convert_to_numpy(variable)[0]
                variable.assign([seed, epoch << 16])


def write_json(path: Path, what) -> None:
    """Writes a whole file or none."""
    beside = path.with_name(f".{os.getpid()}-{path.name}")
    beside.write_text(json.dumps(what, indent=1) + "\n", encoding="utf-8")
    os.replace(beside, path)


def versions() -> dict[str, str]:
    """What a result was made with."""
    backend = keras.backend.backend()
    return {
        "python": platform.python_version(),
        "keras": keras.__version__,
        "backend": f"{backend} {__import__(backend).__version__}",
        "processor": platform.processor() or platform.machine(),
    }


def collect(folder: Path) -> list[dict]:
    """All results in a folder, by model and seed."""
    found = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*-seed*.json"))]
    return sorted(found, key=lambda r: (r["model"], r["seed"]))


def files_at_hand(folder: Path, results: Sequence[Mapping]) -> list[Path]:
    """The exported files of results, those that are there: a result may have been brought without them."""
    named = [folder / kept["file"] for result in results for kept in result["files"].values()]
    return [path for path in named if path.is_file()]


def keep_times(folder: Path, results: Sequence[dict], times: Mapping[str, Mapping[str, float]]) -> None:
    """Writes what was measured into the results, times by file name; a file that wasn't measured keeps what it has."""
    for result in results:
        for kept in result["files"].values():
            kept |= times.get(kept["file"], {})
        write_json(folder / f"{result['model']}-seed{result['seed']}.json", result)


def times_of(files: Iterable[Mapping], key: str = "ms", *, digits: int = 2) -> str:
    """What a table shows of the times of some files."""
    return " / ".join(f"{kept[key]:.{digits}f}" for kept in files if key in kept) or "–"
