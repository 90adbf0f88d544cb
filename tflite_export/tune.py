"""`lowering="tune"`: the candidates' forms, timed on this machine."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from .errors import ExportError
from .inputs import input_kinds, sample
from .verify import interpreter

__all__ = ["LOWERINGS", "check_lowering", "tuned"]

LOWERINGS = ("auto", "loop", "unroll", "fused", "tune")
_CANDIDATES: dict[str, dict[str, Any]] = {
    "a loop of 1 step a turn": {"lowering": "loop", "steps_per_turn": 1},
    "a loop of 2 steps a turn": {"lowering": "loop", "steps_per_turn": 2},
    "a loop of 4 steps a turn": {"lowering": "loop", "steps_per_turn": 4},
    "a loop of 8 steps a turn": {"lowering": "loop", "steps_per_turn": 8},
    "no loop": {"lowering": "unroll"},
    "LiteRT's own LSTM operator": {"lowering": "fused"},
}
_OPEN_STEPS = 32  # the length that a file of open length is timed on
_ROUNDS, _CALLS = 12, 4


def check_lowering(lowering: Any) -> None:
    """Refuse what isn't the name of a form."""
    if not (isinstance(lowering, str) and lowering in LOWERINGS):
        valid = ", ".join(f'"{name}"' for name in LOWERINGS)
        raise ExportError(
            f"Invalid value for argument `lowering`. Expected one of {valid}. Received: lowering={lowering!r}"
        )


def tuned(
    make: Callable[..., bytes], functional: keras.Model, batch_size: int, time_steps: int | None
) -> tuple[bytes, str]:
    """The fastest form's file, one thread, and a note that says which form it is.

    Args:
        make: Options of the form -> the file's bytes; raises ExportError where the model can't have the form.
        functional: The model, for its inputs.
        batch_size: The file's batch size.
        time_steps: The length of open time axes, None where the file leaves it open.
    """
    files: dict[str, bytes] = {}
    refusals: list[ExportError] = []
    for name, options in _CANDIDATES.items():
        try:
            files[name] = make(**options)
        except ExportError as error:
            refusals.append(error)  # told only if no form is possible
    if not files:
        raise refusals[0]
    kinds = input_kinds(functional)
    inputs = sample(kinds, batch_size, time_steps or _OPEN_STEPS, np.random.default_rng(0))
    feeds = {kind.name: x for kind, x in zip(kinds, inputs, strict=True)}
    calls = {name: _call(data, feeds) for name, data in files.items()}
    best: dict[str, list[float]] = {name: [] for name in files}
    for _ in range(_ROUNDS):
        for name, call in calls.items():
            call()
            best[name].append(min(_timed(call) for _ in range(_CALLS)))
    medians = {name: float(np.median(times)) for name, times in best.items()}
    fastest = min(medians, key=medians.__getitem__)
    slowest = max(medians, key=medians.__getitem__)
    note = (
        f"tuned on this machine: {fastest}, {medians[fastest] * 1e3:.3g} ms a call "
        f"(slowest of {len(files)} forms: {slowest}, {medians[slowest] * 1e3:.3g} ms)"
    )
    return files[fastest], note


def _call(data: bytes, feeds: dict[str, np.ndarray]) -> Callable[[], None]:
    litert = interpreter(data)
    runner = litert.get_signature_runner(next(iter(litert.get_signature_list())))
    runner(**feeds)  # sets the shapes and the inputs, of the one signature that `invoke` runs again
    return litert.invoke


def _timed(call: Callable[[], None]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start
