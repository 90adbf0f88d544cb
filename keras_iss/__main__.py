"""The command line: `keras-iss COMMAND` or `python -m keras_iss COMMAND`.

Keras takes seconds to load, so everything heavy is imported inside the function that needs it. A user's mistake
ends in one line on stderr and exit code 2; a traceback means a bug in this project.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import keras_iss
from keras_iss.arguments import parser
from keras_iss.files import written_whole
from keras_iss.loading import LoadingError, load_arrays, load_model, one_line

if TYPE_CHECKING:
    import keras

OUR_PACKAGES = ("keras_iss", "tflite_export")


class UserError(Exception):
    """A mistake of the user's: one sentence that names the thing and the mend."""


# -------------------------------------------------------------------------------------------------- commands


def _trace(options: argparse.Namespace) -> None:
    model = load_model(options.model)
    trace = keras_iss.trace(model)
    _check_recurrent(trace, options.model)
    print(trace)


def _strip(options: argparse.Namespace) -> None:
    _check_output(options.output, ".keras")
    model = _load_with_optimizer(options.model)
    _check_recurrent(keras_iss.trace(model), options.model)
    small = keras_iss.strip(model, multiple_of=options.multiple_of)
    _save_model(small, options.output)
    print(keras_iss.report(small, baseline=model))
    if small.count_params() == model.count_params():
        print(
            "No unit could be removed: none is exactly zero. Train with keras_iss.callbacks.ISSPruning or use "
            "keras_iss.prune first."
        )
    print(f"Saved {options.output}")


def _export(options: argparse.Namespace) -> None:
    _check_output(options.output, ".tflite")
    samples = None if options.representative_data is None else load_arrays(options.representative_data)
    model = load_model(options.model)
    import tflite_export

    result = tflite_export.export(
        model,
        options.output,
        batch_size=options.batch_size,
        time_steps=options.time_steps,
        quantize=options.quantize,
        streaming=options.streaming,
        lowering=options.lowering,
        representative_data=samples,
        integer_io=options.integer_io,
    )
    print(result)


def _bench(options: argparse.Namespace) -> None:
    for path in options.files:
        _check_input(path)
    for path in (options.json, options.csv):
        if path is not None:
            _check_output(path)
    import tflite_export

    report = tflite_export.benchmark(
        options.files,
        threads=options.threads,
        runs=options.runs,
        device=options.device,
        inputs=None if options.inputs is None else _load_named(options.inputs),
        signature=options.signature,
        runner=options.runner,
        cores=options.cores,
        cooldown=options.cooldown,
    )
    print(report)
    if options.json is not None:
        report.to_json(options.json)
    if options.csv is not None:
        report.to_csv(options.csv)
    if report.problem:
        raise UserError(report.problem)


def _report(options: argparse.Namespace) -> None:
    if options.plot is not None:
        _check_output(options.plot)
    model = load_model(options.model)
    baseline = load_model(options.baseline) if options.baseline is not None else None
    report = keras_iss.report(model, baseline=baseline)
    print(report)
    if options.plot is not None:
        report.plot(options.plot)
        print(f"Saved {options.plot}")


def _demo(options: argparse.Namespace) -> None:
    _load_names()
    from keras_iss import demo

    demo.run(options.output, quick=options.quick, target=options.target, seed=options.seed)


# ----------------------------------------------------------------------------------------------------- files


def _check_input(path: Path) -> None:
    if path.is_dir():
        raise UserError(f"{path} is a folder, not a file: name the file inside it")
    if not path.exists():
        raise UserError(f"{path} does not exist: check the name")


def _check_output(path: Path, suffix: str | None = None) -> None:
    """Refuses, before any work is done, a place where nothing can be written."""
    if suffix is not None and path.suffix != suffix:
        raise UserError(
            f"the output is a {suffix} file: write -o {path.with_suffix(suffix)} instead of {path}"
        )
    if path.is_dir():
        raise UserError(f"{path} is a folder: name a file in it")
    folder = path.absolute().parent
    if not folder.is_dir():
        raise UserError(f"the folder {folder} does not exist: create it first (mkdir -p {folder})")
    if not os.access(folder, os.W_OK):
        raise UserError(f"cannot write in the folder {folder}: choose another one or change its permissions")


def _load_with_optimizer(path: Path) -> keras.Model:
    """The model with its training setup, or without where that can't be loaded."""
    try:
        return load_model(path, with_optimizer=True)
    except LoadingError as error:
        with contextlib.suppress(LoadingError):
            model = load_model(path)
            print(f"Note: left out the training setup of {path} ({one_line(error)})", file=sys.stderr)
            return model
        raise


def _load_named(path: Path):
    """The arrays of a file in which each has a name."""
    arrays = load_arrays(path)
    if not isinstance(arrays, dict):
        raise UserError(f"{path} holds an array without a name: save each under its input's with numpy.savez")
    return arrays


def _load_names() -> None:
    """Loads Keras and all public names, as late as possible: `keras_iss` leaves that to its first use here."""
    _ = keras_iss.trace


def _check_recurrent(trace: keras_iss.Trace, path: Path) -> None:
    if not any(trace[name].kind == "hidden" for name in (*(s.name for s in trace.structures), *trace.pinned)):
        raise UserError(
            f"{path} has no recurrent layer, so there are no hidden units to find: give a model with an LSTM, GRU, "
            "SimpleRNN or RNN layer"
        )


def _save_model(model: keras.Model, path: Path) -> None:
    """Writes beside, then replaces: what stood at `path` stays until the new file is whole."""
    try:
        with written_whole(path) as beside:
            model.save(beside)
    except OSError as error:
        raise UserError(
            f"{path} was not written ({error.strerror or one_line(error)}): free some space or choose another "
            "folder"
        ) from error


# --------------------------------------------------------------------------------------------------- running


def _is_message(error: Exception) -> bool:
    """Whether an error was raised on purpose: by the operating system, or by a line of ours."""
    if isinstance(error, OSError) or type(error).__module__.split(".")[0] in (*OUR_PACKAGES, "__main__"):
        return True
    frame = error.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    module = "" if frame is None else frame.tb_frame.f_globals.get("__name__", "")
    return isinstance(error, (ValueError, TypeError, ImportError)) and module.split(".")[0] in OUR_PACKAGES


def _is_out_of_memory(error: Exception) -> bool:
    """Python's own error, or TensorFlow's or XLA's."""
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "ResourceExhaustedError"
        or "RESOURCE_EXHAUSTED" in str(error)
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        arguments: The words after `keras-iss`; `None` takes them from `sys.argv`.

    Returns:
        The exit code: 0, 2 after a user's mistake, 130 when interrupted.
    """
    runs = {
        "trace": _trace,
        "strip": _strip,
        "export": _export,
        "bench": _bench,
        "report": _report,
        "demo": _demo,
    }
    options = parser(runs).parse_args(arguments)
    try:
        options.command(options)
        sys.stdout.flush()
    except KeyboardInterrupt:
        print("keras-iss: stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `keras-iss trace model.keras | head -1`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except Exception as error:
        if _is_out_of_memory(error):
            error = UserError(
                "there is not enough memory for this model or these inputs: use a machine with more"
            )
        if not _is_message(error):
            raise
        print(f"keras-iss: {one_line(error)}", file=sys.stderr)
        return 2
    return 0


@contextlib.contextmanager
def _native_log_muted() -> Iterator[None]:
    """Keeps what native libraries write to file descriptor 2 off the terminal; Python's stderr stays.

    TensorFlow and LiteRT log there while they load and convert, before any setting of theirs counts. A user who
    sets TF_CPP_MIN_LOG_LEVEL wants to see it.
    """
    if "TF_CPP_MIN_LOG_LEVEL" in os.environ:
        yield
        return
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    for name in ("absl", "tensorflow"):
        logging.getLogger(name).setLevel(logging.ERROR)
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
        for package in OUR_PACKAGES:
            warnings.filterwarnings("default", module=package)
    stderr, terminal = sys.stderr, os.dup(2)
    with tempfile.TemporaryFile() as log, open(terminal, "w", buffering=1) as sys.stderr:
        os.dup2(log.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(terminal, 2)
            sys.stderr = stderr


def console() -> NoReturn:
    """Runs one command in a process of its own: the console script."""
    with _native_log_muted():
        code = main()
    sys.exit(code)


if __name__ == "__main__":
    console()
