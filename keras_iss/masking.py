"""Masks of single connections, and the gradients of a growth window, in optimizer variables; masks in files."""

from __future__ import annotations

import os
import pathlib
import re
from collections.abc import Iterable, Mapping
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_iss.distribution import layout_like, same_everywhere
from keras_iss.files import written_whole
from keras_iss.structures import to_numpy


class Masks:
    """Which connections of some weights are alive, and the sum of their gradients over the batches of a window.

    Args:
        optimizer: Makes the variables.
        weights: The weights to mask, by path.
        collects: Whether there is room for gradients; it takes as much memory as the weights.

    Attributes:
        collecting: Whether the compiled step adds gradients up. It is a part of the step: after changing it, compile
            the step again (`model.make_train_function(force=True)`).
    """

    def __init__(self, optimizer: keras.optimizers.Optimizer, weights: Mapping[str, Any], collects: bool):
        self.weights = dict(weights)
        self.collects, self.collecting = collects, False

        def beside(path: str, initial: str, dtype: str, name: str, aggregation: str) -> Any:
            weight, name = self.weights[path], f"{path.replace('/', '_')}_{name}"
            return optimizer.add_variable(
                weight.shape, initial, dtype, aggregation, layout_like(weight), name=name
            )

        self._alive = {
            path: beside(path, "ones", "bool", "mask", "only_first_replica") for path in self.weights
        }
        # Each replica adds its own share; the loss is already divided among them.
        self._sums = {
            path: beside(path, "zeros", "float32", "gradients", "sum") for path in self.weights if collects
        }
        self._seen = same_everywhere(optimizer, (), 0, "int", "batches_seen") if collects else None
        self._first = same_everywhere(optimizer, (), 0, "int", "window_begin") if collects else None

    def tensors(self) -> dict[str, Any]:
        """The masks by path, as tensors."""
        return {path: ops.convert_to_tensor(mask) for path, mask in self._alive.items()}

    def values(self) -> dict[str, np.ndarray]:
        """The masks by path, as arrays of bool."""
        return {path: to_numpy(mask).astype(bool) for path, mask in self._alive.items()}

    def assign(self, masks: Mapping[str, np.ndarray]) -> None:
        """Sets the masks given; the weights follow at the next step or `SparseOptimizer.enforce`."""
        for path, mask in masks.items():
            self._alive[path].assign(np.asarray(mask, bool))

    # Growth windows

    def open(self, first_batch: int) -> None:
        """Forgets all gradients; the window opens after so many further batches, at once if it is 0 or less."""
        for variable in (*self._sums.values(), self._seen):
            variable.assign(np.zeros(tuple(variable.shape)))
        self._first.assign(max(0, first_batch))

    def collect(self, optimizer: keras.optimizers.Optimizer, grads: Mapping[str, Any]) -> None:
        """Adds the gradients of a batch up if the window is open; runs inside the compiled step."""
        is_open = ops.convert_to_tensor(self._seen) >= ops.convert_to_tensor(self._first)
        for path, gradient in grads.items():
            gradient = ops.cast(gradient, "float32")
            optimizer.assign_add(self._sums[path], ops.where(is_open, gradient, ops.zeros_like(gradient)))
        optimizer.assign_add(self._seen, 1)

    def batches_seen(self) -> int:
        """Batches since `open`, whether the window was open or not."""
        return int(to_numpy(self._seen)) if self.collects else 0

    def mean_gradients(self) -> dict[str, np.ndarray] | None:
        """The mean gradient of each weight over the window's batches; None if it has had none."""
        if not self.collects:
            return None
        batches = int(to_numpy(self._seen)) - int(to_numpy(self._first))
        if batches < 1:
            return None
        return {path: to_numpy(total) / np.float32(batches) for path, total in self._sums.items()}

    def take_over(self, other: Masks) -> None:
        """Copies the state of another optimizer's masks, for the weights that both have."""
        self.assign({path: mask for path, mask in other.values().items() if path in self._alive})
        if self.collects and other.collects:
            pairs = [(total, other._sums.get(path)) for path, total in self._sums.items()]
            for mine, theirs in [*pairs, (self._seen, other._seen), (self._first, other._first)]:
                if theirs is not None:
                    mine.assign(theirs)


def names_in_file(paths: Iterable[str], model: str) -> dict[str, str]:
    """What weights are called in a file: their paths without the model's name and the numbers that Keras gives to
    layers and cells without a name of their own, which change from run to run; "#2", "#3" ... where two get one name.

    Example:

    >>> names_in_file(["net/lstm_3/lstm_cell_5/kernel", "net/lstm_4/lstm_cell_6/kernel"], "net")
    {'net/lstm_3/lstm_cell_5/kernel': 'lstm/lstm_cell/kernel', 'net/lstm_4/lstm_cell_6/kernel': 'lstm/lstm_cell/kernel#2'}
    """
    names: dict[str, str] = {}
    seen: dict[str, int] = {}
    for path in paths:
        name = re.sub(r"_\d+(?=/)", "", path.removeprefix(f"{model}/"))
        seen[name] = seen.get(name, 0) + 1
        names[path] = name if seen[name] == 1 else f"{name}#{seen[name]}"
    return names


def write_masks(path: str | os.PathLike[str], masks: Mapping[str, np.ndarray]) -> None:
    """Writes masks to an .npz file, beside its place first, so that no half file is ever left."""
    target = pathlib.Path(path)
    if not target.parent.is_dir():
        raise FileNotFoundError(f"The folder of {str(target)!r} doesn't exist. Make it first.")
    arrays: dict[str, Any] = {name: np.asarray(mask, bool) for name, mask in masks.items()}
    with written_whole(target) as beside, open(beside, "wb") as file:
        np.savez_compressed(file, **arrays)


def read_masks(path: str | os.PathLike[str], shapes: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """Reads masks that `write_masks` wrote, and checks that they are of this model.

    Raises:
        ValueError: If the file holds no masks, or those of other weights.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            masks = {name: np.asarray(file[name]) for name in file.files}
    except FileNotFoundError:
        raise
    except Exception as error:  # a damaged file fails in many ways
        raise ValueError(
            f"{str(path)!r} is not a mask file. Expected an .npz file that GrowAndPrune.save_masks wrote. ({error})"
        ) from None
    found = {name: mask.shape for name, mask in masks.items()}
    if found != dict(shapes) or any(mask.dtype != bool for mask in masks.values()):
        odd = [
            f"{name}: {found.get(name, 'missing')} in the file, {shapes.get(name, 'missing')} in the model"
            for name in sorted({*found, *shapes})
            if found.get(name) != shapes.get(name)
        ] or ["its arrays are not of type bool"]
        raise ValueError(
            f"The mask file {str(path)!r} is of another model, or of other layers or another granularity: "
            f"{'; '.join(odd[:4])}. Build the model as it was, with the same layer names."
        )
    return masks
