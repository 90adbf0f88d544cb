"""What a rule sees: one layer being called, with signals in place of tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import keras

from keras_iss.structures import Resize, Role
from keras_iss.units import Book, Draft, Placement, Signal

if TYPE_CHECKING:
    from keras_iss.walking import Walker


class Call:
    """One call of a layer while its model is traced.

    Attributes:
        layer: The layer or RNN cell.
        args, kwargs: As the layer was called, with a `Signal` in place of every tensor.
        name: The layer's name with those of the models and wrappers around it, "encoder/lstm".
        outputs: One `Signal` per output tensor that carries nothing yet but has the right shape (empty inside a
            wrapper).
    """

    def __init__(
        self,
        walker: Walker,
        layer: Any,
        args: tuple,
        kwargs: dict,
        *,
        name: str,
        owner: str,
        field: tuple[str | int, ...] = (),
        outputs: Sequence[Signal] = (),
    ):
        self.layer, self.args, self.kwargs = layer, args, kwargs
        self.name, self.outputs = name, tuple(outputs)
        self._walker, self._owner, self._field = walker, owner, field

    @property
    def book(self) -> Book:
        return self._walker.book

    @property
    def wrapped(self) -> bool:
        """Whether another layer holds this one in its config."""
        return bool(self._field)

    @property
    def inputs(self) -> list[Signal]:
        """All signals among the arguments, masks left out."""
        given = (self.args, {k: v for k, v in self.kwargs.items() if k != "mask"})
        return [s for s in keras.tree.flatten(given) if isinstance(s, Signal)]

    def argument(self, position: int, name: str, default: Any = None) -> Any:
        """An argument of the call, however it was passed."""
        return self.args[position] if len(self.args) > position else self.kwargs.get(name, default)

    def structure(self, size: int, *, kind: str, zero: bool = True, part: str = "") -> Signal:
        """A structure of this layer: the same one each time the layer is called.

        Args:
            size: Number of units.
            kind: "hidden", "gate", "embedding" or "dense".
            zero: Whether a unit whose incoming weights and bias are all 0 outputs 0.
            part: Tells several structures of one layer apart.
        """
        name = f"{self.name}/{part}" if part else self.name
        drafts = self.book.drafts
        draft = drafts.setdefault((id(self.layer), part), Draft(name, kind, size, order=len(drafts)))
        return Signal((None, size), (Placement(draft, zero=zero),))

    def writes(
        self, units: Signal, variable: Any, axis: int = -1, *, gates: int = 1, penalised: bool = True
    ) -> None:
        """The weight's axis holds `gates` blocks of the units' incoming weights, one after another."""
        if variable is None:
            return
        self.reads(units, variable, axis, gates=gates, role=Role.INCOMING, penalised=penalised)

    def reads(
        self,
        signal: Signal,
        variable: Any,
        axis: int = 0,
        *,
        gates: int = 1,
        role: Role = Role.OUTGOING,
        penalised: bool = True,
    ) -> None:
        """The weight's axis reads the signal's features."""
        size = signal.shape[-1]
        placements = tuple(
            Placement(p.draft, p.axis, tuple(o + g * int(size or 0) for g in range(gates) for o in p.offsets),
                      p.stride, p.repeat, p.zero)
            for p in signal.placements
        )  # fmt: skip
        self.book.lay(Signal((), placements), variable, axis, role, id(self.layer), penalised=penalised)

    def carries(self, signal: Signal, variable: Any, axis: int = -1) -> None:
        """The weight goes with the units without reading or writing them (a normalization's statistics)."""
        if variable is not None:
            self.reads(signal, variable, axis, role=Role.CARRIED, penalised=False)

    def multiplies(self, variable: Any) -> None:
        """The weight takes part in one matrix product per time step."""
        key = self.book.key(variable)
        if key is not None:
            self.book.uses[key] = self.book.uses.get(key, 0) + 1
            if hasattr(self.layer, "state_size"):  # Keras's mark of a recurrent cell
                self.book.of_cells.add(key)

    def joins(self, signals: Sequence[Signal], reason: str) -> bool:
        """Unit k of all signals must stay or go together; if they don't lie alike they are pinned for the reason."""
        return self.book.join(signals, reason)

    def reads_without_weight(self, *signals: Signal) -> None:
        """The layer reads the units themselves, so one may only go when it is certain to be 0."""
        for signal in signals:
            if not signal.zero:
                self.pins(
                    [signal], f"{self.name} reads it without a weight, and not as 0 when the unit is removed"
                )
            for placement in signal.placements:
                placement.draft.root.weightless.setdefault(self.name)

    def pins(self, signals: Sequence[Signal], reason: str) -> None:
        self.book.pin(signals, reason)

    def resizes(self, signal: Signal, *field: str | int, value: int, per_unit: int | None = None) -> None:
        """The config field shrinks with the units that the signal carries; `per_unit` 0: it keeps its value."""
        if per_unit != 0:
            before = self.book.touched.setdefault(
                (".".join(map(str, (self._owner, *self._field, *field))), 0), signal
            )
            self.joins([before, signal], f"{self.name} is shared by layers that can't shrink alike")
        for p in signal.placements:
            width = len(p.offsets) * p.repeat if per_unit is None else per_unit
            resize = Resize(layer=self._owner, field=self._field + field, value=value, per_unit=width)
            p.draft.root.resizes[resize, p.offsets[0], p.stride] = None

    def twins(self, first: Signal, second: Signal) -> None:
        """Two structures that must keep equally many units."""
        if first.layouts != second.layouts:
            self.pins([first, second], f"Keras needs both directions of {self.name} equally wide")
            return
        for a, b in zip(first.placements, second.placements, strict=True):
            self.book.twins.append((a.draft, b.draft))

    def vocabulary(self, signal: Signal, size: int) -> None:
        """Integers in the signal must be below `size`."""
        if signal.source is not None:
            known = self.book.vocabularies.get(signal.source, size)
            self.book.vocabularies[signal.source] = min(known, size)

    def inner(self, layer: Any, args: tuple, kwargs: dict, *, part: str, field: tuple[str | int, ...]) -> Any:
        """Calls a layer or cell that this one wraps; `field` is where its config lies in this layer's config."""
        name = f"{self.name}/{part}" if part else self.name
        return self._walker.call(layer, args, kwargs, name=name, owner=self._owner, field=self._field + field)

    def walks(self, model: Any) -> list[Any]:
        """Follows this call's inputs through a model that does what the layer does; returns the signals of its outputs."""
        return self._walker.walk(model, self.inputs, prefix=f"{self.name}/")
