"""Exporting a Keras model to one TFLite file, checked against Keras."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import keras
import numpy as np

from .census import operators
from .errors import ExportError
from .files import check_writable, write_whole
from .quantize import recipe
from .signature import as_functional
from .verify import signatures
from .verify import verify as verify_export

__all__ = ["ExportResult", "export", "keras_export"]


@dataclass(frozen=True, kw_only=True)
class ExportResult:
    """What `export` wrote.

    Attributes:
        path: The file.
        size_bytes: Its size.
        ops: How often each operator stands in it.
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

    def __str__(self) -> str:
        error = "not checked" if self.max_abs_error is None else f"{self.max_abs_error:.2e}"
        lines = [
            f"{self.path}  {self.size_bytes:,} bytes",
            f"  largest difference from Keras: {error}",
            "  operators: " + ", ".join(f"{name} {n}" for name, n in self.ops.items()),
        ]
        for name, ends in self.signatures.items():
            lines.append(f"  {name}: {', '.join(ends['inputs'])} -> {', '.join(ends['outputs'])}")
        return "\n".join(lines + [f"  note: {note}" for note in self.notes])


def export(
    model: keras.Model,
    path: str | os.PathLike,
    *,
    batch_size: int = 1,
    time_steps: int | None = None,
    quantize: str | None = None,
    streaming: bool = False,
    representative_data=None,
    verify: bool = True,
) -> ExportResult:
    """Write a recurrent model as one fast TFLite file and check it against Keras.

    Recurrent layers are lowered: z_t = x_t · W + b is computed for all steps by one matrix product, so that the
    loop holds only h_{t-1} · R and the gates. The file has no TensorFlow ("Flex") operator and runs on LiteRT alone.
    """
    recipe_ = recipe(quantize)
    _check(batch_size, time_steps, streaming, representative_data)
    path = check_writable(path)
    functional = as_functional(model)
    data = convert(functional, batch_size=batch_size, time_steps=time_steps, quantize=quantize)
    error = None
    if verify:
        error = verify_export(functional, data, recipe_, batch_size=batch_size, time_steps=time_steps)
    write_whole(path, data)
    return ExportResult(
        path=path,
        size_bytes=len(data),
        ops=operators(data),
        max_abs_error=error,
        signatures=signatures(data),
    )


def convert(functional: keras.Model, **options) -> bytes:
    """The TFLite bytes, converted here on the TensorFlow backend and in a process of its own on the others."""
    if keras.backend.backend() == "tensorflow":
        from .lower.build import build

        return build(functional, **options)
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "model.keras"), Path(folder, "model.tflite")
        functional.save(source)
        _run_worker(str(source), str(target), json.dumps(options))
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


def _check(batch_size, time_steps, streaming, representative_data) -> None:
    for name, value in {"batch_size": batch_size, "time_steps": time_steps}.items():
        if value is None and name == "time_steps":
            continue
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
            raise ExportError(
                f"Invalid value for argument `{name}`. Expected a whole number of at least 1. Received: {name}={value!r}"
            )
    if streaming:
        raise ExportError(
            "streaming=True is not available in this version; make the states inputs and outputs of the model "
            "(initial_state, return_state) and export it with time_steps=1."
        )
    if representative_data is not None:
        raise ExportError("Argument `representative_data` serves only int8 activations, which this version lacks; omit it.")


def keras_export(
    model: keras.Model,
    path: str | os.PathLike,
    *,
    batch_size: int = 1,
    time_steps: int | None = None,
    quantize: str | None = None,
) -> Path:
    """Keras's own LiteRT export, with the batch and the steps fixed: the baseline that `export` is measured against."""
    import tensorflow as tf

    functional = as_functional(model)
    specs = keras.tree.map_structure(
        lambda x: tf.TensorSpec((batch_size, *(time_steps if n is None else n for n in x.shape[1:])), x.dtype),
        functional.input,
    )
    options = {} if quantize is None else {"optimizations": [tf.lite.Optimize.DEFAULT]}
    path = check_writable(path)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.tflite"
        functional.export(file, format="litert", verbose=False, input_signature=[specs], **options)
        write_whole(path, file.read_bytes())
    return path
