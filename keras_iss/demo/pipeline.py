"""The demo's work in order: data, two trainings, strip, export, measurements, models and plots on disk."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras

import keras_iss
from keras_iss import plots
from keras_iss.demo import data, measuring, training
from keras_iss.files import written_whole


def work(folder: Path, plan: training.Plan, *, target: float, seed: int) -> dict[str, Any]:
    """Does it all and returns the figures.

    Args:
        folder: Where models, TFLite files and plots go.
        plan: Sizes and lengths.
        target: Fraction of the multiply-adds to remove.
        seed: Of the weights and of the order of the text.

    Returns:
        The results but for what `keras_iss.demo.run` adds.
    """
    seconds: dict[str, float] = {}
    corpus = data.load(limit=plan.windows, validation_limit=plan.validation_windows)
    keras.utils.set_random_seed(seed)
    dense = training.build(plan, len(corpus.characters))

    with _timed("Training the full model: the beginning, for both", seconds, "warm_up"):
        warm = training.warm_up(dense, plan, corpus, seed)
        pruned = training.branch(dense)
    with _timed("Training the full model to the end", seconds, "dense_training"):
        dense_curve = training.train_dense(dense, plan, corpus, seed, warm)
    with _timed("Training from the same beginning while units are removed", seconds, "small_training"):
        trained = training.train_small(pruned, plan, corpus, seed, target, warm)
    small = trained.model
    _save(dense, folder / "dense.keras")
    _save(small, folder / "small.keras")
    with _timed("Exporting", seconds, "export"):
        files = measuring.export_all(folder, dense, small, data.STEPS)
    with _timed(f"Measuring: {plan.runs} calls per file, 1 thread, taking turns", seconds, "measuring"):
        measured = measuring.measure(files, {"dense": dense, "small": small}, corpus, plan.runs)
    sizes = {"dense": keras_iss.report(dense), "small": keras_iss.report(small, baseline=dense)}
    print(f"\n{sizes['small']}", flush=True)
    plotted = _plots(folder, plan, dense_curve, trained, measured["timed"])
    curves = {"dense": dense_curve, "small": trained.curve}
    return {
        "plan": {**dataclasses.asdict(plan), "epochs": plan.epochs},
        "data": {
            "characters_read": corpus.read,
            "characters_used": corpus.used,
            "topics": list(corpus.topics),
            "vocabulary": len(corpus.characters),
            "steps": data.STEPS,
            "training_windows": len(corpus.x),
            "validation_windows": len(corpus.validation_x),
        },
        "runs": plan.runs,
        "machine": measured["timed"].machine,
        "removed": 1 - sizes["small"].macs / sizes["dense"].macs,
        "difference": measured["difference"],
        "files": measured["files"],
        "plots": plotted,
        "seconds": seconds,
        **{
            name: {
                "macs": sizes[name].macs,
                "parameters": sizes[name].parameters,
                "units": sizes[name].units,
                **measured["models"][name],
                "curve": dataclasses.asdict(curves[name]),
            }
            for name in ("dense", "small")
        },
        "kept": trained.kept,
    }


@contextlib.contextmanager
def _timed(what: str, seconds: dict[str, float], name: str) -> Iterator[None]:
    print(f"\n{what}", flush=True)
    started = time.perf_counter()
    yield
    seconds[name] = time.perf_counter() - started


def _save(model: keras.Model, path: Path) -> None:
    with written_whole(path) as beside:
        model.save(beside)


def _plots(
    folder: Path, plan: training.Plan, dense: training.Curve, trained: training.Small, timed: Any
) -> list[str]:
    """The plots, where matplotlib is installed; the report draws its own."""
    phases = {"warm-up": 0, "units go": plan.warmup, "small model": plan.warmup + plan.ramp}
    alive = {name: [epoch[name] for epoch in trained.curve.units] for name in trained.kept}
    bits = {"dense": dense.validation_bits, "pruned": trained.curve.validation_bits}
    try:
        trained.report.plot(folder / "sparsity.png")
        timed.plot(folder / "latency.png")
        plots.save(plots.units_figure(alive, phases=phases), folder / "units.png")
        curves = plots.units_figure(bits, phases=phases)
        axis = curves.axes[0]
        axis.set_ylabel("bits per character on unseen text")
        axis.set_ylim(0.95 * min(map(min, bits.values())), None)
        plots.save(curves, folder / "learning.png")
    except ImportError:
        print(
            "No plots: matplotlib is not installed (pip install 'keras-iss[plot]'). The report has its own drawings."
        )
        return []
    return ["sparsity.png", "latency.png", "units.png", "learning.png"]
