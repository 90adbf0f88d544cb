"""One function per recipe: what is stored, how exact it stays, and how the converter is told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from .calibrate import integer_products
from .census import sparse_weights
from .errors import ExportError
from .remainders import with_remainders

__all__ = ["RECIPES", "Recipe", "recipe"]

Samples = list[dict[str, Any]] | None


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A quantization: its name, how it's done, and what the check after the export allows.

    `configure` sets up the converter; `mend` puts right what it does wrong, given its bytes and what makes those of the
    same graph in 32-bit floats; `finish` turns the converter's bytes, with whatever signatures, the samples, and
    whether inputs and outputs are to be integers, into the bytes to write. `max_abs` bounds the largest difference,
    relative to the larger of 1 and the largest output; `max_rms` bounds the root-mean-square difference over the
    root-mean-square output. A `calibrated` recipe needs samples, and is checked on them: its ranges hold for no other
    inputs. `weight_bytes` is the size of one weight as the products read it, which decides how recurrent layers are
    lowered. `note` tells of a file and its model what a reader of the file should know.
    """

    name: str
    configure: Callable[[Any], None]
    mend: Callable[[bytes, Callable[[], bytes]], bytes] = lambda data, float32: data
    finish: Callable[[bytes, Samples, bool], bytes] = lambda data, samples, integer_io: data
    calibrated: bool = False
    weight_bytes: int = 4
    max_abs: float | None = None
    max_rms: float | None = None
    note: Callable[[bytes, keras.Model], str] | None = None

    def __post_init__(self):
        if self.max_abs is None and self.max_rms is None:
            raise ValueError(f"Recipe {self.name!r} needs a tolerance: max_abs or max_rms.")


def _float32(converter) -> None:
    """Weights and arithmetic in 32-bit floats."""


def _float16(converter) -> None:
    """Weights stored in 16-bit floats (half the size), arithmetic in 32-bit floats."""
    import tensorflow as tf

    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.target_spec.supported_types = [tf.float16]


def _dynamic_int8(converter) -> None:
    """Weights in 8-bit integers, a scale per channel; activations are quantized as the graph runs."""
    import tensorflow as tf

    converter.optimizations = [tf.lite.Optimize.DEFAULT]


def _int8(data: bytes, samples: Samples, integer_io: bool) -> bytes:
    """Products in 8-bit integers, with fixed ranges outside of recurrences; all between them in 32-bit floats."""
    return integer_products(data, samples or [], integer_io=integer_io)


def _sparse(converter) -> None:
    """Only the weights that aren't zero are stored, as 32-bit floats."""
    import tensorflow as tf

    converter.optimizations = [tf.lite.Optimize.EXPERIMENTAL_SPARSITY]


def _really_sparse(data: bytes, samples: Samples, integer_io: bool) -> bytes:
    if not sparse_weights(data).matrices:
        raise ExportError(
            'quantize="sparse" would save nothing: no matrix of this model has enough weights that are exactly zero (about '
            'a third); prune single weights first, or use "float16" or "dynamic_int8".'
        )
    return data


def _stored(data: bytes, model: keras.Model) -> str:
    """What the file stores of the model's weights, and what that means for its speed."""
    found = sparse_weights(data)
    variables = [v for v in model.weights if len(v.shape) > 1 and "bias" not in v.name]
    matrices = [np.asarray(keras.ops.convert_to_numpy(v)) for v in variables]
    nonzero = sum(int(np.count_nonzero(w)) for w in matrices)
    speed = "unpacked when the file is opened, so as fast as a dense file"
    if found.direct:
        speed = f"{found.direct} of which LiteRT multiplies as they are: faster where few weights are left, slower where many are"
    return (
        f"{found.stored:,} of {found.weights:,} weights stored in {found.matrices} sparse matrices, {speed}; the model "
        f"has {nonzero:,} weights that aren't 0 in its {len(matrices)} matrices of {sum(w.size for w in matrices):,}"
    )


RECIPES = {
    None: Recipe(name="float32", configure=_float32, max_abs=1e-4),
    "float16": Recipe(name="float16", configure=_float16, max_rms=0.01),
    "dynamic_int8": Recipe(name="dynamic_int8", configure=_dynamic_int8, weight_bytes=1, max_rms=0.2),
    "int8": Recipe(
        name="int8", configure=_float32, finish=_int8, calibrated=True, weight_bytes=1, max_rms=0.1
    ),
    "sparse": Recipe(
        name="sparse",
        configure=_sparse,
        mend=with_remainders,
        finish=_really_sparse,
        max_abs=1e-4,
        note=_stored,
    ),
}


def recipe(quantize: str | None) -> Recipe:
    """The recipe of that name."""
    if quantize is not None and not (isinstance(quantize, str) and quantize in RECIPES):
        valid = ", ".join("None" if name is None else f'"{name}"' for name in RECIPES)
        raise ExportError(
            f"Invalid value for argument `quantize`. Expected one of {valid}. Received: quantize={quantize!r}"
        )
    return RECIPES[quantize]
