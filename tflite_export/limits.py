"""How much of the user's metric an export may lose."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from .errors import ExportError
from .metrics import Metric, as_metric
from .running import as_output, keras_on, run_file
from .user_data import as_data

__all__ = ["MetricLimit", "metric_limit"]


@dataclass(frozen=True, kw_only=True)
class MetricLimit:
    """The most that a file may lose against the Keras model.

    Attributes:
        metric: The metric.
        inputs: Input name -> array (samples, ...).
        y: What the metric compares the outputs with.
        max_drop: The most that may be lost, in the metric's own unit.
        larger_is_better: Which way is a loss.
    """

    metric: Metric
    inputs: dict[str, np.ndarray]
    y: Any
    max_drop: float
    larger_is_better: bool

    def check(self, functional: keras.Model, content: bytes, recipe: str) -> str:
        """A note with the metric of the model and of the file, or an ExportError where the file's is too much worse."""
        before = self.metric(self.y, as_output(keras_on(functional, self.inputs)))
        after = self.metric(self.y, as_output(run_file(content, functional, self.inputs)))
        drop = before - after if self.larger_is_better else after - before
        # The allowance is for 0.97 - 0.965 > 0.005 in binary.
        if math.isnan(drop) or drop > self.max_drop + 1e-9:
            raise ExportError(
                f"{recipe} takes the metric {self.metric.name!r} from {before:.6g} to {after:.6g}, more than "
                f"max_metric_drop={self.max_drop:g} allows, so nothing was written; use a finer recipe, or allow more."
            )
        return f"{self.metric.name}: {after:.6g}, Keras {before:.6g}"


def metric_limit(
    functional: keras.Model, metric: Any, data: Any, max_metric_drop: Any, metric_mode: str
) -> MetricLimit | None:
    """The limit that the arguments of `export` ask for, or None."""
    if metric_mode not in ("auto", "max", "min"):
        raise ExportError(
            'Invalid value for argument `metric_mode`. Expected "auto", "max" or "min". '
            f"Received: metric_mode={metric_mode!r}"
        )
    if max_metric_drop is None:
        if metric is not None or data is not None:
            raise ExportError(
                "Arguments `metric` and `data` of export serve only `max_metric_drop`; set it, or use "
                "tflite_export.compare to see the metric."
            )
        return None
    if metric is None or data is None:
        raise ExportError(
            "Argument `max_metric_drop` needs `metric`, the metric that may drop, and `data`, the pair (x, y) that it's "
            "computed on."
        )
    chosen = as_metric(metric)
    inputs, y = as_data(functional, data)
    return MetricLimit(
        metric=chosen,
        inputs=inputs,
        y=y,
        max_drop=_checked_drop(max_metric_drop),
        larger_is_better=_direction(chosen, metric_mode),
    )


def _checked_drop(value: Any) -> float:
    number = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
    if not number or not 0 <= value < math.inf:
        raise ExportError(
            "Invalid value for argument `max_metric_drop`. Expected a number of at least 0. "
            f"Received: max_metric_drop={value!r}"
        )
    return float(value)


def _direction(metric: Metric, mode: str) -> bool:
    if mode != "auto":
        return mode == "max"
    if metric.larger_is_better is None:
        raise ExportError(
            f'Nothing tells whether a larger {metric.name!r} is better; say metric_mode="max" or "min".'
        )
    return metric.larger_is_better
