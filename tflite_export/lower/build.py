"""From a Keras model to TFLite bytes; everything that needs the TensorFlow backend."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping

import keras
import tensorflow as tf

from ..errors import ExportError
from ..files import working_folder
from ..quantize import Recipe, recipe
from ..signature import inner_layers, input_names, output_names
from ..stream_plan import StreamPlan, plan_stream
from .form import Form
from .fused import without_clip
from .model import lower
from .signatures import ordered, own_names
from .streaming import States, streaming_twins

__all__ = ["build"]

_FULL = ("No space left on device", "File too large", "Disk quota exceeded")  # what a file system says


def build(
    functional: keras.Model,
    *,
    batch_size: int,
    time_steps: int | None,
    quantize: str | None,
    streaming: bool = False,
    lowering: str = "auto",
    steps_per_turn: int | None = None,
) -> bytes:
    """Lower the model and convert it, with named inputs and outputs and built-in operators only."""
    _refuse_tables(functional)
    module, chosen = tf.Module(), recipe(quantize)
    form = Form(kind=lowering, steps=steps_per_turn, weight_bytes=chosen.weight_bytes)
    if streaming:
        functions = _stream(functional, module, form, batch_size, time_steps)
        signatures = ordered(functions)
    else:
        functions = signatures = {"serving_default": _whole(functional, module, form, batch_size, time_steps)}
    try:
        with working_folder() as folder:
            tf.saved_model.save(module, folder, signatures=signatures)
            data = _converted(folder, list(signatures), chosen)
            data = chosen.mend(data, lambda: _converted(folder, list(signatures), recipe(None)))
    except ExportError:
        raise
    except Exception as error:
        raise _explained(error, functional, time_steps) from error
    if lowering == "fused":
        data = without_clip(data)
    return own_names(data, functions) if streaming else data


def _converted(folder: str, signatures: list[str], chosen: Recipe) -> bytes:
    """What the converter makes of a SavedModel by a recipe."""
    converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=signatures)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    converter.exclude_conversion_metadata = True  # nobody reads it, and writing it takes a tenth of the time
    chosen.configure(converter)
    return converter.convert()


def _whole(functional: keras.Model, module: tf.Module, form: Form, batch_size: int, time_steps: int | None):
    """The function from the model's inputs to its outputs."""
    lowered = lower(functional, batch_size, time_steps, form=form)
    names, outputs = input_names(functional), output_names(functional)
    _keep(module, lowered)

    def serve(**inputs):
        flat = [inputs[name] for name in names]
        results = lowered(keras.tree.pack_sequence_as(lowered.input, flat), training=False)
        return _named(outputs, keras.tree.flatten(results))

    return _traced(serve, _specs(names, lowered))


def _stream(
    functional: keras.Model, module: tf.Module, form: Form, batch_size: int, time_steps: int | None
) -> dict:
    """The three functions of a stream; `step` comes first, so that it is what a plain interpreter runs."""
    plan = plan_stream(functional, batch_size)

    def initial_state():
        return {state.name: tf.constant(state.start) for state in plan.states}

    return {
        "step": _advance(plan, module, form, batch_size, 1),
        "sequence": _advance(plan, module, form, batch_size, time_steps),
        "initial_state": _traced(initial_state, {}),
    }


def _advance(plan: StreamPlan, module: tf.Module, form: Form, batch_size: int, time_steps: int | None):
    """The function from some steps of the inputs and all states to the outputs and the new states."""
    states = States(plan)
    lowered = lower(plan.model, batch_size, time_steps, form=form, twins=streaming_twins(plan, states, form))
    _keep(module, lowered)
    specs = _specs(list(plan.inputs), lowered)
    for state in plan.states:
        specs[state.name] = tf.TensorSpec(state.start.shape, state.start.dtype, name=state.name)

    def advance(**given):
        states.begin(given)
        flat = [given[name] for name in plan.inputs]
        results = lowered(keras.tree.pack_sequence_as(lowered.input, flat), training=False)
        outputs = _named(list(plan.outputs), keras.tree.flatten(results))
        names = [state.name for state in plan.states]
        return outputs | _named(names, [states.new[name] for name in names])

    return _traced(advance, specs)


def _keep(module: tf.Module, lowered: keras.Model) -> None:
    """A SavedModel must hold the variables that its functions read."""
    kept = [*getattr(module, "weights", ()), *(v.value for v in lowered.variables)]
    setattr(module, "weights", kept)  # noqa: B010 - tf.Module tracks what it's given


def _specs(names: list[str], lowered: keras.Model) -> dict[str, tf.TensorSpec]:
    return {
        name: tf.TensorSpec(x.shape, x.dtype, name=name)
        for name, x in zip(names, keras.tree.flatten(lowered.input), strict=True)
    }


def _named(names: list[str], tensors: list[tf.Tensor]) -> dict[str, tf.Tensor]:
    """The outputs; the identity keeps one that is also an input, or another output, apart."""
    return {name: tf.identity(y) for name, y in zip(names, tensors, strict=True)}


def _traced(function, specs: Mapping[str, tf.TensorSpec]):
    try:
        return tf.function(function).get_concrete_function(**specs)
    except Exception as error:
        raise _own_error(error) or error from None


def _own_error(error: BaseException | None) -> ExportError | None:
    """The error that a twin raised, which Keras and TensorFlow wrap in pages of their own."""
    while error is not None and (not isinstance(error, ExportError) or "\n" in str(error)):
        error = error.__context__
    return error


def _explained(error: Exception, functional: keras.Model, time_steps: int | None) -> ExportError:
    """The converter's pages of output, as the one sentence that matters."""
    text = str(error)
    full = next((why for why in _FULL if why in text), None)
    if full:
        return ExportError(
            f"The conversion writes to the temporary folder {tempfile.gettempdir()!r}, which takes no more ({full}); free "
            "space there, or set TMPDIR to another folder."
        )
    for layer in inner_layers(functional):
        if layer.quantization_mode:
            return ExportError(
                f"Layer {layer.name!r} ({type(layer).__name__}) was quantized by Keras ({layer.quantization_mode}) in a "
                'form that LiteRT doesn\'t know; export the model as it was before, with quantize="dynamic_int8" or "int8".'
            )
    operators = sorted(set(re.findall(r"\b(?:tf\.|Flex)([A-Z]\w+)", text)))
    if not operators:
        line = next((line for line in text.splitlines() if line.strip()), type(error).__name__)
        return ExportError(f"Model {functional.name!r} can't be converted to TFLite: {line.strip()}")
    layers = [
        layer.name for layer in functional.layers if re.search(rf"\b{re.escape(layer.name)}(_\d+)?/", text)
    ]
    where = f" (layer {', '.join(map(repr, layers))})" if layers else ""
    mend = "replace the layer that uses it"
    if time_steps is None and any(x.shape[1:2] == (None,) for x in functional.inputs):
        mend = "fix the length with time_steps=..., which often avoids it, or " + mend
    return ExportError(
        f"Model {functional.name!r} needs the TensorFlow operator {', '.join(operators)}{where} in a form that LiteRT "
        f"has no built-in operator for; {mend}."
    )


def _refuse_tables(functional: keras.Model) -> None:
    for layer in inner_layers(functional):
        if hasattr(layer, "get_vocabulary"):
            raise ExportError(
                f"Layer {layer.name!r} ({type(layer).__name__}) looks its input up in a table, for which LiteRT has no "
                "built-in operator; export the model that begins behind it, and look up in the app."
            )
