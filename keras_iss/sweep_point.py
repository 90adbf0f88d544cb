"""Training one point of a sweep: resumable, and the same whichever process does it, in whichever order."""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_iss.backup import Backup
from keras_iss.callbacks import ISSPruning
from keras_iss.files import written_whole
from keras_iss.regularizers import select
from keras_iss.report import report
from keras_iss.schedules import choose_units, reach, relative_importance
from keras_iss.structures import to_numpy
from keras_iss.surgery import prune, strip
from keras_iss.sweep_report import DENSE, write_json
from keras_iss.tracing import trace

METHODS = ("iss", "one_shot")

_BUILT: weakref.WeakSet = weakref.WeakSet()  # models that `build` has returned


@dataclasses.dataclass(frozen=True)
class Point:
    """What is trained: a method and how much it removes; the dense model removes nothing."""

    method: str
    target: float | None = None

    @property
    def name(self) -> str:
        """Names its files."""
        return self.method if self.target is None else f"{self.method}-{self.target!r}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """What all points of a sweep have in common.

    Args:
        build, fit, trained, pruning, seed: As in `sweep`.
        folder: An absolute path.
        monitor: The metric that has to be finite; None: the first.
        backend: Keras's, which has to be the same in every process.
        verbose: Whether a line is printed for each point.
    """

    build: Callable[[], keras.Model]
    fit: Callable[[keras.Model, list[keras.callbacks.Callback]], Any]
    folder: Path
    trained: bool
    pruning: Mapping[str, Any]
    seed: int
    monitor: str | None
    backend: str
    verbose: int

    # What is on disk

    @property
    def start(self) -> Path:
        """The weights that training starts from."""
        return self.folder / "start.npz"

    def model_file(self, point: Point) -> Path:
        """Where the trained, stripped model goes."""
        return self.folder / f"{point.name}.keras"

    def found(self, point: Point) -> dict[str, Any] | None:
        """What a finished point gave; None: it isn't finished."""
        file = self._row_file(point)
        if not file.is_file() or not self.model_file(point).is_file():
            return None
        try:
            return json.loads(file.read_text(encoding="utf-8"))
        except ValueError:  # something else of that name
            return None

    def _row_file(self, point: Point) -> Path:
        return self.folder / f"{point.name}.json"

    # Work

    def attempt(self, point: Point) -> Exception | None:
        """Trains a point if it isn't finished; returns what went wrong."""
        try:
            self._train(point)
        except Exception as error:
            if self.verbose:
                print(f"sweep: {point.name} failed: {error}", flush=True)
            return error
        return None

    def _train(self, point: Point) -> None:
        meanwhile = self.folder / point.name
        if self.found(point) is None:
            if self.backend != keras.backend.backend():
                raise RuntimeError(
                    f"This process has the backend {keras.backend.backend()!r}. Expected {self.backend!r}, which the sweep "
                    f"was begun with: set KERAS_BACKEND={self.backend} in Ray's runtime_env."
                )
            model, pruning = self._ready(point)
            watch = _Watch(self.seed)
            # Last: a backup is then of an epoch that all others have seen the end of.
            returned = self.fit(model, [*pruning, watch, _Resume(meanwhile / "backup", keep=True)])
            if not watch.epochs:
                raise ValueError(
                    "`fit` trained the model without the callbacks it was given. Expected "
                    "model.fit(..., callbacks=[*callbacks]) with the model it was given."
                )
            metrics = as_metrics(returned, self.monitor)
            small = strip(model) if point.method == "iss" else model
            self._write(point, small, metrics)
        shutil.rmtree(meanwhile, ignore_errors=True)

    def _ready(self, point: Point) -> tuple[keras.Model, list[keras.callbacks.Callback]]:
        """The point's model before its training, and what prunes it while it trains."""
        model = self.fresh()
        if point.method == "one_shot" and not self.trained:
            dense = keras.models.load_model(self.model_file(Point(DENSE)), compile=False)
            model.set_weights(dense.get_weights())
        else:
            with np.load(self.start) as kept:
                model.set_weights([kept[f"{number}"] for number in range(len(kept.files))])
        if point.target is None:
            return model, []
        if point.method == "one_shot":
            return one_shot(model, point.target, self.pruning), []
        phases: dict[str, Any] = {"warmup_epochs": 0} if self.trained else {}
        return model, [ISSPruning(target=point.target, **(phases | dict(self.pruning)))]

    def fresh(self) -> keras.Model:
        """A model from `build`, the same in every process but for its weights."""
        keras.utils.clear_session(free_memory=False)  # layers get the same names each time
        keras.utils.set_random_seed(self.seed)
        model = self.build()
        if not isinstance(model, keras.Model) or not model.built or getattr(model, "optimizer", None) is None:
            raise ValueError(
                "Invalid value for argument `build`. Expected a function that returns a built and compiled keras.Model. "
                f"It returned {model!r}"
            )
        if model in _BUILT:
            raise ValueError(
                "Invalid value for argument `build`. Expected a new model from every call. It returned the same one twice."
            )
        _BUILT.add(model)
        return model

    def _write(self, point: Point, small: keras.Model, metrics: Mapping[str, float]) -> None:
        with written_whole(self.model_file(point)) as beside:
            small.save(beside)
        sizes = report(small)
        twice = point.method == "one_shot" and not self.trained
        row = {
            "metrics": dict(metrics),
            "macs": sizes.macs,
            "parameters": sizes.parameters,
            "units": sizes.units,
            "trainings": 1 + twice,
        }
        write_json(self._row_file(point), row)  # last: with it the point is finished
        if self.verbose:
            name, value = next(iter(metrics.items()))
            print(f"sweep: {point.name}: {name} {value:.5g}, {sizes.macs:,} multiply-adds", flush=True)


def write_start(plan: Plan, model: keras.Model) -> None:
    """Keeps the weights that all points start from."""
    with written_whole(plan.start) as beside:
        named: dict[str, Any] = {f"{number}": value for number, value in enumerate(model.get_weights())}
        np.savez(beside, **named)


def one_shot(model: keras.Model, target: float, pruning: Mapping[str, Any]) -> keras.Model:
    """The model without its weakest units, as many as `target` asks for, chosen as `ISSPruning` chooses them.

    Args:
        model: A trained model.
        target: Fraction to remove.
        pruning: "metric" and "structures" as in `ISSPruning`.

    Raises:
        ValueError: If the target can't be reached.
    """
    found, metric = trace(model), pruning.get("metric", "macs")
    names = tuple(structure.name for structure in select(found, pruning.get("structures")))
    limit = reach(found.cost, metric, names)
    if target > limit:
        raise ValueError(
            f"target={target} of {metric!r} can't be reached: at most {limit:.3f} is removed with one unit left in each of "
            f"{', '.join(names)}. Expected target <= {limit:.3f}."
        )
    norms = {name: to_numpy(found.norms(name)) for name in names}
    nothing = {name: np.zeros(len(values), bool) for name, values in norms.items()}
    gone = choose_units(relative_importance(norms), nothing, found.cost, metric, target)
    return strip(prune(model, {name: int((~mask).sum()) for name, mask in gone.items()}, trace=found))


def as_metrics(returned: Any, monitor: str | None) -> dict[str, float]:
    """The numbers that `fit` returned, by name; that by which points are compared comes first.

    Raises:
        ValueError: If there is none, or `monitor` is missing, NaN or infinite.
    """
    if isinstance(returned, keras.callbacks.History):
        last = {name: values[-1] for name, values in returned.history.items()}
        # What was seen on held-out data first.
        returned = dict(sorted(last.items(), key=lambda entry: not entry[0].startswith("val_")))
    elif isinstance(returned, (int, float, np.number)) or (
        hasattr(returned, "shape") and tuple(returned.shape) == ()
    ):
        returned = {monitor or "metric": returned}
    if not isinstance(returned, Mapping) or not returned:
        raise ValueError(
            "`fit` has to return the metric of the model it trained. Expected a number, a dictionary of numbers or the "
            f"History of model.fit. It returned {returned!r}"
        )
    found = {str(name): _number(name, value) for name, value in returned.items()}
    first = next(iter(found)) if monitor is None else monitor
    if first not in found:
        raise ValueError(
            f"`fit` returned no {first!r}. Expected `monitor` to be one of {sorted(found)}. Received: monitor={monitor!r}"
        )
    if not math.isfinite(found[first]):
        raise ValueError(
            f"`fit` returned {first}={found[first]}: the training has diverged. Lower the learning rate, or look for NaN "
            "in the data."
        )
    others = {name: value for name, value in found.items() if name != first and math.isfinite(value)}
    return {first: found[first], **others}


def _number(name: Any, value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        raise ValueError(f"`fit` returned {name}={value!r}. Expected a number.") from error


class _Watch(keras.callbacks.Callback):
    """Counts epochs, and makes dropout depend on the epoch's number, so that a resumed training is the uninterrupted one."""

    def __init__(self, seed: int):
        super().__init__()
        self.seed, self.epochs = seed, 0

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        for number, variable in enumerate(_seeds(self.model)):
            variable.assign(
                [self.seed + number, epoch << 16]
            )  # a seed and a count of draws, which isn't saved

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        self.epochs += 1


def _seeds(model: keras.Model) -> Sequence[Any]:
    return [variable for variable in model.variables if variable.path.endswith("seed_generator_state")]


class _Resume(Backup):
    """Makes no backup of the last epoch: killed after it, a training repeats it, and `fit` has it in its History."""

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        if epoch + 1 < self.params["epochs"]:
            super().on_epoch_end(epoch, logs)
