"""H-LSTMs computed by Keras, on whichever backend."""

import itertools

import keras
import numpy as np
from keras import layers

from keras_iss.layers import HLSTM, HLSTMCell

BATCH, STEPS, FEATURES, UNITS = 2, 4, 3, 5
GATES = ("input_gate", "forget_gate", "candidate_gate", "output_gate")
WIDTHS = {
    "none": (),
    "one": (6,),
    "two": (4, 3),
    "two uneven": (4, (2, 3, 3, 1)),
}
LOOPED = ("one", "two uneven")  # whose cell is also run in a loop of Keras's own
MASK = np.array([[True, False, True, True], [False, True, True, False]])


def widths_of(name):
    return [w if isinstance(w, tuple) else (w,) * 4 for w in (*WIDTHS[name], UNITS)]


def weights_of(name, seed=0):
    """The weights in the layer's order, of a size that drives the gates."""
    rng = np.random.default_rng(seed)
    first, *_ = widths = widths_of(name)
    shapes = [(FEATURES, sum(first)), (UNITS, sum(first)), (sum(first),)]
    for above, below in itertools.pairwise(widths):
        for pair in zip(above, below, strict=True):
            shapes += [pair, pair[1:]]
    return [rng.normal(scale=0.6, size=shape) for shape in shapes]


def data(seed=1):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(BATCH, STEPS, FEATURES)), *rng.normal(size=(2, BATCH, UNITS))


def projection():
    return np.random.default_rng(2).normal(size=(BATCH, STEPS, UNITS))


def reference(name, x, h, c, weights, mask=None):
    """The outputs of all steps and the last states, gate by gate and step by step in double precision."""
    kernel, recurrent, bias, *later = weights
    widths = widths_of(name)
    ends = np.cumsum(widths[0])[:-1]
    columns = list(zip(*(np.split(w, ends, axis=-1) for w in (kernel, recurrent, bias)), strict=True))
    output, outputs = np.zeros_like(h), []
    for step in range(x.shape[1]):
        values = []
        for gate, (w, r, b) in enumerate(columns):
            a = x[:, step] @ w + h @ r + b
            for layer in range(len(widths) - 1):
                a = (
                    np.where(a > 0, a, 0.01 * a) @ later[8 * layer + 2 * gate]
                    + later[8 * layer + 2 * gate + 1]
                )
            values.append(a)
        i, f, o = (1 / (1 + np.exp(-values[k])) for k in (0, 1, 3))
        new_c = f * c + i * np.tanh(values[2])
        new_h = o * np.tanh(new_c)
        keep = np.ones((len(x), 1), bool) if mask is None else mask[:, step : step + 1]
        h, c, output = np.where(keep, new_h, h), np.where(keep, new_c, c), np.where(keep, new_h, output)
        outputs.append(output)
    return np.stack(outputs, 1), h, c


def forward():
    """All outputs and the last states: of layers, from initial states and masked, and of their cells in a loop."""
    x, h, c = keras.Input((STEPS, FEATURES)), keras.Input((UNITS,)), keras.Input((UNITS,))
    mask = keras.Input((STEPS,), dtype="bool")
    ends = {"return_sequences": True, "return_state": True}
    outputs, made = {}, {}
    for name, widths in WIDTHS.items():
        layer = HLSTM(UNITS, gate_units=widths, **ends)
        outputs[f"{name}|layer"] = list(layer(x, initial_state=[h, c]))
        outputs[f"{name}|masked"] = list(layer(x, mask=mask))
        made[name] = [layer]
        if name in LOOPED:
            made[name].append(layers.RNN(HLSTMCell(UNITS, gate_units=widths), **ends))
            outputs[f"{name}|cell"] = list(made[name][1](x, initial_state=[h, c]))
    model = keras.Model([x, h, c, mask], outputs)
    for name, several in made.items():
        for layer in several:
            layer.set_weights(weights_of(name))
    model.compile(jit_compile=keras.backend.backend() == "jax")
    found = model.predict([*data(), MASK], verbose=0)
    return {f"forward|{kind}|{i}": y for kind, values in found.items() for i, y in enumerate(values)}


def gradients(names=("one", "two uneven")):
    """Of Σ projection · output / batch, as one step of the plainest training takes them off the weights."""
    x = keras.Input((STEPS, FEATURES))
    made = [HLSTM(UNITS, gate_units=WIDTHS[name], return_sequences=True) for name in names]
    model = keras.Model(x, layers.add([layer(x) for layer in made]))
    for name, layer in zip(names, made, strict=True):
        layer.set_weights(weights_of(name))
    loss = lambda wanted, y: keras.ops.sum(wanted * y, axis=(1, 2))  # noqa: E731
    model.compile(keras.optimizers.SGD(1.0), loss, jit_compile=keras.backend.backend() == "jax")
    before = [layer.get_weights() for layer in made]
    model.fit(data()[0], projection(), batch_size=BATCH, verbose=0)
    return {
        f"gradient|{name}|{i}": old - new
        for name, layer, olds in zip(names, made, before, strict=True)
        for i, (old, new) in enumerate(zip(olds, layer.get_weights(), strict=True))
    }


def _show(cell, units):
    """Weights with which the hidden layer of the candidate shows: g = 1 where its unit stays, and h = σ(40)·tanh(c)."""
    cell.kernel.assign(np.zeros(cell.kernel.shape))
    cell.recurrent_kernel.assign(np.zeros(cell.recurrent_kernel.shape))
    cell.bias.assign(np.ones(cell.bias.shape))
    for gate in GATES:
        eye = np.eye(units) if gate == "candidate_gate" else np.zeros((units, units))
        bias = {"candidate_gate": 0.0, "forget_gate": -40.0}.get(gate, 40.0)
        cell.gate_weight("kernel", gate, 2).assign(eye)
        cell.gate_weight("bias", gate, 2).assign(np.full(units, bias))


def dropped(units=8):
    """What gate_dropout leaves: in two calls in training and one in inference, of a layer and of a cell in a loop."""
    x, found = np.ones((BATCH, STEPS, FEATURES), "float32"), {}
    options = {"gate_units": (units,), "gate_dropout": 0.5, "activation": "linear", "seed": 3}
    for kind, layer in {
        "layer": HLSTM(units, return_sequences=True, **options),
        "cell": layers.RNN(HLSTMCell(units, **options), return_sequences=True),
    }.items():
        layer.build(x.shape)
        _show(layer.cell, units)
        for call, training in {"first": True, "second": True, "inference": False}.items():
            y = layer(x, training=training)
            found[f"dropped|{kind}|{call}"] = keras.ops.convert_to_numpy(y)
            if kind == "cell":
                break
    return found


def everything():
    return {**forward(), **gradients(), **dropped()}
