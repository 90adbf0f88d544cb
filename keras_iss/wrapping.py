"""Puts a `SparseOptimizer` into a compiled model."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

import keras

from keras_iss.layouts import restricted
from keras_iss.optimizers import SparseOptimizer
from keras_iss.tracing import Trace


def wrap(
    model: keras.Model,
    traced: Trace,
    names: tuple[str, ...],
    strengths: Mapping[str, float] | None,
    method: str,
    threshold: float,
) -> SparseOptimizer:
    """Puts a `SparseOptimizer` around the innermost optimizer of a compiled model, keeping the masks of one that is
    there already, or uses that one if it was made the same way (a model saved in mid-training)."""
    outer = model.optimizer
    scaled = isinstance(outer, keras.optimizers.LossScaleOptimizer)
    current = outer.inner_optimizer if scaled else outer
    before = current if isinstance(current, SparseOptimizer) else None
    kept = [s for s in before.structures if s.name not in names] if before is not None else []
    structures = [*(restricted(traced[n], traced, model.trainable_variables) for n in names), *kept]
    wanted = (
        {s.name: (strengths or {}).get(s.name, 0.0) for s in structures} if strengths is not None else None
    )
    with _scope(model):
        sparse = SparseOptimizer(
            before.inner_optimizer if before is not None else current,
            structures, strength=wanted, method=method, threshold=threshold,
        )  # fmt: skip
        sparse.build(model.trainable_variables)
    if before is not None and before.built:
        sparse.loss_scale_factor = before.loss_scale_factor
        sparse.start_epoch.assign(before.start_epoch)
        for structure in before.structures:
            sparse.set_deadlines(structure.name, before.deadlines(structure.name))
    if scaled:
        outer.inner_optimizer = sparse
    else:
        # As `compile` does: not through Keras's tracking, which would make the optimizer a part of exported models.
        object.__setattr__(model, "optimizer", sparse)
    object.__setattr__(model, "get_compile_config", lambda: _compile_config(model))
    return sparse


def _compile_config(model: keras.Model) -> dict[str, Any]:
    """The model's compile config with the optimizer it has now, so that `model.save` keeps the masks."""
    config = type(model).get_compile_config(model)
    if config and model.optimizer is not None:
        config["optimizer"] = keras.saving.serialize_keras_object(model.optimizer)
    return config


def _scope(model: keras.Model) -> Any:
    """The distribution strategy's scope where the backend has one."""
    strategy = getattr(model, "distribute_strategy", None)
    return contextlib.nullcontext() if strategy is None else strategy.scope()
