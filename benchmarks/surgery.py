"""Traces and strips the paper's largest model: time and extra memory.

The Penn Treebank model of Wen et al. (arXiv 1709.05027): embedding 10,000 x 1500, two LSTM of 1500, softmax over
10,000 words, 66 M weights, stripped to (373, 315) units.

    python benchmarks/surgery.py
"""

import json
import resource
import threading
import time

import keras
import numpy as np
from keras import layers

import keras_iss
from keras_iss.structures import scale


def paper_model() -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((None,), dtype="int32"),
            layers.Embedding(10_000, 1500),
            layers.LSTM(1500, return_sequences=True, name="lstm_1"),
            layers.LSTM(1500, return_sequences=True, name="lstm_2"),
            layers.Dense(10_000, activation="softmax"),
        ]
    )


def zero_units(model: keras.Model, widths: dict[str, int]) -> None:
    """Sets all but the strongest units to 0, in place: what training would have left."""
    trace = keras_iss.trace(model)
    for name, width in widths.items():
        alive = np.zeros(trace[name].size, "float32")
        alive[np.argsort(-trace.norms(name))[:width]] = 1
        for path, value in scale(trace[name], trace.weights, alive, penalised_only=False).items():
            trace.weights[path].assign(value)


class PeakMemory:
    """Peak resident memory of this process while the block runs, beyond what it had before, in MB."""

    def __enter__(self):
        self._before, self.peak, self._stop = _resident(), 0.0, threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()

    def _watch(self):
        while not self._stop.wait(0.005):
            self.peak = max(self.peak, _resident() - self._before)


def _resident() -> float:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() / 1e6


def main() -> None:
    model = paper_model()
    zero_units(model, {"lstm_1": 373, "lstm_2": 315})
    start = time.perf_counter()
    keras_iss.trace(model)
    trace_s = time.perf_counter() - start
    with PeakMemory() as memory:
        start = time.perf_counter()
        small = keras_iss.strip(model)
        strip_s = time.perf_counter() - start
    weights_mb = sum(v.size for v in map(np.asarray, model.get_weights())) * 4 / 1e6
    result = {
        "backend": keras.backend.backend(),
        "trace_s": round(trace_s, 3),
        "strip_s": round(strip_s, 2),
        "extra_memory_over_weights": round(memory.peak / weights_mb, 2),
        "parameters": [model.count_params(), small.count_params()],
        "macs_ratio": round(keras_iss.report(model).macs / keras_iss.report(small).macs, 2),
    }
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
