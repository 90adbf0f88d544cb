"""sweep: trains a model to several targets from one start, and gives what to decide from."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import keras

from keras_iss import engines
from keras_iss.callbacks import ISSPruning
from keras_iss.checks import choice, count, fraction
from keras_iss.sweep_point import METHODS, Plan, Point, write_start
from keras_iss.sweep_report import DENSE, Sweep, SweepRow, write_json

Build = Callable[[], keras.Model]
Fit = Callable[[keras.Model, list[keras.callbacks.Callback]], Any]
Measure = Callable[[dict[str, Path]], Mapping[str, Mapping[str, float]]]

_PRUNING = ("metric", "structures", "warmup_epochs", "ramp_epochs", "finetune_epochs")


def sweep(
    build: Build,
    fit: Fit,
    targets: Iterable[float],
    *,
    folder: str | os.PathLike[str],
    methods: Iterable[str] = METHODS,
    trained: bool = False,
    pruning: Mapping[str, Any] | None = None,
    measure: Measure | None = None,
    monitor: str | None = None,
    seed: int = 0,
    engine: str = "auto",
    resources: Mapping[str, float] | None = None,
    verbose: int = 1,
) -> Sweep:
    r"""Trains a model to several targets from one start; gives the metric beside what each costs.

    The points are the dense model, and for each target t and method the smallest model whose `metric` (multiply-adds
    per time step) is at most (1 - t) times the dense one's:

    - "iss": from the start, `fit` with `ISSPruning(target=t)`, then `strip`.
    - "one_shot": the trained dense model without the units that `ISSPruning` would choose in it, all cut out at once, then
      trained again by `fit` with an optimizer of its own. So it is trained twice as long as the others (`SweepRow.trainings`).

    The start is what `build` returns, its weights written once into the folder. With `trained=True` these are the weights
    of a trained model: then all points, the dense one and "one_shot" too, begin there and are trained once.

    Stop it when you like, or kill it: the next call with the same folder goes on. Finished points aren't trained again; an
    interrupted one goes on after its last whole epoch, by `callbacks.Backup`, to the weights it would have had. For that
    each epoch's batches have to depend on its number only (`shuffle=False`, or shuffled with a seed made of it) and
    `fit` to call `model.fit` once; dropout is taken care of. More targets may be given later.

    Args:
        build: Returns a new, built and compiled model; called for each point, after `keras.utils.clear_session` and
            with the random seed set.
        fit: `fit(model, callbacks)` trains it with `model.fit(..., callbacks=[..., *callbacks])` and returns the metric
            of the trained model: a number, {name: number}, or the `History`, of which the last epoch counts.
        targets: Fractions to remove, between 0 and 1.
        folder: Where everything is kept; made if it is missing. With Ray on a cluster: storage that all nodes share.
        methods: Some of "iss" and "one_shot".
        trained: Whether `build` returns a trained model; `ISSPruning` then has no warm-up, and a short ramp.
        pruning: Arguments of `ISSPruning`: "metric" (what targets are fractions of), "structures", "warmup_epochs",
            "ramp_epochs", "finetune_epochs".
        measure: Called at the end with {point: its .keras file}; returns {point: {label: number}}, such as file size and
            latency. All points at once, so that times can be taken in turns.
        monitor: Name of the metric by which points are compared. None: the first that `fit` returns; of a `History` the
            first whose name begins with "val_".
        seed: Of every point.
        engine: "here": one point after another in this process. "ray": in processes of Ray Tune, on this machine's cores
            or the cluster that Ray is connected to. "auto": "ray" where it is installed.
        resources: What one training takes of Ray's, such as {"gpu": 1}; None: {"cpu": 1}.
        verbose: 0 for no line per point.

    Returns:
        A `Sweep`: a row per point; what failed stands in `failed`, and is tried again by the next call.

    Raises:
        ValueError: If an argument is out of its range, or another one than the folder's sweep was begun with.
        RuntimeError: If the dense model's training fails.
        ImportError: If Ray is asked for and missing.
        OSError: If the folder can't be written.

    Example:

    >>> import keras, keras_iss, numpy as np, tempfile
    >>> x, y = np.random.default_rng(0).normal(size=(32, 5, 3)), np.ones((32, 1))
    >>> def build():
    ...     model = keras.Sequential([keras.Input((5, 3)), keras.layers.LSTM(8), keras.layers.Dense(1)])
    ...     model.compile("adam", "mse")
    ...     return model
    >>> def fit(model, callbacks):
    ...     return model.fit(x, y, epochs=3, shuffle=False, verbose=0, callbacks=callbacks)
    >>> folder = tempfile.TemporaryDirectory()
    >>> found = keras_iss.sweep(build, fit, [0.5, 0.8], folder=folder.name, engine="here", verbose=0)
    >>> [(row.name, row.macs) for row in found.rows]  # doctest: +NORMALIZE_WHITESPACE
    [('dense', 360), ('iss-0.5', 165), ('one_shot-0.5', 165), ('iss-0.8', 42), ('one_shot-0.8', 42)]
    >>> folder.cleanup()

    Source: the baselines are those of Wen et al., ICLR 2018 (arXiv 1709.05027), section 4; equal budgets after Liu et al.,
    ICLR 2019 (arXiv 1810.05270).
    """
    points = _points(targets, methods)
    monitor = _name(monitor)
    _functions(build=build, fit=fit, measure=measure)
    plan = Plan(
        build=build,
        fit=fit,
        folder=_folder(folder),
        trained=bool(trained),
        pruning=_pruning(pruning, points),
        seed=count("seed", seed, 0),
        monitor=monitor,
        backend=keras.backend.backend(),
        verbose=verbose,
    )
    engine = engines.pick(choice("engine", engine, engines.ENGINES))
    settings = _begin(plan)
    failed = _train(plan, points, engine, resources or {"cpu": 1})
    found = _collect(plan, points, failed, settings)
    return found if measure is None else found.measured(_figures(measure(found.models()), found))


def _points(targets: Iterable[float], methods: Iterable[str]) -> list[Point]:
    wanted = [fraction("targets", target) for target in _several(targets)]
    chosen = [choice("methods", method, METHODS) for method in _several(methods)]
    for argument, values in (("targets", wanted), ("methods", chosen)):
        if not values or len(set(values)) < len(values):
            raise ValueError(
                f"Invalid value for argument `{argument}`. Expected at least one, and none twice. "
                f"Received: {argument}={values!r}"
            )
    return [Point(DENSE), *(Point(method, target) for target in wanted for method in chosen)]


def _several(given: Any) -> list[Any]:
    return list(given) if isinstance(given, Iterable) and not isinstance(given, str) else [given]


def _name(monitor: str | None) -> str | None:
    if monitor is not None and (not isinstance(monitor, str) or not monitor):
        raise ValueError(
            "Invalid value for argument `monitor`. Expected the name of a metric that `fit` returns. "
            f"Received: monitor={monitor!r}"
        )
    return monitor


def _functions(**given: Any) -> None:
    for argument, value in given.items():
        if not callable(value) and not (argument == "measure" and value is None):
            raise ValueError(
                f"Invalid value for argument `{argument}`. Expected a function. Received: {argument}={value!r}"
            )


def _folder(folder: str | os.PathLike[str]) -> Path:
    path = Path(folder).absolute()
    if path.exists() and not path.is_dir():
        raise ValueError(
            f"Invalid value for argument `folder`. Expected a folder. Received: folder={str(folder)!r}, a file"
        )
    path.mkdir(parents=True, exist_ok=True)
    return path


def _pruning(pruning: Mapping[str, Any] | None, points: Iterable[Point]) -> dict[str, Any]:
    given = dict(pruning or {})
    if set(given) - {*_PRUNING}:
        raise ValueError(
            f"Invalid value for argument `pruning`. Expected some of {_PRUNING}. Received: pruning={given!r}"
        )
    if given.get("structures") is not None:
        names = given["structures"]
        given["structures"] = [names] if isinstance(names, str) else [*names]
    for point in points:
        if point.target is not None:
            ISSPruning(target=point.target, **given)  # raises what is wrong with them
    return given


def _begin(plan: Plan) -> dict[str, Any]:
    """Writes what all points have in common, or compares it with what is there."""
    model = plan.fresh()
    settings = {
        "seed": plan.seed,
        "trained": plan.trained,
        "pruning": dict(plan.pruning),
        "backend": plan.backend,
        "weights": [list(value.shape) for value in model.get_weights()],
    }
    file = plan.folder / "sweep.json"
    if file.is_file():
        before = _settings(file)
        for name, value in settings.items():
            if before.get(name) != value:
                raise ValueError(
                    f"The sweep in {str(plan.folder)!r} was begun with {name}={before.get(name)!r}. Expected the same, or "
                    f"another folder. Received: {name}={value!r}"
                )
    write_json(file, settings)
    if not plan.start.is_file():
        write_start(plan, model)
    return settings


def _settings(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        if isinstance(found, dict):
            return found
    except ValueError:
        pass
    raise ValueError(f"{str(file)!r} isn't what a sweep has written. Choose another folder.")


def _train(
    plan: Plan, points: list[Point], engine: str, resources: Mapping[str, float]
) -> dict[str, Exception]:
    """Trains what isn't finished; returns what went wrong."""
    dense = points[0]
    failed: dict[str, Exception] = {}
    with contextlib.ExitStack() as stack:
        if engine == "ray" and any(plan.found(point) is None for point in points):
            stack.enter_context(engines.ray_running(plan.backend))
        for batch in _batches(plan, points, engine):
            failed |= _run(plan, batch, engine, resources)
            if dense.name in failed:
                error = failed[dense.name]
                raise RuntimeError(
                    "The dense model's training failed, and there is nothing to compare others with: "
                    f"{engines.told(error)}"
                ) from error
    return failed


def _batches(plan: Plan, points: list[Point], engine: str) -> list[list[Point]]:
    """What can be trained at once. In one process the dense model is by itself: what is wrong with `fit` shows there."""
    needs_dense = any(point.method == "one_shot" for point in points) and not plan.trained
    return [points[:1], points[1:]] if needs_dense or engine == "here" else [points]


def _run(
    plan: Plan, points: list[Point], engine: str, resources: Mapping[str, float]
) -> dict[str, Exception]:
    left = [point for point in points if plan.found(point) is None]
    if engine == "ray" and left:
        return engines.with_ray(left, plan.attempt, plan.folder, resources)
    return engines.here(points, plan.attempt)


def _collect(
    plan: Plan, points: list[Point], failed: Mapping[str, Exception], settings: Mapping[str, Any]
) -> Sweep:
    rows, reasons = [], {name: engines.told(error) for name, error in failed.items()}
    monitor = plan.monitor
    for point in points:
        found = plan.found(point)
        if found is None:
            reasons.setdefault(
                point.name,
                f"its result isn't in {str(plan.folder)!r}: on a cluster that has to be storage all nodes share",
            )
            continue
        metrics = found["metrics"]
        monitor = monitor or next(iter(metrics))
        if monitor not in metrics:
            problem = (
                f"Expected one of {sorted(metrics)}, which `fit` returned. Received: monitor={monitor!r}"
            )
            if point.target is None:
                raise ValueError(f"Invalid value for argument `monitor`. {problem}")
            reasons[point.name] = problem
            continue
        rows.append(
            SweepRow(
                name=point.name,
                method=point.method,
                target=point.target,
                metric=metrics[monitor],
                path=str(plan.model_file(point)),
                **found,
            )
        )
    return Sweep(rows=tuple(rows), monitor=monitor or "metric", failed=reasons, settings=settings)


def _figures(figures: Any, found: Sweep) -> Mapping[str, Mapping[str, float]]:
    if not isinstance(figures, Mapping) or not all(isinstance(value, Mapping) for value in figures.values()):
        raise ValueError(
            f"`measure` has to return {{point: {{label: number}}}} for the points {[row.name for row in found.rows]}. "
            f"It returned {figures!r}"
        )
    return figures
