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
from .precision import as_float32
from .quantize import recipe
from .signature import as_functional, inner_layers
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
    loop holds only h_{t-1} · R and the gates; layers that aren't recurrent convert as usual. The file holds no
    TensorFlow ("Flex") operator and runs on LiteRT alone. It makes fast what learning structured sparsity
    (Wen et al., ICLR 2018, arXiv 1709.05027, section 3) leaves: ordinary, dense, smaller LSTMs.

    Masks are honoured as Keras does. A stateful layer starts every call from zero, as after `reset_state()`; to
    carry states from call to call, make them inputs (`initial_state`) and outputs (`return_state`) of the model.

    Args:
        model: A built Sequential or Functional model, from any Keras backend. On JAX and PyTorch the conversion runs
            in a process of its own on the TensorFlow backend.
        path: The file to write. An existing one is replaced only by a complete and checked new one.
        batch_size: The fixed batch size of the file.
        time_steps: The length of every time axis (axis 1) that the model leaves open. None leaves it open in the
            file too: `resize_tensor_input` chooses it at run time. A fixed length is a little faster.
        quantize: None, "float16" (weights stored in half the size) or "dynamic_int8" (weights in a quarter of the
            size and faster products; activations are quantized as the graph runs).
        streaming: Not available in this version.
        representative_data: Not used in this version.
        verify: Run the file and the model on the same random inputs before writing. Whole-number inputs stay within
            the vocabulary they're looked up in, and padding and several lengths are tried. float32 allows a largest
            difference of 1e-4 (relative to the largest output where that is above 1), "float16" 1 % and
            "dynamic_int8" 20 % root mean square.

    Returns:
        The path, size, operators, signatures and the largest difference found; `str(result)` is a summary.

    Raises:
        ExportError: An argument is invalid, the model can't be followed or converted, the check failed, or the file
            can't be written.

    Example:
        >>> import tempfile, keras, tflite_export
        >>> model = keras.Sequential([keras.Input((8, 3)), keras.layers.LSTM(4), keras.layers.Dense(2)])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     result = tflite_export.export(model, f"{folder}/model.tflite")
        >>> result.max_abs_error < 1e-5
        True
    """
    chosen = recipe(quantize)
    _check(batch_size, time_steps, streaming, representative_data)
    path = check_writable(path)
    functional = as_functional(model)
    exported = as_float32(functional)
    data = convert(exported, batch_size=int(batch_size), time_steps=time_steps, quantize=quantize)
    error = None
    if verify:
        error = verify_export(exported, data, chosen, batch_size=int(batch_size), time_steps=time_steps)
    write_whole(path, data)
    return ExportResult(
        path=path,
        size_bytes=len(data),
        ops=operators(data),
        max_abs_error=error,
        signatures=signatures(data),
        notes=_notes(functional, exported),
    )


def _notes(functional: keras.Model, exported: keras.Model) -> tuple[str, ...]:
    notes = []
    stateful = [layer.name for layer in inner_layers(functional) if getattr(layer, "stateful", False)]
    if stateful:
        notes.append(f"stateful {', '.join(map(repr, stateful))}: every call starts from zero states")
    if exported is not functional:
        notes.append("the model computes in half precision, the file in float32")
    return tuple(notes)


def convert(functional: keras.Model, *, baseline: bool = False, **options) -> bytes:
    """The TFLite bytes, converted here on the TensorFlow backend and in a process of its own on the others.

    Args:
        functional: The model.
        baseline: Convert as Keras does instead of lowering.
        **options: batch_size, time_steps and quantize.
    """
    if keras.backend.backend() == "tensorflow":
        from .baseline import keras_build
        from .lower.build import build

        return (keras_build if baseline else build)(functional, **options)
    with tempfile.TemporaryDirectory() as folder:
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


def _check(batch_size, time_steps, streaming, representative_data) -> None:
    for name, value in {"batch_size": batch_size, "time_steps": time_steps}.items():
        if value is None and name == "time_steps":
            continue
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
            raise ExportError(
                f"Invalid value for argument `{name}`. Expected a whole number of at least 1. "
                f"Received: {name}={value!r}"
            )
    if streaming:
        raise ExportError(
            "streaming=True is not available in this version; make the states inputs and outputs of the model "
            "(initial_state, return_state) and export it with time_steps=1."
        )
    if representative_data is not None:
        raise ExportError(
            "Argument `representative_data` serves only int8 activations, which this version lacks; omit it."
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
