"""Cloning a model with its recurrent layers, and what LiteRT computes otherwise than Keras, swapped for their twins."""

from __future__ import annotations

import keras

from ..errors import ExportError
from ..signature import as_functional, input_names, is_subclassed
from .cells import cells_of
from .form import FLOAT32, Form
from .layers import BidirectionalTwin, RNNTwin, TimeDistributedTwin
from .normalization import DotTwin, UnitNormalizationTwin

__all__ = ["lower"]


def lower(
    functional: keras.Model,
    batch_size: int,
    time_steps: int | None,
    *,
    form: Form = FLOAT32,
    twins: dict[int, keras.Layer] | None = None,
) -> keras.Model:
    """A model with `functional`'s weights and outputs whose recurrent layers are inference twins.

    The other layers are shared, not copied. Needs the TensorFlow backend.

    Args:
        functional: What `as_functional` gives.
        batch_size: The fixed batch size.
        time_steps: The length of every open time axis (axis 1); None leaves it open.
        form: How recurrent layers are written.
        twins: Layers that get a twin of the caller's, by `id`, such as those that stream.

    Returns:
        The lowered Functional model, with inputs of the same names and structure.
    """
    _check_time(functional, time_steps)
    names = iter(input_names(functional))
    inputs = keras.tree.map_structure(
        lambda x: keras.Input(
            batch_shape=_fixed_shape(x, name := next(names), batch_size, time_steps), dtype=x.dtype, name=name
        ),
        functional.input,
    )
    return _clone(functional, inputs, form, dict(twins or {}))


def _check_time(functional: keras.Model, time_steps: int | None) -> None:
    lengths = [x.shape[1] for x in keras.tree.flatten(functional.input) if len(x.shape) > 1]
    if time_steps is not None and None not in lengths and time_steps not in lengths:
        raise ExportError(
            f"Invalid value for argument `time_steps`. Expected None, since the model's own inputs fix the length to "
            f"{', '.join(map(str, sorted(set(lengths))))}. Received: time_steps={time_steps}"
        )


def _fixed_shape(x, name: str, batch_size: int, time_steps: int | None) -> tuple[int | None, ...]:
    """The input's shape with the batch and the open time axis filled in."""
    batch, *rest = x.shape
    if batch not in (None, batch_size):
        raise ExportError(
            f"Invalid value for argument `batch_size`. Expected {batch}, the batch size that the model's input "
            f"{name!r} is fixed to. Received: batch_size={batch_size}"
        )
    if any(size is None for size in rest[1:]):
        raise ExportError(
            f"Input {name!r} has the shape {tuple(x.shape)}, but only the batch and the time axis (axis 1) may be "
            "open; build the model with its other sizes fixed."
        )
    if rest and rest[0] is None:
        rest[0] = time_steps
    return (batch_size, *rest)


def _clone(functional: keras.Model, inputs, form: Form, twins: dict[int, keras.Layer]) -> keras.Model:
    return keras.models.clone_model(
        functional, input_tensors=inputs, clone_function=lambda layer: _twin(layer, form, twins)
    )


def _twin(layer: keras.Layer, form: Form, twins: dict[int, keras.Layer]) -> keras.Layer:
    """The twin of a layer; the layer itself where it needs none. A shared layer has one twin."""
    if id(layer) not in twins:
        twins[id(layer)] = _make_twin(layer, form, twins)
    return twins[id(layer)]


def _make_twin(layer: keras.Layer, form: Form, twins: dict[int, keras.Layer]) -> keras.Layer:
    if type(layer) is keras.layers.Bidirectional:
        return BidirectionalTwin(
            layer, _twin(layer.forward_layer, form, twins), _twin(layer.backward_layer, form, twins)
        )
    if type(layer) is keras.layers.TimeDistributed:
        return TimeDistributedTwin(layer, _twin(layer.layer, form, twins))
    if type(layer) is keras.layers.UnitNormalization:
        return UnitNormalizationTwin(layer)
    if type(layer) is keras.layers.Dot and layer.normalize:
        return DotTwin(layer)
    if isinstance(layer, keras.Model) and not is_subclassed(layer):
        functional = as_functional(layer)
        inputs = keras.tree.map_structure(
            lambda x: keras.Input(batch_shape=x.shape, dtype=x.dtype, name=x.name), functional.input
        )
        return _clone(functional, inputs, form, twins)
    cells = cells_of(layer)
    return layer if cells is None else RNNTwin(layer, cells, form)
