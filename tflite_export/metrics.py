"""The user's metric, whether a function or Keras's, as one number for a whole data set."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from .errors import ExportError

__all__ = ["Metric", "as_metric"]

_LARGER_IS_BETTER = {
    "Accuracy",
    "AUC",
    "BinaryAccuracy",
    "BinaryIoU",
    "CategoricalAccuracy",
    "ConcordanceCorrelation",
    "CosineSimilarity",
    "F1Score",
    "FBetaScore",
    "IoU",
    "MeanIoU",
    "OneHotIoU",
    "OneHotMeanIoU",
    "PearsonCorrelation",
    "Precision",
    "PrecisionAtRecall",
    "R2Score",
    "Recall",
    "RecallAtPrecision",
    "SensitivityAtSpecificity",
    "SparseCategoricalAccuracy",
    "SparseTopKCategoricalAccuracy",
    "SpecificityAtSensitivity",
    "TopKCategoricalAccuracy",
    "TrueNegatives",
    "TruePositives",
}


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A metric by name.

    Attributes:
        name: What tables call it.
        function: (y_true, y_pred) -> a number, or numbers of which the mean counts.
        larger_is_better: None where nobody knows.
    """

    name: str
    function: Callable[[Any, Any], Any]
    larger_is_better: bool | None = None

    def __call__(self, y: Any, predicted: Any) -> float:
        """The metric of all of the data at once."""
        try:
            value = self.function(y, predicted)
            return float(np.mean(keras.ops.convert_to_numpy(value)))
        except Exception as error:
            line = " ".join(str(error).split()) or type(error).__name__
            raise ExportError(
                f"The metric {self.name!r} can't judge outputs of shape {_shapes(predicted)} by y of shape {_shapes(y)}: "
                f"{line}"
            ) from error


def as_metric(metric: Any) -> Metric:
    """A metric from a function, a Keras metric or loss, or the name of one.

    Raises:
        ExportError: It's none of these.
    """
    if isinstance(metric, str):
        return _by_name(metric)
    if isinstance(metric, type) and issubclass(metric, (keras.Metric, keras.Loss)):
        metric = metric()
    if isinstance(metric, keras.Metric):
        return Metric(name=metric.name, function=_stateful(metric), larger_is_better=_direction(metric))
    if isinstance(metric, keras.Loss):
        return Metric(name=metric.name, function=metric, larger_is_better=False)
    if callable(metric):
        return Metric(
            name=getattr(metric, "__name__", type(metric).__name__),
            function=metric,
            larger_is_better=False if getattr(metric, "__module__", "").startswith("keras.") else None,
        )
    raise ExportError(
        "Invalid value for argument `metric`. Expected a function (y_true, y_pred) -> number, a Keras metric or loss, or "
        f"its name. Received: metric={metric!r}"
    )


def _by_name(name: str) -> Metric:
    if name.lower() in ("accuracy", "acc"):
        return Metric(name="accuracy", function=_accuracy, larger_is_better=True)
    for collection in (keras.metrics, keras.losses):
        try:
            found = collection.get(name)
        except (ValueError, TypeError):
            continue
        if isinstance(found, (keras.Metric, keras.Loss)):
            return as_metric(found)
        # Keras keeps its metrics that are good when large as classes; what is left are losses.
        return Metric(name=name, function=found, larger_is_better=False)
    raise ExportError(
        'Invalid value for argument `metric`. Expected a name that Keras knows, such as "accuracy" or '
        f'"mean_absolute_error". Received: metric={name!r}'
    )


def _accuracy(y, predicted):
    """What Keras takes "accuracy" for, by the shapes."""
    y = np.asarray(y)
    if predicted.shape[-1] == 1:
        metric = keras.metrics.BinaryAccuracy()
    elif y.shape == predicted.shape:
        metric = keras.metrics.CategoricalAccuracy()
    else:
        metric = keras.metrics.SparseCategoricalAccuracy()
    return _stateful(metric)(y, predicted)


def _stateful(metric: keras.Metric) -> Callable[[Any, Any], Any]:
    def evaluate(y, predicted):
        metric.reset_state()
        metric.update_state(y, predicted)
        value = metric.result()
        metric.reset_state()
        return value

    return evaluate


def _direction(metric: keras.Metric) -> bool | None:
    """Known of Keras's own metrics only; their classes are compared by name, as some are newer than others."""
    if not type(metric).__module__.startswith("keras."):
        return None
    return type(metric).__name__ in _LARGER_IS_BETTER


def _shapes(value: Any) -> str:
    return ", ".join(str(np.shape(x)) for x in keras.tree.flatten(value))
