"""The pages about phones and the Raspberry Pi, the Android project: the Python in them runs, states are carried the right way."""

import re
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers

import tflite_export

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "phones.md").read_text(encoding="utf-8")
PI = (DOCS / "raspberry_pi.md").read_text(encoding="utf-8")
KOTLIN = (DOCS / "android/app/src/main/kotlin/example/StreamingModel.kt").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def streamed(tmp_path_factory):
    """The page's model, its file and what Keras gives for some frames."""
    model = keras.Sequential(
        [
            layers.Input((None, 40), name="x"),
            layers.LSTM(64, return_sequences=True, name="lstm"),
            layers.Dense(12, name="y"),
        ]
    )
    file = tmp_path_factory.mktemp("streamed") / "model.tflite"
    result = tflite_export.export(model, file, streaming=True)
    frames = np.random.default_rng(0).normal(size=(9, 40)).astype("float32")
    return result, frames, np.asarray(model(frames[None]))[0]


def test_raspberry_pi_s_program_gives_what_keras_gives(streamed, monkeypatch):
    result, frames, expected = streamed
    monkeypatch.chdir(result.path.parent)
    (code,) = re.findall(r"```python\n(import numpy.*?)```", PI, re.DOTALL)
    shown = []
    exec(code, {"frames": frames, "print": shown.append})
    np.testing.assert_allclose(np.reshape(shown, expected.shape), expected, atol=1e-5)


def test_android_s_names_are_the_file_s(streamed):
    result, frames, _ = streamed
    states = re.findall(r'states = listOf\("(\w+)", "(\w+)"\)', PAGE)[0]
    assert set(states) == set(result.signatures["initial_state"]["outputs"])
    assert set(result.signatures["step"]["inputs"]) == {"x", *states}
    assert set(result.signatures["step"]["outputs"]) == {"y", *states}
    assert 'const val STEP = "step"' in KOTLIN
    activity = (DOCS / "android/app/src/main/kotlin/example/MainActivity.kt").read_text(encoding="utf-8")
    assert '"x", "y", listOf("lstm_h", "lstm_c")' in activity
    assert f"FloatArray({frames.shape[1]})" in activity


def test_android_s_exchange_of_two_buffers_gives_what_keras_gives(streamed):
    """StreamingModel.kt's steps, on the same runtime's Python interface: zeros, run, exchange."""
    compiled = pytest.importorskip("ai_edge_litert.compiled_model")
    result, frames, expected = streamed
    model = compiled.CompiledModel.from_file(str(result.path))
    states = ("lstm_h", "lstm_c")
    x, y = model.create_input_buffer_by_name("step", "x"), model.create_output_buffer_by_name("step", "y")
    old = {name: model.create_input_buffer_by_name("step", name) for name in states}
    new = {name: model.create_output_buffer_by_name("step", name) for name in states}
    for buffer in old.values():
        buffer.write(np.zeros(64, "float32"))
    found = []
    for frame in frames:
        x.write(frame)
        model.run_by_name("step", {**old, "x": x}, {**new, "y": y})
        old, new = new, old
        found.append(y.read(12, np.float32))
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_zeros_are_what_initial_state_gives(streamed):
    from ai_edge_litert.interpreter import Interpreter

    start = Interpreter(model_path=str(streamed[0].path)).get_signature_runner("initial_state")()
    assert all(not value.any() for value in start.values())


def test_every_option_of_the_command_is_on_the_page():
    source = (DOCS.parent / "keras_iss/arguments.py").read_text(encoding="utf-8")
    bench = source.partition('bench = command("bench"')[2].partition("report = command(")[0]
    options = set(re.findall(r'"(--[a-z]+)"', bench)) - {"--json", "--csv"}
    assert len(options) >= 7
    assert {option for option in options if f"`{option}" not in PAGE} == set()
