"""What a model is and what became of it: units, parameters, multiply-adds, and pictures of both."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from keras_iss.structures import to_numpy
from keras_iss.surgery import strippable
from keras_iss.tracing import Trace, trace


@dataclasses.dataclass(frozen=True)
class StructureReport:
    """One structure.

    Args:
        name, kind: As in the trace.
        units: Its width.
        removable: Units that `strip` would remove now.
        baseline_units: Its width in the baseline, if one was given and has it.
        pinned: Why it can't be pruned, or None.
    """

    name: str
    kind: str
    units: int
    removable: int
    baseline_units: int | None = None
    pinned: str | None = None


@dataclasses.dataclass(frozen=True)
class Report:
    """Sizes of a model, as it is and as `strip` would leave it.

    Attributes:
        model: Its name.
        structures: One `StructureReport` each.
        parameters, macs, units: Weights, multiply-adds per time step and hidden units as the model is.
        stripped: The same three after `strip`: {"parameters": .., "macs": .., "units": ..}.
        zeros: Fraction of the weights that is exactly 0.
        baseline: The same three of the baseline, or None.
    """

    model: str
    structures: tuple[StructureReport, ...]
    parameters: int
    macs: int
    units: int
    stripped: Mapping[str, int]
    zeros: float
    baseline: Mapping[str, int] | None
    _matrices: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict, repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Everything but the picture, as JSON takes it."""
        fields = {
            k: v for k, v in dataclasses.asdict(_without_matrices(self)).items() if not k.startswith("_")
        }
        fields["structures"] = list(fields["structures"])
        return fields

    def plot(self, path: str | os.PathLike[str]) -> None:
        """Draws every weight matrix with what is 0 left white, so that zeroed rows and columns show.

        Args:
            path: Where the picture goes; its ending (.png, .svg, .pdf) chooses the format.

        Raises:
            ImportError: If matplotlib is missing.
            OSError: If the folder is missing or can't be written.
        """
        from keras_iss.plots import save, sparsity_figure

        save(sparsity_figure(self._matrices), path)

    def __str__(self) -> str:
        rows = [("structure", "kind", "units", "after strip", "baseline")]
        for s in self.structures:
            after = str(s.units - s.removable) if s.pinned is None else "pinned"
            rows.append(
                (
                    s.name,
                    s.kind,
                    str(s.units),
                    after,
                    "" if s.baseline_units is None else str(s.baseline_units),
                )
            )
        for label, key in (
            ("hidden units", "units"),
            ("parameters", "parameters"),
            ("multiply-adds per time step", "macs"),
        ):
            base = "" if self.baseline is None else f"{self.baseline[key]:,}"
            rows.append((label, "", f"{getattr(self, key):,}", f"{self.stripped[key]:,}", base))
        keep = [i for i in range(5) if i != 4 or self.baseline is not None]
        rows = [tuple(row[i] for i in keep) for row in rows]
        widths = [max(len(row[i]) for row in rows) for i in range(len(keep))]
        lines = [
            "  ".join(
                c.ljust(w) if i < 2 else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))
            )
            for row in rows
        ]
        rule = "-" * max(map(len, lines))
        lines[1:1] = [rule]
        lines[-3:-3] = [rule]
        return "\n".join(line.rstrip() for line in lines)


def _without_matrices(report: Report) -> Report:
    return dataclasses.replace(report, _matrices={})


def report(model: keras.Model, baseline: keras.Model | None = None) -> Report:
    """Counts units, parameters and multiply-adds per time step.

    A recurrent layer of n units on m inputs with g gates has g n (m + n) multiply-adds per time step; a Dense, Conv1D
    or projection counts its kernel once, an Embedding nothing (see `keras_iss.cost.CostModel`).

    Args:
        model: A built Sequential or Functional model.
        baseline: The model it came from, for a column to compare with.

    Returns:
        A `Report`; `str` is a table, `.to_dict()` plain data, `.plot(path)` the picture of its zeros.

    Raises:
        TraceError: If a model can't be traced.

    Example:

    >>> import keras, keras_iss
    >>> model = keras.Sequential([keras.Input((None, 8)), keras.layers.LSTM(16), keras.layers.Dense(3)])
    >>> keras_iss.report(model).macs  # 4 * 16 * (8 + 16) + 16 * 3
    1584

    Source: Wen et al., ICLR 2018 (arXiv 1709.05027), table 1.
    """
    found = trace(model)
    base = None if baseline is None else trace(baseline)
    rows = _rows(found, base)
    alive = {r.name: r.units - r.removable for r in rows if r.pinned is None}
    values = {path: to_numpy(v) for path, v in found.weights.items()}
    pressed = {p.path for s in found.structures for p in s.slices if p.penalised}
    matrices = {path: value != 0 for path, value in values.items() if path in pressed and value.ndim >= 2}
    trainable = [values[path] for path, v in found.weights.items() if v.trainable]
    total = sum(v.size for v in trainable)
    return Report(
        model=model.name,
        structures=rows,
        parameters=found.cost.parameters(),
        macs=found.cost.macs(),
        units=found.cost.units(),
        stripped={metric: found.cost.measure(metric, alive) for metric in ("parameters", "macs", "units")},
        zeros=sum(int((v == 0).sum()) for v in trainable) / max(total, 1),
        baseline=None if base is None else {m: base.cost.measure(m) for m in ("parameters", "macs", "units")},
        _matrices=matrices,
    )


def _rows(found: Trace, base: Trace | None) -> tuple[StructureReport, ...]:
    sizes = {} if base is None else base.cost.sizes
    removed = strippable(found)
    rows = []
    for name, size in found.cost.sizes.items():
        rows.append(
            StructureReport(
                name=name,
                kind=found.cost.kinds[name],
                units=size,
                removable=len(removed.get(name, ())),
                baseline_units=sizes.get(name),
                pinned=found.pinned.get(name),
            )
        )
    return tuple(rows)
