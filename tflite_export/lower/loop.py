"""Running one cell over time: WHILE loops that TFLite executes with as little besides h·R as possible.

What was measured (DESIGN of the project and `benchmarks/latency.py`): a turn of a WHILE loop costs some microseconds
and copies every tensor that the loop changes, the outputs of all steps included, so that one plain loop takes time
quadratic in the number of steps. Long sequences therefore run as a loop over chunks around a loop over steps, which
copies short buffers. Unrolling steps inside the body loses: each copy of h·R gets its own packed weights.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import tensorflow as tf
from tensorflow.compiler.tf2xla.python.xla import dynamic_update_slice

from .cells import Cell

__all__ = ["scan"]

_SHORTEST_CHUNKED = 32  # steps; below this one loop is as fast
_OPEN_CHUNK = 16  # steps a chunk, where the number of steps is chosen at run time


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
    step = _Step(cell, mask is not None, zero_masked)
    inputs = [z]
    if mask is not None:
        # What stands in a masked step, NaN even, must not reach the states by way of 0 · NaN.
        inputs = [tf.where(mask > 0.5, z, tf.zeros_like(z)), mask]
    carried = step.start(states)
    time = z.shape[1]
    if time == 1:
        carried = step([x[:, 0] for x in inputs], carried)
        outputs = _one_step(carried[0])
    elif not sequences:
        outputs, carried = None, _last(step, inputs, carried)
    elif time is None or time >= _SHORTEST_CHUNKED:
        outputs, carried = _chunks(step, inputs, carried)
    else:
        outputs, carried = _steps(step, inputs, carried)
    return (carried[0] if outputs is None or not sequences else outputs), step.states(carried)


class _Step:
    """One step on the carried tensors: the states, or the output and the states where a mask keeps them apart."""

    def __init__(self, cell: Cell, masked: bool, zero_masked: bool):
        self.cell, self.masked, self.zero_masked = cell, masked, zero_masked

    def start(self, states: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        return ([tf.zeros_like(states[0])] if self.masked else []) + list(states)

    def states(self, carried: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        return list(carried[1:] if self.masked else carried)

    def __call__(self, inputs: Sequence[tf.Tensor], carried: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        old = self.states(carried)
        new = self.cell.step(inputs[0], old)
        if not self.masked:
            return new
        # Multiplying by 0 and 1 is exact, and unlike SELECT it stays in the accelerated part of the graph.
        keep = inputs[1]
        drop = 1.0 - keep
        output = keep * new[0] if self.zero_masked else keep * new[0] + drop * carried[0]
        return [output, *(keep * n + drop * o for n, o in zip(new, old, strict=True))]


def _last(step, inputs, carried):
    """One loop over the steps, of which only what the last one leaves is wanted."""
    count = _length(inputs[0])

    def body(t, carried):
        return t + 1, step(_at(inputs, t), carried)

    return tf.while_loop(lambda t, *_: t < count, body, (tf.constant(0), carried))[1]


def _steps(step, inputs, carried, count=None):
    """One loop over the steps (the first `count` of them) and the outputs of all of them."""
    count = _length(inputs[0]) if count is None else count
    # Every row of the buffer is overwritten, so it may start as anything of the right shape: zeros would be
    # stored in the file.
    buffer = inputs[0][:, :, : step.cell.units]

    def body(t, buffer, carried):
        carried = step(_at(inputs, t), carried)
        return t + 1, _write(buffer, _one_step(carried[0]), t), carried

    return tf.while_loop(lambda t, *_: t < count, body, (tf.constant(0), buffer, carried))[1:]


def _chunks(step, inputs, carried):
    """A loop over chunks of steps, each of them a loop over its steps."""
    time = inputs[0].shape[1]
    length = _length(inputs[0])
    chunk = _OPEN_CHUNK if time is None else _chunk(time)
    whole = time is not None and time % chunk == 0
    if not whole:
        # Room for the last chunk to be short; its loop ends at the last step, so that the final states are right.
        inputs = [tf.pad(x, [[0, 0], [0, chunk - 1], [0, 0]]) for x in inputs]
    buffer = inputs[0][:, :, : step.cell.units]

    def body(t, buffer, carried):
        parts = [tf.slice(x, [0, t, 0], [x.shape[0], chunk, x.shape[2]]) for x in inputs]
        count = chunk if whole else tf.minimum(chunk, length - t)
        outputs, carried = _steps(step, parts, carried, count)
        return t + chunk, _write(buffer, outputs, t), carried

    _, buffer, carried = tf.while_loop(lambda t, *_: t < length, body, (tf.constant(0), buffer, carried))
    return (buffer if whole else buffer[:, :length]), carried


def _chunk(time: int) -> int:
    """A chunk length near √time, where the copies of both loops balance; one that divides `time` if one is near."""
    best = max(8, round(math.sqrt(time)))
    near = [n for n in range(max(8, best // 2), 2 * best + 1) if time % n == 0]
    return min(near, key=lambda n: abs(n - best)) if near else best


def _length(x: tf.Tensor):
    return tf.shape(x)[1] if x.shape[1] is None else x.shape[1]


def _at(inputs: Sequence[tf.Tensor], t: tf.Tensor) -> list[tf.Tensor]:
    return [tf.gather(x, t, axis=1) for x in inputs]


def _one_step(x: tf.Tensor) -> tf.Tensor:
    """(batch, units) -> (batch, 1, units)."""
    return tf.reshape(x, (x.shape[0], 1, x.shape[1]))


def _write(buffer: tf.Tensor, steps: tf.Tensor, t: tf.Tensor) -> tf.Tensor:
    return dynamic_update_slice(buffer, steps, tf.stack([0, t, 0]))
