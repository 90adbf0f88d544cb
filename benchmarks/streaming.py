"""One step of a stream: our signature `step` against the one-step model that one would write by hand.

By hand: the states as inputs (`initial_state`) and outputs (`return_state`) of a model of one step, exported by Keras.
Two layers on 64 features, batch 1; the files take turns, a process each. A chunk has 16 steps; unlike the others it's
timed by LiteRT's signature runner, which copies inputs and outputs.

    python benchmarks/streaming.py [--threads 1] [--units 64 150 256] [--json FILE]
"""

import argparse
import json
import tempfile
from pathlib import Path

import keras
from keras import layers

import tflite_export
from tflite_export.convert import keras_export

FEATURES, OUTPUTS, CHUNK = 64, 50, 16
STATES = {layers.LSTM: 2, layers.GRU: 1}


def streamed(kind, units):
    hidden = [kind(units, return_sequences=True) for _ in range(2)]
    return keras.Sequential([keras.Input((None, FEATURES)), *hidden, layers.Dense(OUTPUTS)])


def by_hand(kind, units):
    x = keras.Input((1, FEATURES))
    y, inputs, outputs = x, [x], []
    for _ in range(2):
        states = [keras.Input((units,)) for _ in range(STATES[kind])]
        y, *new = kind(units, return_sequences=True, return_state=True)(y, initial_state=states)
        inputs += states
        outputs += new
    return keras.Model(inputs, [layers.Dense(OUTPUTS)(y), *outputs])


def measured(kind, units, quantize, threads, folder):
    stream, whole, hand = (Path(folder, f"{name}.tflite") for name in ("stream", "whole", "hand"))
    model = streamed(kind, units)
    result = tflite_export.export(model, stream, streaming=True, time_steps=CHUNK, quantize=quantize)
    tflite_export.export(model, whole, time_steps=CHUNK, quantize=quantize)
    keras_export(by_hand(kind, units), hand, quantize=quantize)
    ours, theirs = tflite_export.benchmark([stream, hand], threads=threads, runs=1000, warmup=50).rows
    chunk = tflite_export.benchmark([stream], threads=threads, runs=300, signature="sequence").rows[0]
    return {
        "layer": kind.__name__,
        "units": units,
        "quantize": quantize or "float32",
        "step_us": 1e3 * ours.median_ms,
        "by_hand_us": 1e3 * theirs.median_ms,
        "chunk_us_per_step": 1e3 * chunk.median_ms / CHUNK,
        "step_operators": sum(result.signature_ops["step"].values()),
        "size_bytes": stream.stat().st_size,
        "whole_bytes": whole.stat().st_size,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--units", type=int, nargs="+", default=[64, 150, 256])
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = []
    print(
        "| layer | units | weights | step µs | by hand µs | ratio | µs per step of a chunk | file MB | whole MB |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for quantize in (None, "dynamic_int8"):
        for kind in STATES:
            for units in options.units:
                with tempfile.TemporaryDirectory() as folder:
                    row = measured(kind, units, quantize, options.threads, folder)
                rows.append(row)
                print(
                    f"| {row['layer']} | {units} | {row['quantize']} | {row['step_us']:.1f} | {row['by_hand_us']:.1f} | "
                    f"{row['by_hand_us'] / row['step_us']:.1f} | {row['chunk_us_per_step']:.1f} | "
                    f"{row['size_bytes'] / 1e6:.3f} | {row['whole_bytes'] / 1e6:.3f} |",
                    flush=True,
                )
    if options.json is not None:
        options.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
