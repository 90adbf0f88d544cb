"""A stream in LiteRT against the whole sequence in Keras, on random inputs of the right kind."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import keras
import numpy as np

from .errors import ExportError
from .inputs import InputKind, input_kinds, sample
from .quantize import Recipe
from .stream_plan import Flow, StreamPlan, plan_stream
from .verify import interpreter, keras_outputs, spread, worst_of

__all__ = ["Stream", "verify_streaming"]

_FEW = 64  # steps; of chunks up to here two are fed one after the other


def verify_streaming(
    functional: keras.Model,
    data: bytes,
    recipe: Recipe,
    *,
    batch_size: int,
    time_steps: int | None,
    samples: list[dict[str, np.ndarray]] | None = None,
) -> float:
    """Feed sequences step by step, in chunks and at once; each way has to give what Keras gives for the whole.

    Args:
        functional: The model, on whatever backend.
        data: The file's bytes.
        recipe: Names the tolerance.
        batch_size: The file's batch size.
        time_steps: The length of the file's chunks; None where it's open.
        samples: Sequences to feed instead of random ones, by input name, in the file's batch size.

    Returns:
        The largest absolute difference.

    Raises:
        ExportError: The outputs differ by more than the recipe allows.
    """
    plan = plan_stream(functional, batch_size)
    kinds = [
        replace(kind, name=name) for kind, name in zip(input_kinds(plan.model), plan.inputs, strict=True)
    ]
    stream = Stream(data, plan)
    found: dict[tuple[str, bool], list[tuple[np.ndarray, np.ndarray]]] = {}
    for length, pad, values in _cases(functional, plan, kinds, batch_size, time_steps, samples):
        inputs = _inputs(plan, kinds, values)
        reference = keras_outputs(_reference(functional, plan, length), list(inputs.values()))
        expected = dict(zip(plan.outputs, reference, strict=True))
        for way, calls in _ways(length, time_steps):
            outputs = stream.feed(inputs, calls)
            for name, y in expected.items():
                padded = "" if pad is None else f", padded {pad}"
                what = f"Model {functional.name!r}, output {name!r} of {length} steps fed {way}{padded}"
                found.setdefault((what, pad is not None), []).append((y, outputs[name]))
    return worst_of(found, recipe)


def _cases(functional, plan: StreamPlan, kinds, batch_size: int, time_steps: int | None, samples):
    """Length, kind of padding, and inputs in the model's order."""
    if samples is not None:
        streamed = next(name for name in plan.fed() if plan.inputs[name] is Flow.STEPS)
        yield from ((x[streamed].shape[1], None, list(x.values())) for x in spread(samples))
        return
    rng = np.random.default_rng(0)
    pads = (None, "right", "left", "mixed") if any(k.padding is not None for k in kinds) else (None,)
    for length in _lengths(functional, plan, time_steps):
        for pad in pads:
            yield length, pad, sample(kinds, batch_size, length, rng, pad)


def _lengths(functional: keras.Model, plan: StreamPlan, time_steps: int | None) -> list[int]:
    """A short sequence, one of several chunks, and the model's own length where it has one."""
    chunks = 12 if time_steps is None else time_steps * (2 if time_steps <= _FEW else 1) + 1
    return sorted({5, chunks, *filter(None, [_own_length(functional, plan)])})


def _own_length(functional: keras.Model, plan: StreamPlan) -> int | None:
    inputs = zip(keras.tree.flatten(functional.input), plan.inputs.values(), strict=True)
    return next((x.shape[1] for x, flow in inputs if flow is Flow.STEPS), None)


def _reference(functional: keras.Model, plan: StreamPlan, length: int) -> keras.Model:
    """The model itself, or the same layers with the time axis open where it has a fixed length of its own."""
    return functional if _own_length(functional, plan) in (None, length) else plan.model


def _inputs(plan: StreamPlan, kinds: list[InputKind], values: list[np.ndarray]) -> dict[str, np.ndarray]:
    """The whole sequence by input name; inputs that are states start as the stream does."""
    inputs = {kind.name: value for kind, value in zip(kinds, values, strict=True)}
    return inputs | {name: state.start for name, state in plan.wired.items()}


def _ways(length: int, time_steps: int | None) -> Iterator[tuple[str, list[tuple[str, int]]]]:
    """How a sequence is cut into calls: the signature and the number of steps of each."""
    yield "step by step", [("step", 1)] * length
    if time_steps is None:
        yield "at once", [("sequence", length)]
        cuts = filter(None, (length // 2, 1, length - length // 2 - 1))
        yield "in chunks", [("sequence", count) for count in cuts]
    else:
        whole, rest = divmod(length, time_steps)
        yield "in chunks", [("sequence", time_steps)] * whole + [("step", 1)] * rest


@dataclass
class Stream:
    """The file's signatures as one stream."""

    data: bytes
    plan: StreamPlan

    def __post_init__(self):
        # The runners work on memory of the interpreter, which has to outlive them.
        self._interpreter = interpreter(self.data)
        runner = self._interpreter.get_signature_runner
        self.runners = {name: runner(name) for name in ("initial_state", "step", "sequence")}

    def feed(self, inputs: dict[str, np.ndarray], calls: list[tuple[str, int]]) -> dict[str, np.ndarray]:
        """The outputs for the sequence: those of all steps one after the other, and the last of the others."""
        states, at, parts = self.runners["initial_state"](), 0, []
        for signature, count in calls:
            given = {
                name: inputs[name][:, at : at + count]
                if self.plan.inputs[name] is Flow.STEPS
                else inputs[name]
                for name in self.plan.fed()
            }
            parts.append(self._run(self.runners[signature], given | states, count))
            states = {name: parts[-1][name] for name in states}
            at += count
        return {
            name: np.concatenate([part[name] for part in parts], 1) if flow is Flow.STEPS else parts[-1][name]
            for name, flow in self.plan.outputs.items()
        }

    def _run(self, runner, given: dict[str, np.ndarray], count: int) -> dict[str, np.ndarray]:
        try:
            return runner(**given)
        except (RuntimeError, ValueError) as error:
            raise ExportError(
                f"LiteRT can't run {count} steps of the stream of model {self.plan.model.name!r}; export it with "
                f"another time_steps=... ({' '.join(str(error).split())})"
            ) from error
