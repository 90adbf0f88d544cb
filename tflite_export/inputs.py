"""What each input of a model may hold, found by following it to the layers that read it."""

from __future__ import annotations

from dataclasses import dataclass

import keras
import numpy as np

from .signature import as_functional, input_names, is_subclassed

__all__ = ["InputKind", "input_kinds", "sample"]

_DEFAULT_VOCABULARY = 2  # 0 and 1 are in range for whatever reads whole numbers


@dataclass(kw_only=True)
class InputKind:
    """One input: `vocabulary` bounds whole numbers, `padding` is the value that a mask is computed from.

    `looked_up` tells a vocabulary that a layer asks for from the one that is assumed where none does.
    """

    name: str
    shape: tuple[int | None, ...]
    dtype: str
    vocabulary: int | None = None
    padding: float | None = None
    looked_up: bool = False

    def limit(self, vocabulary: int) -> None:
        """Note a reader that takes whole numbers below `vocabulary`; the strictest reader counts."""
        self.vocabulary = vocabulary if self.vocabulary is None else min(self.vocabulary, vocabulary)
        self.looked_up = True


def input_kinds(functional: keras.Model) -> list[InputKind]:
    """The kinds of the inputs, in the order of `keras.tree.flatten(model.input)`."""
    tensors = keras.tree.flatten(functional.input)
    kinds = [
        InputKind(name=name, shape=tuple(x.shape), dtype=keras.backend.standardize_dtype(x.dtype))
        for name, x in zip(input_names(functional), tensors, strict=True)
    ]
    _follow(functional, [[kind] for kind in kinds])
    for kind in kinds:
        if kind.vocabulary is None and kind.dtype.startswith(("int", "uint")):
            kind.vocabulary = _DEFAULT_VOCABULARY
    return kinds


def _follow(functional: keras.Model, kinds: list[list[InputKind]]) -> None:
    """Walk a model whose inputs stem from the given inputs of the whole model."""
    inputs = keras.tree.map_structure(
        lambda x: keras.Input(batch_shape=x.shape, dtype=x.dtype, name=x.name), functional.input
    )
    # The tensors are kept beside their sources, so that no id is used twice.
    sources = {id(x): (x, k) for x, k in zip(keras.tree.flatten(inputs), kinds, strict=True)}

    def call(layer, *args, **kwargs):
        tensors = [x for x in keras.tree.flatten((args, kwargs)) if isinstance(x, keras.KerasTensor)]
        read = [kind for x in tensors for kind in sources.get(id(x), (x, []))[1]]
        outputs = layer(*args, **kwargs)
        if isinstance(layer, keras.Model) and not is_subclassed(layer):
            given = tensors[: len(layer.inputs)]  # what comes behind them are masks
            _follow(as_functional(layer), [sources.get(id(x), (x, []))[1] for x in given])
        elif read and not _notes(layer, read) and not getattr(layer, "weights", ()):
            for x in keras.tree.flatten(outputs):
                sources[id(x)] = (x, read)
        return outputs

    keras.models.clone_model(
        functional, input_tensors=inputs, clone_function=lambda layer: layer, call_function=call
    )


def _notes(layer, kinds: list[InputKind]) -> bool:
    """Note what the layer asks of its inputs; whether it turns whole numbers into something else."""
    if isinstance(layer, keras.layers.TimeDistributed):
        return _notes(layer.layer, kinds)
    if isinstance(layer, keras.layers.Masking):
        for kind in kinds:
            kind.padding = float(layer.mask_value)
        return False
    bound = next(
        (getattr(layer, n) for n in ("input_dim", "num_tokens", "num_classes") if _whole(layer, n)), None
    )
    if bound is None or (getattr(layer, "weights", ()) and not isinstance(layer, keras.layers.Embedding)):
        return False
    for kind in kinds:
        kind.limit(bound)
        if getattr(layer, "mask_zero", False):
            kind.padding = 0.0
    return True


def _whole(layer, name: str) -> bool:
    return isinstance(getattr(layer, name, None), int)


def sample(
    kinds: list[InputKind], batch: int, time: int | None, rng: np.random.Generator, pad: str | None = None
) -> list[np.ndarray]:
    """Random inputs of these kinds.

    Args:
        kinds: The inputs.
        batch: The batch size.
        time: The length of open time axes.
        rng: Where the numbers come from.
        pad: "right", "left" or "mixed" (both, and the first row wholly) puts padding into the inputs a mask is
            computed from.
    """
    return [_sample(kind, batch, time, rng, pad) for kind in kinds]


def _sample(kind: InputKind, batch, time, rng, pad):
    shape = [batch, *kind.shape[1:]]
    if len(shape) > 1 and shape[1] is None:
        shape[1] = time
    if kind.dtype == "bool":
        return rng.random(shape) < 0.5
    x = rng.integers(0, kind.vocabulary, shape) if kind.vocabulary else rng.normal(size=shape)
    if pad is not None and kind.padding is not None and len(shape) > 1:
        for row in range(batch):
            length = 0 if pad == "mixed" and row == 0 else int(rng.integers(0, shape[1] + 1))
            left = pad == "left" or (pad == "mixed" and row % 2)
            padded = slice(0, shape[1] - length) if left else slice(length, None)
            x[row, padded] = kind.padding
    return x.astype(kind.dtype)
