"""Backing a training up so that it can be killed at any moment."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras

__all__ = ["Backup"]

_DONE = re.compile(r"epoch-(\d+)")


class Backup(keras.callbacks.Callback):
    """Saves the state of a training after each epoch; killed at any moment, it resumes to the same weights.

    `keras.callbacks.BackupAndRestore` overwrites its files in place, first the weights and then the number of the epoch,
    and deletes them one by one when training ends: a process killed between two of these steps resumes with an epoch too
    many, from damaged weights, or not at all. This callback has it write into a fresh folder each time, which takes its
    place by one renaming. So there is always one whole backup, and never half a one.

    The resumed training is the uninterrupted one if each epoch's batches depend on its number only: no shuffling
    (`fit(..., shuffle=False)`), or shuffling of your own that is seeded by the epoch.

    Put it after `GrowAndPrune` in the list of callbacks. The model has to be built before `fit`.

    Args:
        folder: A folder for this training only; made if it is missing.
        keep: Whether the last backup stays when training ends, so that `fit`, called again, gives the final weights at
            once; else the folder is deleted then.

    Example:

    >>> import tempfile, keras, numpy as np
    >>> from keras_iss.callbacks import Backup
    >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    >>> model.compile("sgd", "mse")
    >>> x, y = np.ones((4, 3)), np.zeros((4, 1))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     history = model.fit(x, y, epochs=2, verbose=0, callbacks=[Backup(f"{folder}/backup", keep=True)])
    ...     again = model.fit(x, y, epochs=3, verbose=0, callbacks=[Backup(f"{folder}/backup")])
    >>> len(history.epoch), again.epoch
    (2, [2])
    """

    def __init__(self, folder: str | os.PathLike[str], *, keep: bool = False):
        super().__init__()
        self.folder, self.keep = Path(folder), keep

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        """Goes on where the last backup was made."""
        self.folder.mkdir(parents=True, exist_ok=True)
        latest = self._latest()
        self._remove_all_but(latest)
        if latest is not None:
            self._inside(latest).on_train_begin()

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Makes a backup and forgets the one before."""
        unfinished, done = self.folder / "unfinished", self.folder / f"epoch-{epoch + 1}"
        shutil.rmtree(unfinished, ignore_errors=True)
        self._inside(unfinished).on_epoch_end(epoch)
        os.rename(unfinished, done)
        self._remove_all_but(done)

    def on_train_end(self, logs: Mapping[str, Any] | None = None) -> None:
        """Deletes the backup, if it isn't to be kept; in one step, so that no part of it can pass for one."""
        if self.keep:
            return
        latest = self._latest()
        if latest is not None:
            os.rename(latest, self.folder / "unfinished")
        self._remove_all_but(None)
        with contextlib.suppress(OSError):  # something of the user's is in it
            self.folder.rmdir()

    def _latest(self) -> Path | None:
        found = {int(name[1]): path for path in self.folder.iterdir() if (name := _DONE.fullmatch(path.name))}
        return found[max(found)] if found else None

    def _remove_all_but(self, kept: Path | None) -> None:
        for path in (self.folder / "unfinished", *self.folder.glob("epoch-*")):
            if path != kept:
                shutil.rmtree(path, ignore_errors=True)

    def _inside(self, folder: Path) -> keras.callbacks.BackupAndRestore:
        """Keras's own, in a folder that nothing else writes to."""
        backup = keras.callbacks.BackupAndRestore(str(folder), delete_checkpoint=False)
        backup.set_model(self.model)
        return backup
