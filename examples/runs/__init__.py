"""What the larger examples' runs share: epochs that can be resumed, results written whole, the versions behind them."""

from __future__ import annotations

import json
import os
import platform
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
