"""Puts a `SparseOptimizer` into a compiled model."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from typing import Any

import keras

from keras_iss.distribution import check_loss_scaling
from keras_iss.layouts import restricted
from keras_iss.optimizers import SparseOptimizer
from keras_iss.structures import Structure
from keras_iss.tracing import Trace


def wrap(
    model: keras.Model,
    traced: Trace,
    names: tuple[str, ...],
    strengths: Mapping[str, float] | None,
    method: str,
    threshold: float,
) -> SparseOptimizer:
    """Puts a `SparseOptimizer` that prunes units around the innermost optimizer of a compiled model, keeping the masks
    of one that is there already, or the state of one made the same way (a model saved in mid-training)."""
    before = sparse_optimizer(model)
    kept = [s for s in before.structures if s.name not in names] if before is not None else []
    structures = [*(restricted(traced[n], traced, model.trainable_variables) for n in names), *kept]
    wanted = (
        {s.name: (strengths or {}).get(s.name, 0.0) for s in structures} if strengths is not None else None
    )
    return _replace(
        model, structures, strength=wanted, method=method, threshold=threshold,
        masked=before.masked if before is not None else (),
    )  # fmt: skip


def wrap_masked(model: keras.Model, paths: Iterable[str]) -> SparseOptimizer:
    """Puts a `SparseOptimizer` with masks for these weights around the innermost optimizer of a compiled model, keeping
    the masks of one that is there already, and the units that it has removed."""
    before = sparse_optimizer(model)
    if before is None:
        return _replace(model, (), masked=paths, collects=True)
    masked = dict.fromkeys([*before.masked, *paths])
    strength = {s.name: float(before.strength(s.name).max()) for s in before.structures}
    if not any(strength.values()):  # a finished ISSPruning: its threshold would take away what has just grown
        strength = None
    return _replace(
        model, before.structures, strength=strength, method=before.method, threshold=before.threshold,
        masked=masked, collects=True,
    )  # fmt: skip


def sparse_optimizer(model: keras.Model) -> SparseOptimizer | None:
    """The model's `SparseOptimizer`, also under loss scaling; None if it has none."""
    optimizer = model.optimizer
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        optimizer = optimizer.inner_optimizer
    return optimizer if isinstance(optimizer, SparseOptimizer) else None


def check_in_use(model: keras.Model, sparse: SparseOptimizer) -> None:
    """Refuses two callbacks that prune in one training: each wraps the optimizer, and the last one wins.

    Raises:
        ValueError: If the model's optimizer is another than the one that the callback drives.
    """
    if sparse_optimizer(model) is not sparse:
        raise ValueError(
            "Expected one callback that prunes per `fit`. Received several. Let ISSPruning and GrowAndPrune follow "
            "one another: call `fit` once with each; masks and removed units are kept."
        )


def _replace(model: keras.Model, structures: Iterable[Structure], **arguments: Any) -> SparseOptimizer:
    """Makes a `SparseOptimizer`, copies the state of the one before, and puts it in its place."""
    outer = model.optimizer
    scaled = isinstance(outer, keras.optimizers.LossScaleOptimizer)
    if scaled:
        check_loss_scaling(model)
    before = sparse_optimizer(model)
    inner = before.inner_optimizer if before is not None else outer.inner_optimizer if scaled else outer
    with _scope(model):
        sparse = SparseOptimizer(inner, structures, **arguments)
        sparse.build(model.trainable_variables)
    if before is not None and before.built:
        sparse.loss_scale_factor = before.loss_scale_factor
        sparse.notes = before.notes
        sparse.start_epoch.assign(before.start_epoch)
        sparse.masks.take_over(before.masks)
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
