"""Training on several devices: what a replica's gradient is a part of, where state lies, and what is refused.

Under `tf.distribute` every replica runs the step on its own part of the batch, and Keras's optimizers add the replicas'
gradients up, after clipping and before they use them. Under `keras.distribution` (JAX) there is one step on global
arrays, and what is reduced over a sharded axis is reduced across devices by the compiler.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops


def replicas() -> int:
    """Into how many parts the gradient of a batch is divided where this is called: more than 1 only in a replica's step
    under `tf.distribute`.

    Example:

    >>> replicas()
    1
    """
    if keras.backend.backend() != "tensorflow":
        return 1
    import tensorflow as tf

    context = tf.distribute.get_replica_context()
    return 1 if context is None else context.num_replicas_in_sync


def clips(optimizer: keras.optimizers.Optimizer) -> bool:
    """Whether an optimizer clips gradients."""
    return any((optimizer.clipnorm, optimizer.global_clipnorm, optimizer.clipvalue))


def clip_as_one(parts: Sequence[Any], optimizer: keras.optimizers.Optimizer) -> list[Any]:
    """Clips the gradient of the whole batch, as one device would, in a replica's step under `tf.distribute`.

    Keras's optimizers clip each replica's part by itself, which is another training than on one device.

    Args:
        parts: This replica's parts of the gradients, None where a weight has none.
        optimizer: Its `clipnorm`, `global_clipnorm` or `clipvalue` counts, in this order, as in Keras.

    Returns:
        Parts that add up to the clipped gradients. Each is within the limits, so that the optimizer clips nothing more.
    """
    import tensorflow as tf

    context: Any = tf.distribute.get_replica_context()
    add_up = functools.partial(context.all_reduce, tf.distribute.ReduceOp.SUM)
    given = {i: part for i, part in enumerate(parts) if part is not None}
    # An embedding's gradient, a row per token, stays a part: Keras takes the rows' norms and values one by one.
    rows = {i: part for i, part in given.items() if isinstance(part, tf.IndexedSlices)}
    dense = [i for i in given if i not in rows]
    share = 1.0 / context.num_replicas_in_sync
    whole = dict(zip(dense, add_up([given[i] for i in dense]), strict=True)) if dense else {}
    values = whole | {i: part.values for i, part in rows.items()}
    if optimizer.clipnorm or optimizer.global_clipnorm:
        squares = {i: tf.reduce_sum(tf.square(value)) for i, value in values.items()}
        if rows:
            squares |= dict(zip(rows, add_up([squares[i] for i in rows]), strict=True))
        clipped = _clip_norms(values, squares, optimizer)
    else:
        limit = optimizer.clipvalue
        clipped = {i: tf.clip_by_value(value, -limit, limit) for i, value in values.items()}
    result = list(parts)
    for i, value in clipped.items():
        part = rows.get(i)
        result[i] = share * value if part is None else tf.IndexedSlices(value, part.indices, part.dense_shape)
    return result


def _clip_norms(
    values: dict[int, Any], squares: dict[int, Any], optimizer: keras.optimizers.Optimizer
) -> dict[int, Any]:
    """Values scaled so that each norm, or that of all together, is within its limit; `squares` are the squared norms."""
    limit = optimizer.clipnorm or optimizer.global_clipnorm
    if not optimizer.clipnorm:
        squares = dict.fromkeys(squares, sum(squares.values()))
    norms = {i: ops.sqrt(square) for i, square in squares.items()}
    return {i: value * (limit / ops.maximum(norms[i], limit)) for i, value in values.items()}


# Where state lies under keras.distribution


def layout_like(weight: Any) -> Any:
    """The layout of state that goes with a weight, entry by entry; None where nothing is distributed."""
    distribution = keras.distribution.distribution()
    return None if distribution is None else distribution.get_variable_layout(weight)


def replicated(rank: int) -> Any:
    """The layout of what every device holds whole, whatever a layout map says; None where nothing is distributed."""
    distribution = keras.distribution.distribution()
    if distribution is None:
        return None
    return keras.distribution.TensorLayout([None] * rank, distribution.device_mesh)


def same_everywhere(
    optimizer: keras.optimizers.Optimizer, shape: tuple[int, ...], initial: float, dtype: str, name: str
) -> Any:
    """A variable of an optimizer that callbacks set, or all replicas change alike; every device holds it whole."""
    initializer, layout = keras.initializers.Constant(initial), replicated(len(shape))
    return optimizer.add_variable(shape, initializer, dtype, "only_first_replica", layout, name=name)


def gathered(x: Any) -> Any:
    """The whole of a variable or tensor that is spread over several processes; anything else as it is.

    All processes have to call it.
    """
    value = getattr(x, "value", x)
    if getattr(value, "is_fully_addressable", True) or value.is_fully_replicated:
        return x
    return keras.distribution.distribute_tensor(value, replicated(len(value.shape)))


# What is refused


def check_engine(inner: keras.optimizers.Optimizer, weights: Sequence[Any]) -> None:
    """Refuses, before training begins, what would fail in the middle of it or train something else.

    Args:
        inner: The optimizer that `SparseOptimizer` wraps.
        weights: The trainable variables.

    Raises:
        ValueError: If the engine can't do it.
    """
    if keras.backend.backend() == "tensorflow":
        _check_strategy(inner)
    _check_distribution(weights)


def check_loss_scaling(model: keras.Model) -> None:
    """Refuses Keras's loss scaling where it would let infinite gradients through.

    Raises:
        ValueError: If a `tf.distribute` strategy has several replicas.
    """
    strategy = getattr(model, "distribute_strategy", None)
    if strategy is not None and strategy.num_replicas_in_sync > 1:
        raise ValueError(
            "Keras's LossScaleOptimizer looks for infinite gradients on the first replica only; those of the other "
            f"{strategy.num_replicas_in_sync - 1} would make every weight NaN. Expected no loss scaling. Train with the "
            "dtype policy 'mixed_bfloat16', or with 'mixed_float16' on JAX under keras.distribution."
        )


def _check_strategy(inner: keras.optimizers.Optimizer) -> None:
    import tensorflow as tf

    strategy = tf.distribute.get_strategy()
    known = (
        tf.distribute.MirroredStrategy,
        tf.distribute.MultiWorkerMirroredStrategy,
        tf.distribute.OneDeviceStrategy,
    )
    if tf.distribute.has_strategy() and not isinstance(strategy, known):
        raise ValueError(
            f"Pruning doesn't train under {type(strategy).__name__}. Expected MirroredStrategy, OneDeviceStrategy or "
            "MultiWorkerMirroredStrategy. Train under one of those, or on JAX under keras.distribution."
        )
    number = strategy.num_replicas_in_sync
    if number > 1 and inner.gradient_accumulation_steps:
        raise ValueError(
            f"Keras doesn't accumulate gradients under a tf.distribute strategy of {number} replicas. Expected an "
            f"optimizer without it. Received: gradient_accumulation_steps={inner.gradient_accumulation_steps}. Leave it "
            "out, or train on JAX under keras.distribution."
        )
    if number > 1 and inner.use_ema and inner.ema_overwrite_frequency:
        raise ValueError(
            f"Keras doesn't write moving averages back under a tf.distribute strategy of {number} replicas. Expected "
            f"ema_overwrite_frequency=None. Received: ema_overwrite_frequency={inner.ema_overwrite_frequency}. Leave it "
            "out (the averages are then written back once, after training), or train on JAX under keras.distribution."
        )


def _check_distribution(weights: Sequence[Any]) -> None:
    distribution = keras.distribution.distribution()
    if distribution is None:
        return
    backend = keras.backend.backend()
    if backend != "jax":
        raise ValueError(
            f"Keras distributes nothing by keras.distribution on {backend}. Expected the JAX backend. Received: "
            f"{distribution}. Train on JAX, or under a tf.distribute strategy."
        )
    lie, wanted = (
        {len(weight.value.sharding.device_set) for weight in weights},
        distribution.device_mesh.devices.size,
    )
    if lie - {wanted}:
        raise ValueError(
            f"The model's weights lie on {' or '.join(map(str, sorted(lie)))} device(s). Expected the {wanted} of the "
            f"distribution at work, {distribution}. Build, compile and train the model all under the same "
            "keras.distribution.set_distribution(...) or distribution.scope()."
        )
