"""Recurrent highway networks computed by Keras, on whichever backend."""

import keras
import numpy as np

from keras_iss.layers import RHN, RHNCell

BATCH, STEPS, FEATURES, UNITS = 2, 4, 3, 5
DEPTHS = (1, 3, 10)
DROPPED = [
    *(("layer", kind) for kind in ("dropout", "recurrent_dropout", "output_dropout")),
    ("cell", "recurrent_dropout"),
    ("stack", "output_dropout"),
]


def weights_of(depth, features=FEATURES, units=UNITS, seed=0):
    """Kernel, recurrent kernel and bias of a size that drives the gates."""
    rng = np.random.default_rng(seed)
    shapes = (features, 2 * units), (depth, units, 2 * units), (depth, 2 * units)
    return [rng.normal(scale=0.6, size=shape) for shape in shapes]


def data(seed=1):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(BATCH, STEPS, FEATURES)), rng.normal(size=(BATCH, UNITS))


def reference(x, kernel, recurrent, bias, state=None, mask=None):
    """The outputs of all steps and the last state, step by step in double precision."""
    batch, steps, _ = x.shape
    depth, units, _ = recurrent.shape
    s = np.zeros((batch, units)) if state is None else state
    output, outputs = np.zeros((batch, units)), []
    for step in range(steps):
        new = s
        for level in range(depth):
            a = new @ recurrent[level] + bias[level]
            if level == 0:
                a = a + x[:, step] @ kernel
            h, t = np.tanh(a[:, :units]), 1 / (1 + np.exp(-a[:, units:]))
            new = h * t + new * (1 - t)
        keep = np.ones((batch, 1)) if mask is None else mask[:, step : step + 1]
        s, output = np.where(keep, new, s), np.where(keep, new, output)
        outputs.append(output)
    return np.stack(outputs, 1), s


def functional(depth, **options):
    """A model of one RHN that gives all outputs and the last state, from an initial state."""
    x, start = keras.Input((STEPS, FEATURES)), keras.Input((UNITS,))
    layer = RHN(UNITS, depth, return_sequences=True, return_state=True, name="rhn", **options)
    model = keras.Model([x, start], list(layer(x, initial_state=start)))
    model.set_weights(weights_of(depth)[: len(model.weights)])
    return model


def forward(depth):
    outputs = functional(depth).predict(data(), verbose=0)
    return {f"forward|{depth}|{i}": y for i, y in enumerate(outputs)}


def gradients(depth=2):
    """Of Σ projection · output / batch, as one step of the plainest training takes them off the weights."""
    x = keras.Input((STEPS, FEATURES))
    model = keras.Model(x, RHN(UNITS, depth, return_sequences=True)(x))
    before = [w.astype("float32") for w in weights_of(depth)]
    model.set_weights(before)
    model.compile(keras.optimizers.SGD(1.0), loss=lambda wanted, y: keras.ops.sum(wanted * y, axis=(1, 2)))
    model.fit(data()[0], projection(), batch_size=BATCH, verbose=0)
    pairs = zip(before, model.get_weights(), strict=True)
    return {f"gradient|{i}": old - new for i, (old, new) in enumerate(pairs)}


def projection():
    return np.random.default_rng(2).normal(size=(BATCH, STEPS, UNITS))


class _PassedOn(keras.layers.SimpleRNNCell):
    """What the cell below gives, as it is."""

    def call(self, inputs, states, training=False):
        return inputs, states


def _wrapped(wrap, depth, **options):
    """An RHN layer; or a loop over its cell; or over its cell and another one (Keras on JAX can't stack just one)."""
    ends = {"return_sequences": True, "return_state": True}
    if wrap == "layer":
        layer = RHN(UNITS, depth, **ends, **options)
        return layer, layer.cell
    cell = RHNCell(UNITS, depth, **options)
    stack = [cell, _PassedOn(UNITS)] if wrap == "stack" else cell
    return keras.layers.RNN(stack, **ends), cell


def _show(cell, kind):
    """Weights with which one dropout shows by itself: the inputs', the state's or the outputs'."""
    eye, nothing = np.eye(UNITS), np.zeros((UNITS, UNITS))
    kernel, recurrent = (eye, nothing) if kind == "dropout" else (nothing, eye)
    opened = -40.0 if kind == "output_dropout" else 40.0  # s_l = s_{l-1}, or h_l
    cell.kernel.assign(np.concatenate([kernel, nothing], 1))
    cell.recurrent_kernel.assign(np.stack([np.concatenate([recurrent, nothing], 1)] * cell.depth))
    cell.bias.assign(np.repeat([[0.0, opened]], UNITS, 1) * np.ones((cell.depth, 1)))


def dropped(rate=0.5):
    """What the dropouts leave of ones: in two calls in training and one in inference."""
    ones, start = np.ones((BATCH, STEPS, UNITS), "float32"), np.ones((BATCH, UNITS), "float32")
    found = {}
    for wrap, kind in DROPPED:
        depth = 1 if kind == "dropout" else 3
        layer, cell = _wrapped(wrap, depth, activation="linear", seed=7, **{kind: rate})
        layer.build(ones.shape)
        _show(cell, kind)
        states = [start] * (2 if wrap == "stack" else 1)
        for call, training in {"first": True, "second": True, "inference": False}.items():
            y, state, *_ = layer(ones, initial_state=states, training=training)
            state = keras.tree.flatten(state)[0]
            found[f"{kind}|{wrap}|{call}|y"] = keras.ops.convert_to_numpy(y)
            found[f"{kind}|{wrap}|{call}|state"] = keras.ops.convert_to_numpy(state)
            if wrap != "layer":
                break  # one call shows that the mask is drawn ahead of the loop
    return found


def everything():
    found = gradients() | dropped()
    for depth in DEPTHS:
        found |= forward(depth)
    return found
