"""The user's own inputs: checked against the model, and cut into the batches that a file takes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

import keras
import numpy as np

from .errors import ExportError
from .inputs import InputKind, input_kinds
from .quantize import Recipe

__all__ = ["as_data", "as_inputs", "recut", "representative_samples"]

_MOST_BATCHES = 1024  # of an iterable, which may have no end
_MOST_SAMPLES = 512  # calls of the file; beyond that ranges hardly grow


def as_inputs(functional: keras.Model, data: Any, argument: str) -> dict[str, np.ndarray]:
    """An array, a dictionary by input name or a list in the model's order, as arrays by input name.

    Args:
        functional: The model whose inputs they are, each (samples, ...).
        data: The user's.
        argument: What the user calls it, for errors.

    Raises:
        ExportError: It's empty, has another shape or type than the input, holds NaN or numbers that the input's
            vocabulary doesn't, or the inputs differ in their number of samples.
    """
    return _inputs(input_kinds(functional), data, argument)


def _inputs(kinds: list[InputKind], data: Any, argument: str) -> dict[str, np.ndarray]:
    found = {kind.name: _array(x, kind, argument) for kind, x in _paired(kinds, data, argument)}
    counts = {name: len(x) for name, x in found.items()}
    if len(set(counts.values())) > 1:
        raise ExportError(
            f"Invalid value for argument `{argument}`. Expected as many samples for every input. "
            f"Received: {', '.join(f'{n} for {name!r}' for name, n in counts.items())}"
        )
    return found


def as_data(functional: keras.Model, data: Any) -> tuple[dict[str, np.ndarray], Any]:
    """The user's (x, y): inputs by name, and what a metric compares the outputs with."""
    if not isinstance(data, (tuple, list)) or len(data) != 2:
        received = (
            f"{type(data).__name__} of {len(data)}" if hasattr(data, "__len__") else type(data).__name__
        )
        raise ExportError(
            f"Invalid value for argument `data`. Expected the pair (x, y). Received: data={received}"
        )
    inputs, y = as_inputs(functional, data[0], "data"), data[1]
    samples = len(next(iter(inputs.values())))
    for part in keras.tree.flatten(y):
        if np.ndim(part) and len(part) != samples:
            raise ExportError(
                f"Invalid value for argument `data`. Expected as many samples in y as in x, {samples}. "
                f"Received: {len(part)}"
            )
    return inputs, y


def representative_samples(
    functional: keras.Model,
    recipe: Recipe,
    data: Any,
    *,
    batch_size: int,
    time_steps: int | None,
    streaming: bool,
) -> list[dict[str, np.ndarray]] | None:
    """What a calibrated recipe measures its ranges on: batches of exactly `batch_size`, at most 512, evenly spread.

    Args:
        functional: The model.
        recipe: Tells whether samples are needed.
        data: What `as_inputs` takes, or an iterable of such batches, of which the first 1024 are read.
        batch_size: The file's batch size; a last, smaller batch is filled up with samples that came before.
        time_steps: The file's number of steps; None where it's open.
        streaming: Whether sequences may be longer than that.
    """
    argument = "representative_data"
    if not recipe.calibrated:
        if data is not None:
            raise ExportError(
                f'Argument `representative_data` serves only quantize="int8"; leave it out for {recipe.name}.'
            )
        return None
    if data is None:
        raise ExportError(
            f'quantize="{recipe.name}" needs `representative_data`, typical inputs that show how large activations get; '
            'pass some, or use "dynamic_int8", which needs none.'
        )
    kinds = input_kinds(functional)
    samples = []
    for batch in _batches(data, argument):
        inputs = _inputs(kinds, batch, argument)
        _check_steps(kinds, inputs, time_steps, streaming, argument)
        samples += [part for part, _ in recut(inputs, batch_size)]
    if not samples:
        raise ExportError(
            f"Invalid value for argument `{argument}`. Expected at least one batch of inputs. Received: none"
        )
    chosen = np.linspace(0, len(samples) - 1, min(len(samples), _MOST_SAMPLES)).astype(int)
    return [samples[i] for i in chosen]


def _batches(data: Any, argument: str) -> Iterable:
    if isinstance(data, Mapping) or hasattr(data, "__array__"):
        return [data]
    if not isinstance(data, Iterable) or isinstance(data, str):
        raise ExportError(
            f"Invalid value for argument `{argument}`. Expected an array, a dictionary from input name to array, or an "
            f"iterable of those. Received: {argument}={type(data).__name__}"
        )
    return islice(data, _MOST_BATCHES)


def recut(inputs: dict[str, np.ndarray], rows: int) -> Iterator[tuple[dict[str, np.ndarray], int]]:
    """Batches of exactly `rows` samples, and how many of them count: the last one is filled up by repeating."""
    total = len(next(iter(inputs.values())))
    for start in range(0, total, rows):
        count = min(rows, total - start)
        places = np.arange(start, start + rows)
        places[count:] = np.arange(rows - count) % total
        yield {name: x[places] for name, x in inputs.items()}, count


def _paired(kinds: list[InputKind], data: Any, argument: str) -> Iterable[tuple[InputKind, Any]]:
    names = ", ".join(repr(kind.name) for kind in kinds)
    if isinstance(data, Mapping):
        if set(data) != {kind.name for kind in kinds}:
            raise ExportError(
                f"Invalid value for argument `{argument}`. Expected the model's inputs {names}. "
                f"Received: {', '.join(map(repr, data)) or 'none'}"
            )
        return [(kind, data[kind.name]) for kind in kinds]
    values = list(data) if isinstance(data, (list, tuple)) and len(kinds) > 1 else [data]
    if len(values) != len(kinds):
        raise ExportError(
            f"Invalid value for argument `{argument}`. Expected a dictionary with the model's inputs {names}. "
            f"Received: {len(values)} array{'s' if len(values) != 1 else ''}"
        )
    return zip(kinds, values, strict=True)


def _array(value: Any, kind: InputKind, argument: str) -> np.ndarray:
    expected = f"for input {kind.name!r} {kind.dtype} of shape ({', '.join(_sizes(kind))})"
    try:
        x = np.asarray(value)
    except Exception as error:  # tensors on other devices, ragged lists
        raise _wrong(argument, expected, f"{type(value).__name__} ({str(error).splitlines()[0]})") from error
    fits = x.ndim == len(kind.shape) and all(
        n in (None, m) for n, m in zip(kind.shape[1:], x.shape[1:], strict=True)
    )
    if not fits:
        raise _wrong(argument, expected, f"shape {x.shape}")
    if not x.size:
        raise _wrong(argument, expected + " with at least one sample", f"an empty array of shape {x.shape}")
    return _numbers(x, kind, argument, expected)


def _numbers(x: np.ndarray, kind: InputKind, argument: str, expected: str) -> np.ndarray:
    if x.dtype.kind not in "fiub":
        raise _wrong(argument, expected, f"dtype {x.dtype}")
    if not np.isfinite(x).all():
        raise _wrong(argument, expected + " without NaN and infinity", f"{(~np.isfinite(x)).sum()} of them")
    if kind.dtype.startswith(("int", "uint")):
        if x.dtype.kind == "f" and (x != np.round(x)).any():
            raise _wrong(argument, expected, f"dtype {x.dtype} with fractions")
        low, high = x.min(), x.max()
        least_too_large = kind.vocabulary if kind.looked_up else None
        if least_too_large is not None and (low < 0 or high >= least_too_large):
            raise _wrong(argument, expected + f", from 0 to {least_too_large - 1}", f"from {low} to {high}")
    return x.astype(kind.dtype)


def _sizes(kind: InputKind) -> list[str]:
    return ["samples", *("any" if n is None else str(n) for n in kind.shape[1:])]


def _wrong(argument: str, expected: str, received: str) -> ExportError:
    return ExportError(f"Invalid value for argument `{argument}`. Expected {expected}. Received: {received}")


def _check_steps(kinds, inputs, time_steps: int | None, streaming: bool, argument: str) -> None:
    """A fixed length has to be met; a stream cuts sequences into chunks of it, of which one has to be whole."""
    for kind in kinds:
        if time_steps is None or len(kind.shape) < 2 or (kind.shape[1] is not None and not streaming):
            continue
        steps = inputs[kind.name].shape[1]
        if steps < time_steps if streaming else steps != time_steps:
            least = "at least " if streaming else ""
            raise ExportError(
                f"Invalid value for argument `{argument}`. Expected {least}{time_steps} time steps for input "
                f"{kind.name!r}, as time_steps={time_steps} asks for. Received: {steps} steps"
            )
