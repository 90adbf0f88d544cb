"""What tracing gathers: which units a tensor carries, and which weights belong to each unit.

`Signal` says what a tensor carries. `Draft` is a structure in the making; drafts whose units turn out to be the same
units (`Draft.join`) become one; a draft whose units turn out to be those of several others (a decoder that starts
from the concatenated states of two encoders) is split (`Draft.split`). `Book` keeps them all.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Sequence
from typing import Any

import keras
import numpy as np

from keras_iss.structures import Resize, Role, Structure, WeightSlice


def from_end(axes: int | Iterable[int] | None, rank: int) -> list[int]:
    """Axes of a layer or operation, one or several, counted from the end as `Placement.axis` is; None: all."""
    several = [axes] if isinstance(axes, int) else axes or range(rank)
    return [a - rank if a >= 0 else a for a in several]


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

    @property
    def pattern(self) -> tuple[Any, ...]:
        """The layout apart from where it begins and how many units there are."""
        return (self.axis, self.stride, self.repeat, tuple(o - self.offsets[0] for o in self.offsets))

    def resolved(self) -> list[Placement]:
        """Itself, or one placement for each part of a draft that was split."""
        parts = self.draft.root.parts
        if not parts:
            return [self]
        moved = (
            dataclasses.replace(
                self, draft=part, offsets=tuple(o + first * self.stride for o in self.offsets)
            )
            for first, part in parts
        )
        return [placement for part in moved for placement in part.resolved()]

    def indices(self) -> np.ndarray:
        """The indices of each unit, shape (size, width)."""
        part = WeightSlice(path="", axis=0, offsets=self.offsets, stride=self.stride, repeat=self.repeat)
        return part.indices(self.draft.root.size)


@dataclasses.dataclass(frozen=True)
class Signal:
    """What a tensor carries.

    Args:
        shape: The tensor's shape; None where unknown.
        carried: The units it carries, as they were when the signal was made; `placements` is up to date.
        source: Index of the model input it is, untouched, or None.
    """

    shape: tuple[int | None, ...]
    carried: tuple[Placement, ...] = ()
    source: int | None = None

    @property
    def placements(self) -> tuple[Placement, ...]:
        """The units it carries, ordered by layout; empty for tensors whose width nobody may change."""
        return tuple(sorted((q for p in self.carried for q in p.resolved()), key=lambda p: p.layout))

    def passed(self, *, zero: bool = True) -> Signal:
        """The same units after an elementwise function; `zero`: f(0) = 0."""
        return self.with_zeros([p.zero and zero for p in self.placements])

    def with_zeros(self, zeros: Sequence[bool]) -> Signal:
        """The same units with other flags, in the order of `placements`."""
        placed = (dataclasses.replace(p, zero=z) for p, z in zip(self.placements, zeros, strict=True))
        return Signal(self.shape, tuple(placed))

    def shifted(self, offset: int) -> tuple[Placement, ...]:
        """The placements on the last axis, moved by `offset` (concatenation)."""
        return tuple(
            dataclasses.replace(p, offsets=tuple(o + offset for o in p.offsets)) for p in self.placements
        )

    def rearranged(self, sources: Sequence[int | None]) -> Signal:
        """The signal with its axes in another order, some gone and some of them new.

        Args:
            sources: For each axis of the result the one that it was, counted from the end, or None if it is new. No units
                may lie on an axis that goes.
        """
        places = {old: new - len(sources) for new, old in enumerate(sources)}
        moved = (dataclasses.replace(p, axis=places[p.axis]) for p in self.placements)
        return Signal(tuple(1 if old is None else self.shape[old] for old in sources), tuple(moved))

    @property
    def layouts(self) -> list[tuple[Any, ...]]:
        return [p.layout for p in self.placements]

    def occupies(self, axis: int) -> set[int]:
        """All indices on one axis that belong to some unit."""
        return {int(i) for p in self.placements if p.axis == axis for i in p.indices().ravel()}

    @property
    def zero(self) -> bool:
        """Whether it holds 0 wherever a unit is certain to output 0."""
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
        self.resizes: dict[tuple[Resize, int, int], None] = {}  # with the first unit's place and the stride
        self.weightless: dict[str, None] = {}
        self.reasons: dict[str, None] = {}
        self.parts: list[tuple[int, Draft]] = []  # after a split: (first unit, part)
        self._parent: Draft | None = None

    @property
    def root(self) -> Draft:
        draft = self
        while draft._parent is not None:
            draft = draft._parent
        return draft

    @property
    def leaves(self) -> list[Draft]:
        """The drafts that hold its units now."""
        root = self.root
        return [leaf for _, part in root.parts for leaf in part.leaves] if root.parts else [root]

    def split(self, cuts: Iterable[int]) -> None:
        """Makes several drafts of this one; each of `cuts` is the first unit of another."""
        for first, last in itertools.pairwise([0, *sorted(cuts), self.size]):
            part = Draft(f"{self.name}[{first}:{last}]", self.kind, last - first, self.order)
            for key, zero in self.reads_zero.items():
                offsets = tuple(o + first * key.stride for o in key.offsets)
                part.add(dataclasses.replace(key, offsets=offsets, reads_zero=zero))
            part.resizes = {(r, o + first * stride, stride): None for r, o, stride in self.resizes}
            part.weightless.update(self.weightless)
            part.reasons.update(self.reasons)
            self.parts.append((first, part))

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
            resizes=tuple(resize for resize, *_ in self.resizes),
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
        self.of_cells: set[str] = set()  # those of them that recurrent cells hold
        self.vocabularies: dict[int, int] = {}  # model input -> exclusive bound of its integers
        self.twins: list[tuple[Draft, Draft]] = []

    def key(self, variable: Any) -> str | None:
        return self.keys.get(id(variable))

    def pin(self, signals: Iterable[Signal], reason: str) -> None:
        for signal in signals:
            for placement in signal.placements:
                placement.draft.root.reasons.setdefault(reason)

    def lay(
        self, signal: Signal, variable: Any, axis: int, role: Role, owner: int, *, penalised: bool
    ) -> None:
        """Lays a signal's units along one axis of a weight, joining them with those that lie there already."""
        key = self.key(variable)
        if key is None or not keras.backend.is_float_dtype(variable.dtype):
            self.pin([signal], "a weight that reads it is quantized, adapted (LoRA) or not the model's own")
            return
        self.owners.setdefault(key, {})[owner] = None
        axis %= len(variable.shape)
        if any(p.axis != -1 for p in signal.placements):
            self.pin([signal], f"its units lie on another axis than the features where {key} reads them")
            return
        before = self.touched.setdefault((key, axis), signal)
        if before is not signal:
            self.join(
                [before, signal], f"{key} is shared and also reads something that can't shrink along with it"
            )
        for p in signal.placements:
            p.draft.root.add(
                WeightSlice(
                    path=key,
                    axis=axis,
                    offsets=p.offsets,
                    stride=p.stride,
                    repeat=p.repeat,
                    role=role,
                    penalised=penalised,
                    reads_zero=p.zero,
                )
            )

    def join(self, signals: Sequence[Signal], reason: str) -> bool:
        """Makes the units of all signals one; where they don't lie alike, all are pinned."""
        self._align(signals)
        first = signals[0]
        if any(first.layouts != other.layouts for other in signals[1:]):
            self.pin(signals, reason)
            return False
        for other in signals[1:]:
            for a, b in zip(first.placements, other.placements, strict=True):
                a.draft.join(b.draft)
        return True

    def _align(self, signals: Sequence[Signal]) -> None:
        """Splits drafts where the units of another signal begin: 6 units beside 2 + 4 become 2 + 4 themselves.

        Only where all signals have units at the same indices, so that they can be joined afterwards.
        """
        twins = {draft.root for pair in self.twins for draft in pair}
        while len({tuple(s.layouts) for s in signals}) > 1:
            placed = [p for s in signals for p in s.placements]
            if any(s.occupies(p.axis) != signals[0].occupies(p.axis) for s in signals for p in placed):
                return
            cuts: dict[Draft, set[int]] = {}
            for p in placed:
                starts = {q.offsets[0] - p.offsets[0] for q in placed if q.pattern == p.pattern}
                units = {d // p.stride for d in starts if d % p.stride == 0} & set(
                    range(1, p.draft.root.size)
                )
                if units:
                    cuts.setdefault(p.draft.root, set()).update(units)
            if not cuts or twins & set(cuts):
                return
            for draft, units in cuts.items():
                draft.split(units)
