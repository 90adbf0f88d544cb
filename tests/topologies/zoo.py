"""Small models of every layer and topology that tracing knows: name -> what must be found in it.

Each entry says which structures there are and what each must have of zeros before a unit may go, and which are
pinned, with a word of the reason. It is written from what the layers compute, not from what tracing answers.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

import keras
import numpy as np
from keras import layers, ops

import keras_iss
from keras_iss.introspection import variables_of
from keras_iss.structures import Role, scale

VOCABULARY = 7
FEATURES = 3
STEPS = 4
BATCH = 2


@dataclasses.dataclass(frozen=True)
class Units:
    """What a structure must be.

    Args:
        size, kind: As in `Structure`.
        silent: Whether a unit may go as soon as its incoming weights are all 0.
        deaf: Whether a unit may go as soon as its outgoing weights are all 0.
    """

    size: int
    kind: str = "hidden"
    silent: bool = True
    deaf: bool = True


@dataclasses.dataclass(frozen=True)
class Topology:
    """A model and what must be found in it.

    Args:
        build: Builds the model, afresh each time.
        structures: What can be pruned, by name.
        pinned: What can't: name -> a word of the reason.
        loadable: Whether Keras itself can load what it saved of such a model.
    """

    build: Callable[[], keras.Model]
    structures: Mapping[str, Units]
    pinned: Mapping[str, str]
    loadable: bool = True


ZOO: dict[str, Topology] = {}
OUT = {"out": "output of the model"}
WAYS = {"incoming": (Role.INCOMING,), "outgoing": (Role.OUTGOING,), "both": (Role.INCOMING, Role.OUTGOING)}


def topology(
    structures: Mapping[str, Units], pinned: Mapping[str, str] = OUT, *, loadable: bool = True
) -> Callable:
    """Puts the decorated builder into the zoo under its own name."""

    def add(build: Callable[[], keras.Model]) -> Callable[[], keras.Model]:
        ZOO[build.__name__] = Topology(build, structures, pinned, loadable)
        return build

    return add


def dense(size: int, **flags: bool) -> Units:
    return Units(size, "dense", **flags)


def embedding(size: int, **flags: bool) -> Units:
    return Units(size, "embedding", **flags)


def randomise(model: keras.Model, seed: int = 0) -> None:
    """No weight, bias, statistic or state is near 0: what is 0 afterwards was set to 0 on purpose."""
    generator = np.random.default_rng(seed)
    for variable in variables_of(model):
        if "seed" in variable.path:
            continue
        shape = tuple(variable.shape)
        size = generator.uniform(0.2, 0.8, shape)
        sign = 1 if "variance" in variable.path else generator.choice([-1.0, 1.0], shape)
        variable.assign(np.asarray(size * sign, "float32"))


def zero_some_units(model: keras.Model, seed: int = 0) -> dict[str, list[str]]:
    """Sets units of every structure that can be pruned to 0, one in each of the three ways; at least one stays.

    Returns:
        The ways taken, by structure.
    """
    generator = np.random.default_rng(seed)
    found = keras_iss.trace(model)
    taken = {}
    for structure in found.structures:
        # Small structures haven't room for all.
        ways = {1: [], 2: ["both"], 3: ["incoming", "outgoing"]}.get(structure.size, list(WAYS))
        units = generator.permutation(structure.size)
        for way, unit in zip(ways, units, strict=False):
            factors = np.ones(structure.size, "float32")
            factors[unit] = 0
            zeroed = scale(structure, found.weights, factors, penalised_only=False, roles=WAYS[way])
            for path, value in zeroed.items():
                found.weights[path].assign(value)
        taken[structure.name] = ways
    return taken


def inputs_for(model: keras.Model, seed: int = 0):
    """Random values of each input's kind, in the model's own structure; open lengths become STEPS."""
    generator = np.random.default_rng(seed)

    def values(tensor):
        shape = [d or (BATCH if axis == 0 else STEPS) for axis, d in enumerate(tensor.shape)]
        if "int" in tensor.dtype:
            ids = generator.integers(1, VOCABULARY, shape)
            ids[..., -1] = 0  # where 0 is masked, the mask isn't trivial
            return ids.astype(tensor.dtype)
        return generator.standard_normal(shape).astype(tensor.dtype)

    structure = model.input if not isinstance(model, keras.Sequential) else model.inputs[0]
    return keras.tree.map_structure(values, structure)


def outputs_of(model: keras.Model, inputs) -> list[np.ndarray]:
    return [ops.convert_to_numpy(y) for y in keras.tree.flatten(model(inputs, training=False))]


def sequence(features: int = FEATURES, steps: int | None = None, batch: int | None = None, name: str = "x"):
    return keras.Input(batch_shape=(batch, steps, features), name=name)


def tokens(name: str = "tokens"):
    return keras.Input((None,), dtype="int32", name=name)


def out(units: int = 2):
    return layers.Dense(units, name="out")


def chain(*parts, steps: int | None = None, batch: int | None = None) -> keras.Model:
    """A Sequential model from float sequences through the layers to a Dense output."""
    return keras.Sequential([sequence(steps=steps, batch=batch), *parts, out()])
