"""One function per recipe: what is stored, how exact it stays, and how the converter is told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .errors import ExportError

__all__ = ["RECIPES", "Recipe", "recipe"]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A quantization: its name, how the converter is set up, and what the check after the export allows.

    `max_abs` bounds the largest difference, relative to the larger of 1 and the largest output; `max_rms` bounds
    the root-mean-square difference over the root-mean-square output.
    """

    name: str
    configure: Callable[[Any], None]
    max_abs: float | None = None
    max_rms: float | None = None

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


RECIPES = {
    None: Recipe(name="float32", configure=_float32, max_abs=1e-4),
    "float16": Recipe(name="float16", configure=_float16, max_rms=0.01),
    "dynamic_int8": Recipe(name="dynamic_int8", configure=_dynamic_int8, max_rms=0.2),
}
_LATER = {
    "int8": 'use "dynamic_int8", which needs no representative data',
    "sparse": 'strip the model and use "float16" or "dynamic_int8" for a small file',
}


def recipe(quantize: str | None) -> Recipe:
    """The recipe of that name."""
    if isinstance(quantize, str) and quantize in _LATER:
        raise ExportError(f'quantize="{quantize}" is not available in this version; {_LATER[quantize]}.')
    if quantize is not None and not (isinstance(quantize, str) and quantize in RECIPES):
        valid = ", ".join("None" if name is None else f'"{name}"' for name in RECIPES)
        raise ExportError(
            f"Invalid value for argument `quantize`. Expected one of {valid}. Received: quantize={quantize!r}"
        )
    return RECIPES[quantize]
