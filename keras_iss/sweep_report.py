"""What a sweep found: a row per trained point, as a table, JSON or a picture."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from keras_iss.files import written_whole

DENSE = "dense"
COUNTED = ("macs", "parameters", "units")


@dataclasses.dataclass(frozen=True, kw_only=True)
class SweepRow:
    """One trained point.

    Attributes:
        name: "dense", "iss-0.5" and so on.
        method: "dense", "iss", "one_shot", or what was given to `Sweep.add`.
        target: Fraction that should be removed; None: of nothing.
        metric: The one of `metrics` by which points are compared.
        metrics: All that `fit` returned.
        macs, parameters, units: Multiply-adds per time step, weights and hidden units of the stripped model.
        trainings: How many times `fit` has trained it, the dense model it came from included.
        measured: Label -> number, such as {"file MB": 0.43, "ms per call": 1.9}.
        path: The .keras file of the stripped model, or None.
    """

    name: str
    method: str
    target: float | None
    metric: float
    metrics: Mapping[str, float]
    macs: int
    parameters: int
    units: int
    trainings: int
    measured: Mapping[str, float] = dataclasses.field(default_factory=dict)
    path: str | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sweep:
    """The points of a sweep, to decide from: `str` is a table, `.plot(path)` the picture.

    Attributes:
        rows: A `SweepRow` per point, the dense model first.
        monitor: Name of the metric in `SweepRow.metric`.
        failed: Point -> why it has no row.
        settings: What all points have in common: seed, backend and so on.
    """

    rows: tuple[SweepRow, ...]
    monitor: str
    failed: Mapping[str, str] = dataclasses.field(default_factory=dict)
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __getitem__(self, name: str) -> SweepRow:
        for row in self.rows:
            if row.name == name:
                return row
        raise KeyError(f"no point {name!r}; there are {', '.join(row.name for row in self.rows)}")

    def models(self) -> dict[str, Path]:
        """Name -> .keras file of every point that has one."""
        return {row.name: Path(row.path) for row in self.rows if row.path is not None}

    def add(
        self,
        name: str,
        *,
        method: str,
        metric: float,
        macs: int,
        parameters: int,
        target: float | None = None,
        units: int = 0,
        trainings: int = 1,
        measured: Mapping[str, float] | None = None,
        path: str | os.PathLike[str] | None = None,
    ) -> Sweep:
        """A copy with one more point, from elsewhere: another tool's model, or another recipe.

        Args:
            name: Its name; not one that is there.
            method: What is joined by a line in the picture.
            metric: As `monitor` of the others.
            macs: Multiply-adds per time step that it carries out.
            parameters: Weights that it stores.
            target, units, trainings: As in `SweepRow`.
            measured: Label -> number, with the labels of the others.
            path: Its .keras file, if it has one.

        Returns:
            The larger sweep.

        Raises:
            ValueError: If the name is taken or `metric` isn't a finite number.
        """
        if any(row.name == name for row in self.rows):
            raise ValueError(
                f"Invalid value for argument `name`. Expected a new name. Received: name={name!r}"
            )
        row = SweepRow(
            name=name,
            method=method,
            target=target,
            metric=finite("metric", metric),
            metrics={self.monitor: float(metric)},
            macs=int(macs),
            parameters=int(parameters),
            units=int(units),
            trainings=trainings,
            measured=dict(measured or {}),
            path=None if path is None else os.fspath(path),
        )
        return dataclasses.replace(self, rows=(*self.rows, row))

    def measured(self, figures: Mapping[str, Mapping[str, float]]) -> Sweep:
        """A copy whose rows have these figures, too.

        Args:
            figures: Point -> {label: number}; points that it leaves out stay as they are.

        Returns:
            The sweep with the figures.

        Raises:
            ValueError: If a point is unknown or a figure isn't a finite number.
        """
        unknown = set(figures) - {row.name for row in self.rows}
        if unknown:
            raise ValueError(
                f"Invalid value for argument `figures`. Expected points among {[row.name for row in self.rows]}. "
                f"Received: {sorted(unknown)}"
            )
        new = {
            name: {label: finite(f"figures[{name!r}][{label!r}]", value) for label, value in found.items()}
            for name, found in figures.items()
        }
        rows = (
            dataclasses.replace(row, measured={**row.measured, **new.get(row.name, {})}) for row in self.rows
        )
        return dataclasses.replace(self, rows=tuple(rows))

    def labels(self) -> list[str]:
        """The labels of all figures measured, in the order in which they came."""
        return list(dict.fromkeys(label for row in self.rows for label in row.measured))

    def to_dict(self) -> dict[str, Any]:
        """The sweep as plain dictionaries and lists."""
        fields = dataclasses.asdict(self)
        return {**fields, "rows": list(fields["rows"])}

    def to_json(self, path: str | os.PathLike[str]) -> None:
        """Writes the sweep as JSON."""
        write_json(path, self.to_dict())

    def plot(
        self,
        path: str | os.PathLike[str],
        against: Iterable[str] | None = None,
        *,
        log: bool = False,
        log_metric: bool = False,
    ) -> None:
        """Draws the metric against what a model costs, a panel for each cost and a line for each method.

        Args:
            path: Where the picture goes; its ending (.png, .svg, .pdf) chooses the format.
            against: What the panels' axes are: "macs", "parameters", "units" or labels of figures measured; None:
                multiply-adds and all that was measured.
            log: Whether costs are drawn on logarithmic axes.
            log_metric: Whether the metric is; for one that is positive, such as an error.

        Raises:
            ImportError: If matplotlib is missing.
            ValueError: If there is no such cost.
            OSError: If the folder is missing or can't be written.
        """
        from keras_iss.plots import frontier_figure, save

        wanted = ["macs", *self.labels()] if against is None else list(against)
        unknown = set(wanted) - {*COUNTED, *self.labels()}
        if unknown or not wanted:
            raise ValueError(
                f"Invalid value for argument `against`. Expected some of {[*COUNTED, *self.labels()]}. "
                f"Received: against={wanted!r}"
            )
        lines: dict[str, list[tuple[float, dict[str, float]]]] = {}
        for row in self.rows:
            costs = {label: float(getattr(row, label)) for label in COUNTED} | dict(row.measured)
            lines.setdefault(row.method, []).append((row.metric, costs))
        figure = frontier_figure(lines, wanted, self.monitor, dense=DENSE, log=log, log_metric=log_metric)
        save(figure, path)

    def __str__(self) -> str:
        labels = self.labels()
        titles = ("point", self.monitor, "macs", "parameters", "units", "trainings", *labels)
        table = [titles, *(_cells(row, labels) for row in self.rows)]
        widths = [max(len(line[i]) for line in table) for i in range(len(titles))]
        lines = [
            "  ".join(
                cell.rjust(width) if i else cell.ljust(width)
                for i, (cell, width) in enumerate(zip(line, widths, strict=True))
            ).rstrip()
            for line in table
        ]
        lines.insert(1, "-" * max(map(len, lines)))
        lines.append("macs: multiply-adds per time step; trainings: how many times fit has trained it")
        lines += [f"failed: {name}: {reason}" for name, reason in self.failed.items()]
        return "\n".join(lines)


def _cells(row: SweepRow, labels: list[str]) -> tuple[str, ...]:
    figures = (f"{row.measured[label]:.4g}" if label in row.measured else "–" for label in labels)
    units = f"{row.units:,}" if row.units else "–"
    return (
        row.name,
        f"{row.metric:.5g}",
        f"{row.macs:,}",
        f"{row.parameters:,}",
        units,
        str(row.trainings),
        *figures,
    )


def finite(argument: str, value: Any) -> float:
    """A finite number."""
    number = isinstance(value, (int, float, np.number)) and not isinstance(value, bool)
    if not number or not math.isfinite(value):
        raise ValueError(
            f"Invalid value for argument `{argument}`. Expected a finite number. Received: {argument}={value!r}"
        )
    return float(value)


def write_json(path: str | os.PathLike[str], what: Any) -> None:
    """Writes a whole file or none."""
    with written_whole(path) as beside:
        beside.write_text(json.dumps(what, indent=1) + "\n", encoding="utf-8")
