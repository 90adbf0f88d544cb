"""Where a hidden unit lives: the slices of all weights that go when the unit goes.

Everything that needs the layout of a structure (penalty, proximal step, masks, growth, strip, reports) goes
through `squared_norms`, `spread`, `scale` and `take`.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_iss.distribution import gathered


class Role(enum.Enum):
    """What a slice does to its unit."""

    INCOMING = "incoming"  # writes the unit: kernel columns and their bias
    OUTGOING = "outgoing"  # reads the unit: recurrent rows, the next layer's kernel rows
    CARRIED = "carried"  # goes with the unit, neither: a BatchNormalization's statistics


@dataclasses.dataclass(frozen=True, kw_only=True)
class WeightSlice:
    """Where a structure's units lie on one axis of one weight.

    Unit k owns the indices `offset + k * stride + r`, 0 <= r < repeat, for every offset.

    Args:
        path: The weight's key in `weights_by_path`; never the variable itself.
        axis: The axis of the weight, counted from 0.
        offsets: Where the blocks begin: one per gate, depth or concatenated input.
        stride: Distance between two neighbouring units of a block.
        repeat: Neighbouring indices that belong to one unit.
        role: Whether the slice writes the unit, reads it or is merely carried along.
        penalised: Whether group Lasso counts the slice (biases are sliced, not regularized).
        reads_zero: For an outgoing slice: the reader sees 0 when the unit is certain to output 0
            (no sigmoid or normalization in between).

    Raises:
        ValueError: If a number is out of its range.

    Example:

    >>> WeightSlice(path="lstm/kernel", axis=1, offsets=(0, 4, 8, 12)).indices(4)[1].tolist()
    [1, 5, 9, 13]
    """

    path: str
    axis: int
    offsets: tuple[int, ...] = (0,)
    stride: int = 1
    repeat: int = 1
    role: Role = Role.OUTGOING
    penalised: bool = True
    reads_zero: bool = True

    def __post_init__(self):
        if self.axis < 0 or min(self.offsets, default=-1) < 0 or self.stride < 1 or self.repeat < 1:
            raise ValueError(
                f"Invalid slice of weight {self.path!r}. Expected axis and offsets >= 0, stride and repeat >= 1. "
                f"Received: {self}"
            )

    @property
    def width(self) -> int:
        """Indices that one unit owns."""
        return len(self.offsets) * self.repeat

    def indices(self, size: int) -> np.ndarray:
        """The indices each unit owns, shape (size, width)."""
        starts = np.arange(size)[:, None, None] * self.stride + np.asarray(self.offsets)[None, :, None]
        return (starts + np.arange(self.repeat)).reshape(size, self.width)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Resize:
    """A number in a layer's config that shrinks with a structure.

    The field becomes `value - per_unit * removed`, summed over all structures that resize it, and over a structure's
    own entries where its units lie there more than once.

    Args:
        layer: The layer's key in `Trace.layers`, such as "lstm" or "encoder/bidirectional".
        field: Where the number lies in the layer's config, such as ("units",) or
            ("forward_layer", "config", "units") or ("target_shape", 1).
        value: What stands there now.
        per_unit: How much one unit takes.
    """

    layer: str
    field: tuple[str | int, ...]
    value: int
    per_unit: int = 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class Structure:
    """One intrinsic sparse structure: `size` units, each with all weights that go when it goes.

    Args:
        name: "lstm", "bidirectional/forward", "encoder/lstm".
        kind: "hidden", "gate", "embedding" or "dense".
        size: Number of units.
        slices: Where the units lie in the model's weights.
        resizes: Which layers' config fields shrink.
        weightless_readers: Layers that read the units without a weight of their own (a dot-product attention):
            a unit can then only go when it is certain to output 0.

    Source: Wen et al., ICLR 2018 (arXiv 1709.05027), section 3.1 and figure 3.
    """

    name: str
    kind: str
    size: int
    slices: tuple[WeightSlice, ...]
    resizes: tuple[Resize, ...] = ()
    weightless_readers: tuple[str, ...] = ()

    def __post_init__(self):
        if self.kind not in ("hidden", "gate", "embedding", "dense"):
            raise ValueError(
                f"Invalid kind of structure {self.name!r}. Expected 'hidden', 'gate', 'embedding' or 'dense'. "
                f"Received: kind={self.kind!r}"
            )
        if self.size < 1:
            raise ValueError(
                f"Invalid size of structure {self.name!r}. Expected at least 1. Received: size={self.size}"
            )

    @property
    def paths(self) -> tuple[str, ...]:
        """The weights it touches, each once, in order."""
        return tuple(dict.fromkeys(s.path for s in self.slices))


def weights_by_path(variables: Iterable[Any]) -> dict[str, Any]:
    """Names every variable: `Variable.path`, with "#2", "#3" ... where two variables share a path.

    Two inner models built apart may give two weights the same path, so a path alone is not a key. The numbers
    follow the order of `variables`.

    Args:
        variables: Keras variables, such as `model.variables`; one that comes twice counts once.

    Returns:
        A dict from key to variable, in the order of `variables`.
    """
    named: dict[str, Any] = {}
    seen: dict[str, int] = {}
    known: set[int] = set()
    for variable in variables:
        if id(variable) in known:
            continue
        known.add(id(variable))
        count = seen[variable.path] = seen.get(variable.path, 0) + 1
        named[variable.path if count == 1 else f"{variable.path}#{count}"] = variable
    return named


def to_numpy(x: Any) -> np.ndarray:
    """A variable's, tensor's or array's values as a numpy array, on any backend, also where several processes share it."""
    return np.asarray(ops.convert_to_numpy(gathered(x)))


def at_least_float32(x: Any) -> Any:
    """A tensor in float32 where it is of half floats, in which sums of squares overflow."""
    half = keras.backend.standardize_dtype(x.dtype) in ("float16", "bfloat16")
    return ops.cast(x, "float32") if half else x


def squared_norms(
    structure: Structure,
    weights: Mapping[str, Any],
    *,
    penalised_only: bool = True,
    roles: Sequence[Role] = (Role.INCOMING, Role.OUTGOING),
) -> Any:
    r"""Squared norm of every component, Σ w² over the slices of unit k.

    A weight that two slices of one unit hold (R[k, k] of an LSTM is in its column and in its row) counts twice, as in
    the papers' group sizes (24,000 weights per component for the first of two LSTM layers of 1500).

    Args:
        structure: The structure.
        weights: Its weights by path: variables, tensors or arrays.
        penalised_only: Leave out biases and whatever else group Lasso does not count.
        roles: Which slices count.

    Returns:
        A float32 (or float64, for float64 weights) tensor of shape (structure.size,).

    Example:

    >>> import numpy as np
    >>> dense = Structure(name="d", kind="dense", size=2, slices=(WeightSlice(path="w", axis=1, role=Role.INCOMING),))
    >>> np.asarray(squared_norms(dense, {"w": np.array([[3.0, 0.0], [4.0, 1.0]])})).tolist()
    [25.0, 1.0]

    Source: Wen et al., arXiv 1709.05027, equation 2.
    """
    total: Any = 0.0
    for part in structure.slices:
        if part.role not in roles or (penalised_only and not part.penalised):
            continue
        weight: Any = at_least_float32(ops.convert_to_tensor(weights[part.path]))
        others = tuple(a for a in range(len(weight.shape)) if a != part.axis)
        # (2w)²/4 is w² to the last bit. Written so for rows where XLA compiles the step, because it would else keep
        # the squares in memory to share them with the sums over columns, several times slower than squaring twice.
        factor = 2.0 if part.axis == 0 and keras.backend.backend() == "jax" else 1.0
        squares = ops.square(factor * weight) if factor != 1.0 else ops.square(weight)
        per_index = ops.sum(squares, axis=others) / factor**2
        total = total + _sum_units(part, per_index, structure.size)
    return total if not isinstance(total, float) else ops.zeros((structure.size,))


def _sum_units(part: WeightSlice, per_index: Any, size: int) -> Any:
    """Sums a vector over the indices each unit owns; contiguous blocks are reshaped, not gathered (cheaper)."""
    if part.stride == part.repeat:
        block = size * part.repeat
        total: Any = 0.0
        for offset in part.offsets:
            values = per_index[offset : offset + block]
            total = total + (
                values if part.repeat == 1 else ops.sum(ops.reshape(values, (size, part.repeat)), axis=1)
            )
        return total
    return ops.sum(ops.take(per_index, part.indices(size), axis=0), axis=1)


def spread(part: WeightSlice, values: Any, length: int, fill: float) -> Any:
    """Lays one value per unit out along the slice's axis.

    Args:
        part: The slice.
        values: Shape (size,), one value per unit.
        length: Length of the axis.
        fill: What stands at indices that belong to no unit.

    Returns:
        A tensor of shape (length,).

    Example:

    >>> import numpy as np
    >>> part = WeightSlice(path="w", axis=0, offsets=(0, 3))
    >>> np.asarray(spread(part, np.array([5.0, 6.0]), 5, 1.0)).tolist()
    [5.0, 6.0, 1.0, 5.0, 6.0]
    """
    size = int(values.shape[0])
    owner = np.full((length,), size, dtype="int32")  # index `size` holds the fill
    owner[part.indices(size)] = np.arange(size)[:, None]
    values = ops.convert_to_tensor(values)
    padded = ops.concatenate([values, ops.full((1,), fill, dtype=values.dtype)])
    return ops.take(padded, owner, axis=0)


def along(part: WeightSlice, vector: Any, rank: int) -> Any:
    """Shapes a vector along the slice's axis so that it broadcasts over a weight of `rank` axes."""
    return ops.reshape(vector, [-1 if a == part.axis else 1 for a in range(rank)])


def scale(
    structure: Structure,
    weights: Mapping[str, Any],
    factors: Any,
    *,
    penalised_only: bool = True,
    roles: Sequence[Role] = (Role.INCOMING, Role.OUTGOING),
) -> dict[str, Any]:
    """Multiplies every component k by factors[k], all slices of it.

    Args:
        structure: The structure.
        weights: Its weights by path: variables, tensors or arrays. They are not changed.
        factors: Shape (size,).
        penalised_only: Leave biases as they are.
        roles: Which slices are scaled.

    Returns:
        The new weights, by path: only those the structure touches.

    Example:

    >>> import numpy as np
    >>> dense = Structure(name="d", kind="dense", size=2, slices=(WeightSlice(path="w", axis=1, role=Role.INCOMING),))
    >>> np.asarray(scale(dense, {"w": np.ones((2, 2))}, np.array([1.0, 0.0]))["w"]).tolist()
    [[1.0, 0.0], [1.0, 0.0]]
    """
    scaled: dict[str, Any] = {}
    for part in structure.slices:
        if part.role not in roles or (penalised_only and not part.penalised):
            continue
        held = scaled.get(part.path)
        weight: Any = ops.convert_to_tensor(weights[part.path]) if held is None else held
        vector = ops.cast(spread(part, factors, weight.shape[part.axis], 1.0), weight.dtype)
        scaled[part.path] = weight * along(part, vector, len(weight.shape))
    return scaled


def take(array: np.ndarray, cuts: Iterable[tuple[WeightSlice, int, np.ndarray]]) -> np.ndarray:
    """Cuts units out of one weight.

    Args:
        array: The weight's value.
        cuts: (slice, structure size, indices of the units to remove) for every slice that lies in this weight.

    Returns:
        The smaller array; the order of what is kept doesn't change.

    Example:

    >>> import numpy as np
    >>> part = WeightSlice(path="w", axis=0, offsets=(0, 3))
    >>> take(np.arange(6), [(part, 3, np.array([1]))]).tolist()
    [0, 2, 3, 5]
    """
    doomed: dict[int, list[np.ndarray]] = {}
    for part, size, removed in cuts:
        doomed.setdefault(part.axis, []).append(part.indices(size)[removed].ravel())
    for axis, indices in doomed.items():
        array = np.delete(array, np.concatenate(indices).astype("int64"), axis=axis)
    return array
