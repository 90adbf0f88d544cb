"""What test modules compute on another Keras backend: `KERAS_BACKEND=jax python -m tests.on_backend FOLDER MODULE ...`.

A module's `everything()` gives arrays by name (numbers and texts count as arrays); they're saved as FOLDER/MODULE.npz.
One process computes several modules, since starting Keras takes seconds.
"""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np


def computed(backend: str, modules: Sequence[str], folder: Path) -> str:
    """Runs the modules in a process of its own.

    Returns:
        What the process said; the traceback of a module that failed stands there, and its file is missing.
    """
    environment = {
        **os.environ,
        "KERAS_BACKEND": backend,
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
    }
    done = subprocess.run(
        [sys.executable, "-m", __name__, str(folder), *modules],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout + done.stderr


def load(module: str, folder: Path, said: str) -> Mapping[str, np.ndarray]:
    """What a module gave."""
    file = folder / f"{module}.npz"
    assert file.exists(), said[-3000:]
    return np.load(file)


def main(folder: str, *modules: str) -> None:
    import keras

    for name in modules:
        keras.utils.clear_session(free_memory=False)
        keras.utils.set_random_seed(0)
        try:
            found = importlib.import_module(name).everything()
        except Exception:
            traceback.print_exc()
        else:
            np.savez(Path(folder, f"{name}.npz"), **found)


if __name__ == "__main__":
    main(*sys.argv[1:])
