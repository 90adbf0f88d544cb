"""Stripped normalizations beside Keras's own on the same units and zeros, on any backend."""

import keras
import numpy as np
from keras import layers, ops

from keras_iss.layers import StrippedLayerNormalization, StrippedRMSNormalization

LEFT, TOTAL, STEPS, BATCH = 5, 9, 4, 3
OWN = {"layer": layers.LayerNormalization, "rms": layers.RMSNormalization}
STRIPPED = {"layer": StrippedLayerNormalization, "rms": StrippedRMSNormalization}
SETTINGS = {
    "layer": [{}, {"center": False}, {"scale": False}, {"center": False, "scale": False, "epsilon": 0.5}],
    "rms": [{}, {"epsilon": 0.5}],
}
DTYPES = ("float32", "float16", "mixed_float16", "bfloat16")


def inputs(size=1.0):
    return (size * np.random.default_rng(0).normal(1.0, 1.0, (BATCH, STEPS, LEFT))).astype("float32")


def padded(x):
    return ops.pad(x, [[0, 0], [0, 0], [0, TOTAL - LEFT]])


def both(kind, dtype="float32", **options):
    """A normalization of all units and the stripped one, with the same weights."""
    whole = OWN[kind](dtype=dtype, **options)
    stripped = STRIPPED[kind](total_units=TOTAL, dtype=dtype, **options)
    whole.build((None, STEPS, TOTAL))
    stripped.build((None, STEPS, LEFT))
    draw = np.random.default_rng(1)
    for old, new in zip(whole.weights, stripped.weights, strict=True):
        old.assign(draw.normal(size=TOTAL))
        new.assign(old[:LEFT])
    return whole, stripped


def outputs(kind, dtype, options, size=1.0):
    whole, stripped = both(kind, dtype, **options)
    x = inputs(size)
    wanted, received = whole(padded(x))[..., :LEFT], stripped(x)
    assert keras.backend.standardize_dtype(wanted.dtype) == keras.backend.standardize_dtype(received.dtype)
    return [ops.convert_to_numpy(ops.cast(y, "float32")) for y in (wanted, received)]


def trained(kind):
    """Weights after a few steps: with the normalization of all units, those of the zeros cut away, and with the stripped one."""
    whole, stripped = both(kind)
    kernel = np.random.default_rng(2).normal(size=(TOTAL, 2)).astype("float32")
    kernel[LEFT:] = 0
    found = []
    for norm, pad, rows in ((whole, padded, TOTAL), (stripped, lambda x: x, LEFT)):
        x = keras.Input((STEPS, LEFT))
        before = layers.Dense(LEFT, kernel_initializer=keras.initializers.RandomNormal(seed=3))
        # The zeros' outputs aren't read: without that, their kernel rows would learn from the means in them.
        mask = np.arange(rows) < LEFT
        y = layers.Dense(2)(norm(pad(before(x))) * mask.astype("float32"))
        model = keras.Model(x, y)
        model.layers[-1].kernel.assign(kernel[:rows])
        model.compile(keras.optimizers.SGD(0.05), "mse")
        targets = np.random.default_rng(4).normal(size=(BATCH, STEPS, 2))
        model.fit(inputs(), targets, epochs=4, batch_size=BATCH, verbose=0)
        weights = [ops.convert_to_numpy(w) for w in (*before.weights, *norm.weights, model.layers[-1].kernel)]
        found.append(np.concatenate([w[:LEFT].ravel() for w in weights]))
    return found


def everything():
    found = {}
    for kind, settings in SETTINGS.items():
        for dtype in DTYPES:
            for number, options in enumerate(settings):
                wanted, received = outputs(kind, dtype, options)
                found[f"{kind}|{dtype}|{number}|wanted"], found[f"{kind}|{dtype}|{number}"] = wanted, received
        for name, size in (("zeros", 0.0), ("tiny", 1e-12), ("huge", 1e12)):
            found[f"{kind}|{name}|wanted"], found[f"{kind}|{name}"] = outputs(kind, "float32", {}, size)
        found[f"{kind}|trained|wanted"], found[f"{kind}|trained"] = trained(kind)
    return found
