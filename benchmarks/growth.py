"""How the time of one LSTM layer grows with its units, the steps and the batch.

From one layer of 128 units on 128 inputs, 64 steps, batch 1, one of the three is varied; float32 and dynamic_int8, one
thread, all sizes of a row taking turns. The dashed line is time proportional to the multiply-adds of the largest size.

    python benchmarks/growth.py [--json FILE] [--plot FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
from matplotlib.figure import Figure

import tflite_export

PRECISIONS = {"float32": None, "int8": "dynamic_int8"}
RUNS = 60


@dataclass(frozen=True)
class Size:
    units: int = 128
    steps: int = 64
    batch: int = 1

    @property
    def macs(self) -> int:
        return self.batch * self.steps * 4 * self.units * (128 + self.units)


VARIED = {
    "units": (16, 32, 64, 128, 256, 512, 1024),
    "steps": (1, 4, 16, 64, 256, 1024),
    "batch": (1, 2, 4, 8, 16, 32),
}


def measure(name: str, quantize: str | None, folder: Path) -> list[dict]:
    """A row per size of what's varied."""
    sizes = [replace(Size(), **{name: value}) for value in VARIED[name]]
    paths = []
    for size in sizes:
        keras.utils.set_random_seed(0)
        layer = keras.layers.LSTM(size.units, return_sequences=True)
        model = keras.Sequential([keras.Input((size.steps, 128)), layer])
        paths.append(folder / f"{name}-{getattr(size, name)}-{quantize}.tflite")
        options = {"batch_size": size.batch, "quantize": quantize}
        tflite_export.export(model, paths[-1], verify=False, **options)
    report = tflite_export.benchmark(paths, runs=RUNS)
    return [
        {"varied": name, **asdict(size), "macs": size.macs, "ms": row.median_ms}
        for size, row in zip(sizes, report.rows, strict=True)
    ]


def plot(rows: list[dict], path: Path) -> None:
    figure = Figure(figsize=(12, 4), layout="constrained")
    for axes, name in zip(figure.subplots(1, 3), VARIED, strict=True):
        for precision, color in zip(PRECISIONS, ("tab:blue", "tab:orange"), strict=True):
            mine = [row for row in rows if row["varied"] == name and row["precision"] == precision]
            values, times = [row[name] for row in mine], [row["ms"] for row in mine]
            axes.plot(values, times, "o-", color=color, label=precision)
            ideal = [times[-1] * row["macs"] / mine[-1]["macs"] for row in mine]
            axes.plot(values, ideal, "--", color=color, alpha=0.5, linewidth=1)
        axes.set(xscale="log", yscale="log", xlabel=name)
        axes.set_xticks(VARIED[name], map(str, VARIED[name]))
        axes.minorticks_off()
        axes.grid(alpha=0.3)
    figure.axes[0].set_ylabel("ms a call, 1 thread")
    figure.axes[0].legend()
    figure.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path, help="write the rows here")
    parser.add_argument("--plot", type=Path, help="draw them")
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name in VARIED:
            for precision, quantize in PRECISIONS.items():
                rows += [row | {"precision": precision} for row in measure(name, quantize, Path(folder))]
    print(f"{'varied':>6}  {'precision':>9}  {'size':>5}  {'multiply-adds':>13}  {'ms':>8}")
    for row in rows:
        size = row[row["varied"]]
        print(f"{row['varied']:>6}  {row['precision']:>9}  {size:>5}  {row['macs']:>13,}  {row['ms']:>8.3f}")
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")
    if options.plot:
        plot(rows, options.plot)


if __name__ == "__main__":
    main()
