"""Exporting a Keras model to one TFLite file, checked against Keras."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np

from .census import operators, operators_by_signature
from .errors import ExportError
from .files import check_writable, working_folder, write_whole
from .limits import metric_limit
from .precision import as_float32
from .quantize import recipe
from .signature import as_functional, inner_layers
from .stored_once import stored_once
from .tune import check_lowering, tuned
from .user_data import representative_samples
from .verify import signatures
from .verify import verify as verify_export
from .verify_streaming import verify_streaming

__all__ = ["ExportResult", "export", "keras_export"]


@dataclass(frozen=True, kw_only=True)
class ExportResult:
    """What `export` wrote.

    Attributes:
        path: The file.
        size_bytes: Its size.
        ops: How often each operator stands in it.
        signature_ops: Signature name -> how often each operator stands in what that signature runs.
        max_abs_error: The largest difference from Keras's outputs in the check; None where it was switched off.
        signatures: Signature name -> {"inputs": [...], "outputs": [...]}.
        notes: What a reader of the file should know, such as how a stateful layer starts.
    """

    path: Path
    size_bytes: int
    ops: dict[str, int]
    max_abs_error: float | None
    signatures: dict[str, dict[str, list[str]]]
    notes: tuple[str, ...] = field(default=())
    signature_ops: dict[str, dict[str, int]] = field(default_factory=dict)

    def __str__(self) -> str:
        error = "not checked" if self.max_abs_error is None else f"{self.max_abs_error:.2e}"
        lines = [
            f"{self.path}  {self.size_bytes:,} bytes",
            f"  largest difference from Keras: {error}",
            "  operators: " + _counts(self.ops),
        ]
        for name, ends in self.signatures.items():
            lines.append(
                f"  {name}: {', '.join(ends['inputs']) or 'nothing'} -> {', '.join(ends['outputs'])}"
            )
            if len(self.signatures) > 1 and self.signature_ops.get(name):
                lines.append(f"    operators: {_counts(self.signature_ops[name])}")
        return "\n".join(lines + [f"  note: {note}" for note in self.notes])


def _counts(ops: dict[str, int]) -> str:
    return ", ".join(f"{name} {n}" for name, n in ops.items())


def export(
    model: keras.Model,
    path: str | os.PathLike,
    *,
    batch_size: int = 1,
    time_steps: int | None = None,
    quantize: str | None = None,
    streaming: bool = False,
    lowering: str = "auto",
    representative_data: Any = None,
    integer_io: bool = False,
    verify: bool = True,
    metric: Any = None,
    data: tuple | None = None,
    max_metric_drop: float | None = None,
    metric_mode: str = "auto",
) -> ExportResult:
    """Write a recurrent model as one fast TFLite file and check it against Keras.

    Recurrent layers are lowered: z_t = x_t · W + b is computed for all steps by one matrix product, so that the
    loop holds only h_{t-1} · R and the gates; layers that aren't recurrent convert as usual. The file holds no
    TensorFlow ("Flex") operator and runs on LiteRT alone. It makes fast what learning structured sparsity
    (Wen et al., ICLR 2018, arXiv 1709.05027, section 3) leaves: ordinary, dense, smaller LSTMs.

    Masks are honoured as Keras does. A stateful layer starts every call from zero, as after `reset_state()`; to
    carry states from call to call, export with `streaming=True`.

    Args:
        model: A built Sequential or Functional model, from any Keras backend. On JAX and PyTorch the conversion runs
            in a process of its own on the TensorFlow backend.
        path: The file to write. An existing one is replaced only by a complete and checked new one.
        batch_size: The fixed batch size of the file.
        time_steps: The length of every time axis (axis 1) that the model leaves open. None leaves it open in the
            file too: `resize_tensor_input` chooses it at run time. A fixed length is a little faster.
        quantize: None, or the name of a recipe. "float16": weights stored in half the size, arithmetic in float32.
            "dynamic_int8": the weights of products in 8 bits with a scale per channel, a quarter of the size and
            faster; what they're multiplied with is quantized as the graph runs. "int8": both sides and the results
            of products (dense, convolution, x·W of all steps) and embeddings in 8 bits, with fixed ranges from
            `representative_data`; h·R inside the loops as in "dynamic_int8"; recurrent states, gates and all else
            between products float32, as are the file's inputs and outputs; `pip install "keras-iss[int8]"` first.
            "sparse": weights that are exactly zero aren't stored; a smaller file, the same float32 outputs. Scattered
            zeros make it no faster, being unpacked when the file is opened; zeros in blocks of four or more inputs
            of one output, as `GrowAndPrune(granularity="block")` leaves them, are skipped, which pays where the
            weights would outgrow the cache (docs/measurements.md). A matrix with fewer than about a third of zeros is
            stored whole, and a model without any sparser one is refused. The result's note counts the weights stored.
        streaming: Write three signatures in place of one: "initial_state" (no inputs) gives all states; "step" takes
            one time step and the states by name and gives the outputs and the new states; "sequence" does the same
            for a chunk of `time_steps` steps, or of any number of steps where that is None. The states are named
            after their layers ("lstm_h", "lstm_c", "gru_h", "conv1d_window"); docs/streaming.md tells more.
        lowering: How recurrent layers are written; docs/lowering.md tells what was measured. "auto": by the size of
            their weights, a loop over time with one to four steps a turn, or no loop; "loop", "unroll": one of the
            two (no loop needs `time_steps`); "fused": LiteRT's own LSTM operator, worth a try on ARM, slow on x86,
            refused for what it computes wrong (other layers and activations, masks, states in or out); "tune": the
            fastest of all of these on this machine, which takes some seconds more.
        representative_data: For "int8" only: typical inputs (samples, ...), as many kinds as the model will meet; an
            array, a dictionary from input name to array, or an iterable of those. A hundred samples often do. At
            most 1024 batches are read, and 512 batches of `batch_size`, evenly spread, are run.
        integer_io: For "int8" without streaming: float inputs and outputs become 8-bit integers, for hardware and
            apps that hold them so; scale and zero point of each stand in the file.
        verify: Run the file and the model on the same random inputs before writing. Whole-number inputs stay within
            the vocabulary they're looked up in, and padding and several lengths are tried. float32 allows a largest
            difference of 1e-4 (relative to the largest output where that is above 1), "float16" 1 % and
            "dynamic_int8" 20 % root mean square; "sparse" as much as float32; "int8" 10 %, on 16 of the representative
            batches in place of random inputs.
        metric: With `max_metric_drop`: a function (y_true, y_pred) -> number, a Keras metric or loss, or its name, as
            in `compare`.
        data: With `max_metric_drop`: the pair (x, y) that the metric is computed on.
        max_metric_drop: Refuse the file where its metric is worse than the Keras model's by more than this, in the
            metric's own unit; 0.005 is half a percentage point of accuracy.
        metric_mode: "max" where a larger metric is better, "min" where a smaller one is; "auto" knows Keras's own.

    Returns:
        The path, size, operators, signatures and the largest difference found; `str(result)` is a summary.

    Raises:
        ExportError: An argument is invalid, the model can't be followed or converted, the check failed, the metric
            drops too far, or the file can't be written.

    Example:
        >>> import tempfile, keras, tflite_export
        >>> model = keras.Sequential([keras.Input((8, 3)), keras.layers.LSTM(4), keras.layers.Dense(2)])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     result = tflite_export.export(model, f"{folder}/model.tflite")
        >>> result.max_abs_error < 1e-5
        True
    """
    chosen = recipe(quantize)
    _check(batch_size, time_steps)
    check_lowering(lowering)
    if lowering in ("fused", "tune") and streaming:
        raise ExportError(
            f'lowering="{lowering}" is not for streaming files, whose states go in and out; use "auto".'
        )
    if integer_io and (quantize != "int8" or streaming):
        raise ExportError(
            'integer_io=True is for quantize="int8" without streaming (the states of a stream are floats). '
            f"Received: quantize={quantize!r}, streaming={streaming}"
        )
    path = check_writable(path)
    functional = as_functional(model)
    exported = as_float32(functional)
    sizes = {"batch_size": int(batch_size), "time_steps": time_steps}
    samples = representative_samples(exported, chosen, representative_data, streaming=streaming, **sizes)
    limit = metric_limit(exported, metric, data, max_metric_drop, metric_mode)

    def make(**form) -> bytes:
        converted = convert(exported, quantize=quantize, streaming=streaming, **sizes, **form)
        return chosen.finish(converted, samples, integer_io)

    notes = _notes(functional, exported, streaming)
    if lowering == "tune":
        content, note = tuned(make, exported, **sizes)
        notes += (note,)
    else:
        content = make(lowering=lowering)
    if streaming or chosen.weight_bytes == 1:  # what is repeated: parts of signatures, scales per channel
        content = stored_once(content)
    if chosen.note is not None:
        notes += (chosen.note(content, exported),)
    error = None
    if verify:
        check = verify_streaming if streaming else verify_export
        error = check(exported, content, chosen, samples=samples, **sizes)
    if limit is not None:
        notes += (limit.check(exported, content, chosen.name),)
    write_whole(path, content)
    return ExportResult(
        path=path,
        size_bytes=len(content),
        ops=operators(content),
        max_abs_error=error,
        signatures=signatures(content),
        notes=notes,
        signature_ops=operators_by_signature(content),
    )


def _notes(functional: keras.Model, exported: keras.Model, streaming: bool) -> tuple[str, ...]:
    notes = []
    stateful = [layer.name for layer in inner_layers(functional) if getattr(layer, "stateful", False)]
    if stateful:
        start = "initial_state gives zeros" if streaming else "every call starts from zero states"
        notes.append(f"stateful {', '.join(map(repr, stateful))}: {start}")
    if exported is not functional:
        notes.append("the model computes in half precision, the file in float32")
    return tuple(notes)


def convert(functional: keras.Model, *, baseline: bool = False, **options) -> bytes:
    """The TFLite bytes, converted here on the TensorFlow backend and in a process of its own on the others.

    Args:
        functional: The model.
        baseline: Convert as Keras does instead of lowering.
        **options: batch_size, time_steps, quantize, streaming, lowering and steps_per_turn.
    """
    if keras.backend.backend() == "tensorflow":
        from .baseline import keras_build
        from .lower.build import build

        return (keras_build if baseline else build)(functional, **options)
    with working_folder() as folder:
        source, target = Path(folder, "model.keras"), Path(folder, "model.tflite")
        functional.save(source)
        _run_worker(str(source), str(target), json.dumps({"baseline": baseline, **options}))
        return target.read_bytes()


def _run_worker(*arguments: str) -> None:
    environment = dict(os.environ, KERAS_BACKEND="tensorflow", TF_CPP_MIN_LOG_LEVEL="3")
    search = [str(Path(__file__).parents[1]), environment.get("PYTHONPATH", "")]
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, search))
    done = subprocess.run(
        [sys.executable, "-m", "tflite_export.tensorflow_worker", *arguments],
        env=environment,
        capture_output=True,
        text=True,
    )
    lines = done.stdout.splitlines()
    if done.returncode != 0 or not lines:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise ExportError(f"The conversion on the TensorFlow backend broke off: {last}")
    problem = json.loads(lines[-1])["error"]
    if problem:
        raise ExportError(problem)


def _check(batch_size, time_steps) -> None:
    for name, value in {"batch_size": batch_size, "time_steps": time_steps}.items():
        if value is None and name == "time_steps":
            continue
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
            raise ExportError(
                f"Invalid value for argument `{name}`. Expected a whole number of at least 1. "
                f"Received: {name}={value!r}"
            )


def keras_export(
    model: keras.Model,
    path: str | os.PathLike,
    *,
    batch_size: int = 1,
    time_steps: int | None = None,
    quantize: str | None = None,
) -> Path:
    """Keras's own LiteRT export with the batch and the steps fixed: the baseline that `export` is measured against.

    Args:
        model: A built Sequential or Functional model, from any backend.
        path: The file to write.
        batch_size: The fixed batch size.
        time_steps: The length of every open time axis.
        quantize: None, or "dynamic_int8" for the converter's default optimization.

    Returns:
        The path.
    """
    if quantize not in (None, "dynamic_int8"):
        raise ExportError(
            f'Invalid value for argument `quantize`. Expected None or "dynamic_int8". Received: quantize={quantize!r}'
        )
    path = check_writable(path)
    options = {"batch_size": batch_size, "time_steps": time_steps, "quantize": quantize}
    write_whole(path, convert(as_functional(model), baseline=True, **options))
    return path
