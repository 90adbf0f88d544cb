"""What a model weighs: parameters, multiply-adds, files, latency; and the table of all results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import keras
from runs import files_at_hand, times_of

import keras_iss
import tflite_export
from ptb_lm.model import Network, build, copy_weights, recurrent_layers

BATCH, STEPS = 10, 10  # the paper's setting for latency
FORMS = {"10x10": {"batch_size": BATCH, "time_steps": STEPS}, "stream": {"streaming": True}}
FILES = tuple((form, quantize) for quantize in (None, "dynamic_int8") for form in FORMS)
THREADS = 1


def sizes(model: keras.Model) -> dict[str, int]:
    """Parameters, and multiply-adds per word: of the whole model and of its recurrent layers."""
    kernels = [
        v for layer in recurrent_layers(model) for v in (layer.cell.kernel, layer.cell.recurrent_kernel)
    ]
    found = keras_iss.report(model)
    return {
        "parameters": int(found.parameters),
        "macs": int(found.macs),
        "recurrent_macs": sum(int(keras.ops.size(v)) for v in kernels),
    }


def export(
    model: keras.Model, network: Network, stem: Path, files: Sequence[tuple[str, str | None]] = FILES
) -> dict[str, dict]:
    """Writes files beside `stem`, each of a form and quantization; returns name -> file and size.

    "10x10" takes a batch of 10 sequences of 10 words, the paper's setting; "stream" takes word after word of one text.
    """
    plain = build(network)
    copy_weights(model, plain)
    found = {}
    for form, quantize in files:
        kind = quantize or "float32"
        path = stem.with_name(f"{stem.name}.{form}.{kind}.tflite")
        result = tflite_export.export(plain, path, quantize=quantize, **FORMS[form])
        found[f"{form} {kind}"] = {"file": path.name, "bytes": result.size_bytes}
    return found


def latency(folder: Path, results: Sequence[Mapping], runs: int = 50) -> dict[str, dict[str, float]]:
    """Median milliseconds per call by file: of 10 × 10 words, or of one word of a stream; one thread.

    All files of a form that are in the folder take turns in one run.
    """
    times = {}
    files = files_at_hand(folder, results)
    for streaming in (False, True):
        of_form = [path for path in files if (".stream." in path.name) == streaming]
        if of_form:
            report = tflite_export.benchmark(of_form, threads=THREADS, runs=runs)
            times |= {Path(row.path).name: {"ms": row.median_ms} for row in report.rows}
    return times


def table(results: Sequence[Mapping]) -> str:
    """A line of Markdown per result."""
    lines = [
        "| model | seed | widths: words, layers | parameters | multiply-adds per word, recurrent layers' / all | "
        "file MB, float32 / int8 | ms for 10 × 10 words | ms for one word | perplexity, validation / test |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for r in results:
        network, size, files = r["network"], r["sizes"], r["files"]
        widths = ", ".join(map(str, (network["embedding"], *network["units"])))
        megabytes = " / ".join(
            f"{kept['bytes'] / 1e6:.1f}" for name, kept in files.items() if "stream" not in name
        )
        times = [
            times_of(kept for name, kept in files.items() if ("stream" in name) == streaming)
            for streaming in (False, True)
        ]
        lines.append(
            f"| {r['model']} | {r['seed']} | {widths} | {size['parameters']:,} | {size['recurrent_macs']:,} / "
            f"{size['macs']:,} | {megabytes} | {times[0]} | {times[1]} | "
            f"{r['perplexity']['valid']:.2f} / {r['perplexity']['test']:.2f} |"
        )
    return "\n".join(lines)
