"""Pictures: which rows and columns of the weights are zero, and how many units are alive in each epoch."""

from __future__ import annotations

import math
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keras_iss.files import written_whole

_INK, _PAPER = "#1f4e79", "#ffffff"


def _pyplot() -> Any:
    try:
        import matplotlib
    except ImportError as error:
        raise ImportError("Plots need matplotlib. Install it with: pip install 'keras-iss[plot]'") from error
    from matplotlib.figure import Figure

    return matplotlib, Figure


def check_installed() -> None:
    """Raises ImportError, with the mend, where matplotlib is missing."""
    _pyplot()


def sparsity_figure(matrices: Mapping[str, np.ndarray]) -> Any:
    """One panel per weight matrix: dark where a weight is not 0, white where it is.

    Args:
        matrices: Weight path -> bool array (rank >= 2, later axes are flattened), True where the weight is not 0.

    Returns:
        A matplotlib Figure.
    """
    _, figure_class = _pyplot()
    columns = min(3, max(1, len(matrices)))
    rows = max(1, math.ceil(len(matrices) / columns))
    figure = figure_class(figsize=(4.2 * columns, 3.4 * rows), layout="constrained")
    from matplotlib.colors import ListedColormap

    axes = np.atleast_1d(figure.subplots(rows, columns)).ravel()
    for axis, (path, alive) in zip(axes, matrices.items(), strict=False):
        flat = alive.reshape(-1, alive.shape[-1])
        axis.imshow(_shrunk(flat), cmap=ListedColormap([_PAPER, _INK]), vmin=0, vmax=1, aspect="auto",
                    interpolation="nearest", extent=(0, flat.shape[1], flat.shape[0], 0))  # fmt: skip
        axis.set_title("/".join(path.split("/")[-3:]), fontsize=9)
        axis.set_xlabel(
            f"{flat.shape[1]} columns, {100 * (1 - alive.mean()):.0f} % of the weights are 0", fontsize=8
        )
        axis.set_ylabel(f"{flat.shape[0]} rows", fontsize=8)
        axis.tick_params(labelsize=7)
    for axis in axes[len(matrices) :]:
        axis.set_axis_off()
    return figure


def _shrunk(alive: np.ndarray, most: int = 1200) -> np.ndarray:
    """Thins a large matrix out so that the picture stays small; structure in rows and columns remains."""
    steps = [max(1, math.ceil(d / most)) for d in alive.shape]
    return alive[:: steps[0], :: steps[1]].astype("uint8")


def units_figure(units: Mapping[str, Sequence[float]], *, phases: Mapping[str, int] | None = None) -> Any:
    """Units alive at the end of each epoch, one line per structure.

    Args:
        units: Label -> units alive per epoch.
        phases: Label -> first epoch (from 0) of each phase of the training, drawn as vertical lines.

    Returns:
        A matplotlib Figure.
    """
    _, figure_class = _pyplot()
    figure = figure_class(figsize=(7, 3.6), layout="constrained")
    axis = figure.subplots()
    for label, values in units.items():
        axis.plot(range(1, len(values) + 1), values, marker="o", markersize=4, label=label)
    for i, (label, first) in enumerate((phases or {}).items()):
        axis.axvline(first + 0.5, color="0.7", linewidth=1, linestyle="--")
        axis.annotate(label, (first + 0.5, 1.0), xycoords=("data", "axes fraction"), xytext=(3, 2 + 10 * (i % 2)),
                      textcoords="offset points", fontsize=8, color="0.4")  # fmt: skip
    axis.set_xlabel("epoch")
    axis.set_ylabel("units alive")
    axis.set_ylim(bottom=0)
    axis.xaxis.get_major_locator().set_params(integer=True)
    axis.legend(fontsize=8)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
    return figure


_TITLES = {"macs": "multiply-adds per time step", "parameters": "weights", "units": "hidden units"}
_MARKS = "osD^vPX"


def frontier_figure(
    lines: Mapping[str, Sequence[tuple[float, Mapping[str, float]]]],
    costs: Sequence[str],
    metric: str,
    *,
    dense: str,
    log: bool = False,
    log_metric: bool = False,
) -> Any:
    """The metric against each cost, a panel for each cost and a line for each method.

    Args:
        lines: Method -> its points: metric, and {cost: number}; points that lack a cost are left out of its panel.
        costs: The panels.
        metric: Its name.
        dense: The method that is one point to compare with, drawn as a star with a line across.
        log: Whether costs are on logarithmic axes.
        log_metric: Whether the metric is.

    Returns:
        A matplotlib Figure.
    """
    _, figure_class = _pyplot()
    figure = figure_class(figsize=(max(5.0, 4.4 * len(costs)), 4.4), layout="constrained")
    axes = np.atleast_1d(figure.subplots(1, len(costs), sharey=True))
    for axis, cost in zip(axes, costs, strict=True):
        others = 0
        for method, points in lines.items():
            there = sorted((costs_[cost], value) for value, costs_ in points if cost in costs_)
            if not there:
                continue
            x, y = zip(*there, strict=True)
            if method == dense:
                axis.axhline(y[0], color="0.75", linewidth=1, linestyle="--", zorder=0)
                axis.plot(x, y, "*", color="black", markersize=13, label=method, zorder=1)
            else:
                mark = _MARKS[others % len(_MARKS)]
                axis.plot(x, y, marker=mark, markersize=6, color=f"C{others}", label=method)
                others += 1
        axis.set_xlabel(_TITLES.get(cost, cost))
        if log:
            axis.set_xscale("log")
            _tick_logarithms(axis.xaxis)
        else:
            axis.set_xlim(left=0)
        axis.xaxis.set_major_formatter(_short)
        axis.grid(color="0.92")
        for side in ("top", "right"):
            axis.spines[side].set_visible(False)
    if log_metric:
        axes[0].set_yscale("log")
        _tick_logarithms(axes[0].yaxis)
        axes[0].yaxis.set_major_formatter(_short)
    axes[0].set_ylabel(metric)
    labelled = {}  # a method may be missing from a panel
    for axis in axes:
        handles, labels = axis.get_legend_handles_labels()
        labelled |= dict(zip(labels, handles, strict=True))
    figure.legend(
        labelled.values(),
        labelled.keys(),
        loc="outside lower center",
        ncols=len(labelled),
        fontsize=9,
        frameon=False,
    )
    return figure


def _tick_logarithms(axis: Any) -> None:
    """Labels 1, 2 and 5 of each decade."""
    from matplotlib.ticker import LogLocator, NullLocator

    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_minor_locator(NullLocator())


def _short(number: float, place: int | None = None) -> str:
    """A number on an axis.

    >>> [_short(number) for number in (0.05, 20, 1500, 200_000, 5e6)]
    ['0.05', '20', '1,500', '200k', '5M']
    """
    for least, letter, unit in ((1e6, "M", 1e6), (1e4, "k", 1e3)):
        if abs(number) >= least:
            return f"{number / unit:g}{letter}"
    return f"{number:,.0f}" if abs(number) >= 1000 else f"{number:g}"


def save(figure: Any, path: str | os.PathLike[str]) -> None:
    """Writes a figure beside its place and moves it there, so that no half picture is ever left."""
    target = pathlib.Path(path)
    if not target.parent.is_dir():
        raise FileNotFoundError(f"The folder of {str(target)!r} doesn't exist. Make it first.")
    with written_whole(target) as beside:
        figure.savefig(beside, dpi=130, format=target.suffix.lstrip(".") or "png")
