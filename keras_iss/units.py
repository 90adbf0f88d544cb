"""What tracing gathers: which units a tensor carries, and which weights belong to each unit.

`Signal` says what a tensor carries. `Draft` is a structure in the making; drafts whose units turn out to be the same
units (`Draft.join`) become one. `Book` keeps them all.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from keras_iss.structures import Resize, Role, Structure, WeightSlice


@dataclasses.dataclass(frozen=True)
class Placement:
    """Where a structure's units lie on one axis of a tensor: `offset + k * stride + r`, 0 <= r < repeat.

    Args:
        draft: The structure.
        axis: Counted from the end, -1 for features.
        offsets, stride, repeat: As in `WeightSlice`.
        zero: The tensor holds 0 there when the unit is certain to output 0.
    """

    draft: Draft
    axis: int = -1
    offsets: tuple[int, ...] = (0,)
    stride: int = 1
    repeat: int = 1
    zero: bool = True

    @property
    def layout(self) -> tuple[Any, ...]:
        return (self.axis, self.offsets, self.stride, self.repeat, self.draft.root.size)

    def indices(self) -> np.ndarray:
        """The indices of each unit, shape (size, width)."""
        part = WeightSlice(path="", axis=0, offsets=self.offsets, stride=self.stride, repeat=self.repeat)
        return part.indices(self.draft.root.size)


@dataclasses.dataclass(frozen=True)
class Signal:
    """What a tensor carries.

    Args:
        shape: The tensor's shape; None where unknown.
        placements: The units it carries; empty for tensors whose width nobody may change.
        source: Index of the model input it is, untouched, or None.
    """

    shape: tuple[int | None, ...]
    placements: tuple[Placement, ...] = ()
    source: int | None = None

    def passed(self, *, zero: bool = True) -> Signal:
        """The same units after an elementwise function; `zero`: f(0) = 0."""
        if zero:
            return dataclasses.replace(self, source=None)
        return dataclasses.replace(
            self, source=None, placements=tuple(dataclasses.replace(p, zero=False) for p in self.placements)
        )

    def shifted(self, offset: int) -> tuple[Placement, ...]:
        """The placements on the last axis, moved by `offset` (concatenation)."""
        return tuple(
            dataclasses.replace(p, offsets=tuple(o + offset for o in p.offsets)) for p in self.placements
        )

    @property
    def layouts(self) -> list[tuple[Any, ...]]:
        return sorted(p.layout for p in self.placements)

    @property
    def zero(self) -> bool:
        return all(p.zero for p in self.placements)


class Draft:
    """A structure in the making.

    Args:
        name, kind, size: As in `Structure`.
        order: Which draft came first: a joint structure is named after its first.
    """

    def __init__(self, name: str, kind: str, size: int, order: int):
        self.name, self.kind, self.size, self.order = name, kind, size, order
        self.names = [name]
        self.reads_zero: dict[WeightSlice, bool] = {}  # keyed by the slice with reads_zero=True
        self.resizes: dict[Resize, None] = {}
        self.weightless: dict[str, None] = {}
        self.reasons: dict[str, None] = {}
        self._parent: Draft | None = None

    @property
    def root(self) -> Draft:
        draft = self
        while draft._parent is not None:
            draft = draft._parent
        return draft

    def add(self, part: WeightSlice) -> None:
        """Adds a slice; if it comes twice, it reads zeros only if it does both times."""
        key = dataclasses.replace(part, reads_zero=True)
        self.reads_zero[key] = self.reads_zero.get(key, True) and part.reads_zero

    def join(self, other: Draft) -> None:
        """Makes unit k of both one unit."""
        if self.root is other.root:
            return
        first, second = sorted((self.root, other.root), key=lambda draft: draft.order)
        second._parent = first
        first.names += second.names
        if second.kind in ("hidden", "gate") and first.kind not in ("hidden", "gate"):
            first.kind, first.name = second.kind, second.name
        for key, zero in second.reads_zero.items():
            first.add(dataclasses.replace(key, reads_zero=zero))
        first.resizes.update(second.resizes)
        first.weightless.update(second.weightless)
        first.reasons.update(second.reasons)

    def finish(self) -> Structure:
        return Structure(
            name=self.name,
            kind=self.kind,
            size=self.size,
            slices=tuple(dataclasses.replace(key, reads_zero=z) for key, z in self.reads_zero.items()),
            resizes=tuple(self.resizes),
            weightless_readers=tuple(self.weightless),
        )


class Book:
    """All drafts of one model, and what is known of its weights."""

    def __init__(self, keys: dict[int, str]):
        self.keys = keys  # id(variable) -> key
        self.drafts: dict[Any, Draft] = {}
        self.touched: dict[tuple[str, int], Signal] = {}  # (weight, axis) -> the signal that lies along it
        self.owners: dict[str, dict[int, None]] = {}  # weight -> ids of the layers that use it
        self.uses: dict[str, int] = {}  # weight -> matrix products per time step
        self.vocabularies: dict[int, int] = {}  # model input -> exclusive bound of its integers
        self.twins: list[tuple[Draft, Draft]] = []

    def key(self, variable: Any) -> str | None:
        return self.keys.get(id(variable))

    def pin(self, signals: Iterable[Signal], reason: str) -> None:
        for signal in signals:
            for placement in signal.placements:
                placement.draft.root.reasons.setdefault(reason)

    def lay(self, signal: Signal, variable: Any, axis: int, role: Role, owner: int, *, penalised: bool) -> None:
        """Lays a signal's units along one axis of a weight, joining them with those that lie there already."""
        key = self.key(variable)
        if key is None:
            self.pin([signal], "a weight that reads it is quantized, adapted (LoRA) or not the model's own")
            return
        self.owners.setdefault(key, {})[owner] = None
        axis %= len(variable.shape)
        if any(p.axis != -1 for p in signal.placements):
            self.pin([signal], f"its units lie on another axis than the features where {key} reads them")
            return
        before = self.touched.setdefault((key, axis), signal)
        if before is not signal:
            self.join([before, signal], f"{key} is shared and also reads something that can't shrink along with it")
        for p in signal.placements:
            p.draft.root.add(
                WeightSlice(path=key, axis=axis, offsets=p.offsets, stride=p.stride, repeat=p.repeat, role=role,
                            penalised=penalised, reads_zero=p.zero)
            )

    def join(self, signals: Sequence[Signal], reason: str) -> None:
        """Makes the units of all signals one; where they don't lie alike, all are pinned."""
        first = signals[0]
        for other in signals[1:]:
            if first.layouts != other.layouts:
                self.pin(signals, reason)
                return
        for other in signals[1:]:
            for a, b in zip(_ordered(first), _ordered(other), strict=True):
                a.draft.join(b.draft)


def _ordered(signal: Signal) -> list[Placement]:
    return sorted(signal.placements, key=lambda p: p.layout)
