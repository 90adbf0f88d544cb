"""Group norms, units alive and sparsity for TensorBoard."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_iss.introspection import learner
from keras_iss.tracing import trace


class SparsityLogger(keras.callbacks.Callback):
    """Writes units alive, group norms and sparsity to TensorBoard at the end of every epoch.

    Per structure: `iss/NAME/units_alive`, `iss/NAME/norms` (a histogram) and `iss/NAME/sparsity` (fraction of the
    penalised weights that are 0); and whatever epoch logs begin with "iss_" or "gp_".

    Args:
        log_dir: Folder for the event files. Works on every backend, but needs TensorFlow to write them.

    Raises:
        ImportError: If TensorFlow is not installed.

    Example:

    >>> import keras, numpy as np, tempfile
    >>> model = keras.Sequential([keras.Input((5, 3)), keras.layers.LSTM(8), keras.layers.Dense(1)])
    >>> model.compile("adam", "mse")
    >>> logger = SparsityLogger(tempfile.mkdtemp())
    >>> _ = model.fit(np.random.rand(8, 5, 3), np.random.rand(8, 1), verbose=0, callbacks=[logger])

    Source: Wen et al., arXiv 1709.05027, section 3.1 (the groups whose norms are shown).
    """

    def __init__(self, log_dir: str):
        super().__init__()
        try:
            import tensorflow  # noqa: F401
        except ImportError as error:
            raise ImportError(
                "SparsityLogger (`log_dir`) writes TensorBoard files with TensorFlow, which is not installed. "
                "`pip install tensorflow`, or leave `log_dir` out: the epoch logs hold the same numbers."
            ) from error
        self.log_dir = str(log_dir)

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        import tensorflow as tf

        self._trace = trace(learner(self.model))
        self._writer = tf.summary.create_file_writer(self.log_dir)

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        with self._writer.as_default(step=epoch):
            for structure in self._trace.structures:
                norms = self._trace.norms(structure.name)
                values = [ops.convert_to_numpy(self._trace.weights[p]) for p in structure.paths]
                zeros = sum(int((v == 0).sum()) for v in values) / max(1, sum(v.size for v in values))
                _scalar(f"iss/{structure.name}/units_alive", int((norms != 0).sum()))
                _scalar(f"iss/{structure.name}/sparsity", zeros)
                _histogram(f"iss/{structure.name}/norms", norms)
            for name, value in (logs or {}).items():
                if name.startswith(("iss_", "gp_")):
                    _scalar(name, value)
        self._writer.flush()

    def on_train_end(self, logs: Mapping[str, Any] | None = None) -> None:
        self._writer.close()


# `tf.summary.scalar` and `.histogram` need TensorBoard installed where the training runs; `tf.summary.write` doesn't.
# The two formats are TensorBoard's own (plugins "scalars" and "histograms").


def _scalar(tag: str, value: float) -> None:
    _write(tag, np.float32(value), "scalars", data_class=1)


def _histogram(tag: str, values: np.ndarray, buckets: int = 30) -> None:
    finite = values[np.isfinite(values)]
    counts, edges = np.histogram(finite, bins=buckets)
    _write(
        tag, np.stack([edges[:-1], edges[1:], counts], axis=1).astype("float64"), "histograms", data_class=2
    )


def _write(tag: str, value: Any, plugin: str, data_class: int) -> None:
    import tensorflow as tf

    metadata = tf.compat.v1.SummaryMetadata(data_class=data_class)
    metadata.plugin_data.plugin_name = plugin
    tf.summary.write(tag, value, metadata=metadata)
