"""Running one cell over time: a WHILE loop that TFLite executes with as little besides h·R as possible."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf
from tensorflow.compiler.tf2xla.python.xla import dynamic_update_slice

from .cells import Cell

__all__ = ["scan"]


def scan(
    cell: Cell,
    z: tf.Tensor,
    states: Sequence[tf.Tensor],
    *,
    mask: tf.Tensor | None = None,
    sequences: bool = True,
    zero_masked: bool = False,
) -> tuple[tf.Tensor, list[tf.Tensor]]:
    """Run `cell` over the hoisted projections `z`, in order.

    Args:
        cell: The cell.
        z: Float tensor (batch, time, gates · units): x·W + b of every step. Only `time` may be unknown.
        states: The initial states, each (batch, units).
        mask: Float tensor (batch, time, 1) of 0 and 1, or None. A masked step keeps the states and repeats the
            previous output (zeros before the first one).
        sequences: Whether the outputs of all steps are wanted, or the last one's only.
        zero_masked: A masked step outputs zeros instead.

    Returns:
        The outputs (batch, time, units) or the last one (batch, units), and the final states.
    """
    step = _Step(cell, z, mask, zero_masked)
    carried = step.start(states)
    if z.shape[1] == 1:
        carried = step(0, carried)
        output = carried[0][:, None, :] if sequences else carried[0]
        return output, step.states(carried)
    return _loop(step, carried, sequences)


class _Step:
    """One step of the loop on the carried tensors: (output, *states), or (*states) where the output is states[0]."""

    def __init__(self, cell: Cell, z: tf.Tensor, mask: tf.Tensor | None, zero_masked: bool):
        self.cell, self.z, self.mask, self.zero_masked = cell, z, mask, zero_masked
        self.batch, self.time, self.width = z.shape

    @property
    def own_output(self) -> bool:
        """With a mask the output isn't states[0] in every step: it starts at zero, and may be zeroed."""
        return self.mask is not None

    def start(self, states: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        output = [tf.zeros((self.batch, self.cell.units))] if self.own_output else []
        return output + list(states)

    def states(self, carried: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        return list(carried[1:] if self.own_output else carried)

    def __call__(self, t: int | tf.Tensor, carried: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        z = tf.reshape(tf.slice(self.z, [0, t, 0], [self.batch, 1, self.width]), (self.batch, self.width))
        old = self.states(carried)
        new = self.cell.step(z, old)
        if self.mask is None:
            return new
        # Multiplying by 0 and 1 is exact, and unlike SELECT it stays inside the accelerated part of the graph.
        keep = tf.reshape(tf.slice(self.mask, [0, t, 0], [self.batch, 1, 1]), (self.batch, 1))
        drop = 1.0 - keep
        output = keep * new[0] if self.zero_masked else keep * new[0] + drop * carried[0]
        return [output, *(keep * n + drop * o for n, o in zip(new, old, strict=True))]


def _loop(step: _Step, carried: list[tf.Tensor], sequences: bool) -> tuple[tf.Tensor, list[tf.Tensor]]:
    steps = step.time if step.time is not None else tf.shape(step.z)[1]
    # Every row of the buffer is overwritten, so it may start as anything of the right shape: zeros would be
    # stored in the file.
    buffer = [step.z[:, :, : step.cell.units]] if sequences else []

    def body(t, *loop):
        buffer, carried = loop[: len(loop) - count], loop[len(loop) - count :]
        carried = step(t, carried)
        buffer = [dynamic_update_slice(b, carried[0][:, None, :], tf.stack([0, t, 0])) for b in buffer]
        return (t + 1, *buffer, *carried)

    count = len(carried)
    loop = tf.while_loop(lambda t, *_: t < steps, body, (tf.constant(0), *buffer, *carried))
    carried = list(loop[len(loop) - count :])
    return (loop[1] if sequences else carried[0]), step.states(carried)
