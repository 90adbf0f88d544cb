"""Operations on each unit alone, over time, and by a mask: what user code puts between layers."""

from __future__ import annotations

import keras
import numpy as np
from keras import layers, ops

from tests.topologies.zoo import OUT, STEPS, Units, out, sequence, topology


def lstms(names: str, x, units: int = 4):
    return [layers.LSTM(units, return_sequences=True, name=name)(x) for name in names]


@topology(dict.fromkeys("ade", Units(4)) | dict.fromkeys("bcf", Units(4, silent=False)))
def statistics_over_time():
    x = sequence(steps=STEPS)
    a, b, c, d, e, f = lstms("abcdef", x)
    parts = [
        ops.var(a, axis=1),
        ops.sqrt(ops.var(b, axis=[1], keepdims=True) + 1e-3)[:, 0],
        ops.logsumexp(c, axis=1),
        ops.prod(d, axis=-2),
        ops.amax(e, axis=1) - ops.amin(e, axis=1),
        ops.max(f, axis=1, initial=0.1),
    ]
    return keras.Model(x, out()(layers.Concatenate()(parts)))


@topology(
    {}, {"a": "isn't smooth", "b": "isn't finite at 0", "c": "isn't finite at 0", "d": "exponent", **OUT}
)
def roots_of_zeros():
    x = sequence(steps=STEPS)
    a, b, c, d = lstms("abcd", x)
    parts = [ops.std(a, axis=1), ops.sqrt(ops.var(b, axis=1)), ops.abs(c[:, 0]) ** 0.5, 2.0 ** d[:, 0]]
    return keras.Model(x, out()(layers.Concatenate()(parts)))


@topology({"a": Units(4), "b": Units(5), "c": Units(4), "d": Units(4), "e": Units(4, silent=False)})
def steps_by_number():
    """The last step that counts, some steps, the step before, the difference, and one padded with something else."""
    x, last = sequence(steps=STEPS), keras.Input((1,), dtype="int32", name="last")
    a, c, d, e = lstms("acde", x)
    (b,) = lstms("b", x, 5)
    last_step = ops.reshape(ops.mod(last, STEPS), (-1, 1, 1))
    parts = [
        ops.squeeze(ops.take_along_axis(a, last_step, axis=1), axis=1),
        ops.take(ops.take(b, [2, 0], axis=1), 1, axis=1),
        ops.pad(c, [[0, 0], [1, 0], [0, 0]])[:, -2],
        ops.diff(d, axis=1)[:, -1],
        ops.pad(e, [[0, 0], [1, 0], [0, 0]], constant_values=2)[:, -2],
    ]
    return keras.Model([x, last], out()(layers.Concatenate()(parts)))


@topology({}, dict.fromkeys("abcde", "by index") | {"f": "along its units' axis", "g": "along", **OUT})
def units_by_number():
    x = sequence(steps=STEPS, batch=2)
    numbers = keras.Input(batch_shape=(2, 4), dtype="int32", name="numbers")
    a, b, c, d, e, f, g = lstms("abcdefg", x)
    which = ops.expand_dims(ops.mod(numbers, STEPS), 1)
    parts = [
        ops.take(a, [2, 0], axis=-1)[:, 0],
        ops.take(b, [1, 0], axis=0)[:, 0],
        ops.take_along_axis(c, ops.repeat(which, STEPS, axis=1), axis=2)[:, 0],
        ops.take_along_axis(d, which, axis=1)[:, 0],
        ops.take(e[:, 0], 1, axis=1)[..., None],
        ops.pad(f, [[0, 0], [0, 0], [0, 1]])[:, 0],
        ops.diff(g)[:, 0],
    ]
    return keras.Model([x, numbers], out()(layers.Concatenate()(parts)))


@topology(dict.fromkeys("ade", Units(4)) | dict.fromkeys("bc", Units(4, silent=False)))
def functions_of_each_unit():
    x = sequence(steps=STEPS)
    a, b, c, d, e = lstms("abcde", x)
    a = ops.clip(ops.stop_gradient(ops.cast(ops.cast(a, "float16"), "float32")), -0.3, 2)
    b = ops.log(ops.reciprocal(ops.clip(b, 0.1, 1.0)))
    c = ops.log_sigmoid(ops.cos(ops.rsqrt(ops.exp(c))))
    d = ops.log1p(ops.abs(ops.sin(ops.softsign(ops.expm1(d)))))
    e = ops.hard_tanh(ops.celu(ops.hard_silu(ops.tanh_shrink(e) ** 2)))
    parts = [y[:, -1] for y in (a, b, c, d, e)]
    return keras.Model(x, out()(layers.Concatenate()(parts)))


@topology({"a": Units(4), "b": Units(4), "c": Units(5, silent=False)})
def chosen_by_a_mask():
    """Steps that don't count are 0, another layer's, or a number."""
    x = sequence(steps=STEPS)
    a, b = lstms("ab", x)
    (c,) = lstms("c", x, 5)
    counts = ops.greater(x[..., :1], 0)
    parts = [ops.where(counts, a, 0.0), ops.where(counts, b, 0), ops.where(counts, -1e2, c)]
    return keras.Model(x, out()(layers.GlobalMaxPooling1D()(layers.Concatenate()(parts))))


@topology({"a": Units(4)})
def chosen_between_two():
    x = sequence(steps=STEPS)
    a, b = lstms("ab", x)
    return keras.Model(x, out()(ops.where(ops.greater(x[..., :1], 0), a, b)))


@topology(
    {},
    {
        "a": "chooses by",
        "b": "chooses by",
        "c": "chooses by",
        "d": "can't shrink",
        "e": "isn't a number",
        **OUT,
    },
    loadable=False,  # an array among the arguments of `clip`
)
def chosen_by_units():
    x = sequence(steps=STEPS)
    a, b, c, d, e = lstms("abcde", x)
    parts = [
        ops.where(ops.not_equal(a, 0), 1.0, 0.0),
        ops.where(ops.greater(x[..., 0], 0)[:, None], b, 0.0),  # steps beside units
        ops.where(ops.greater(x[..., :1], 0), c, np.ones(4, "float32")),
        ops.where(ops.greater(x[..., :1], 0), d, layers.Concatenate()([x, x[..., :1]])),
        ops.clip(e, -np.ones(4, "float32"), 1.0),
    ]
    return keras.Model(x, out()(layers.Concatenate()(parts)))
