"""What a phone's runner is fed: given inputs, or random ones that the model takes."""

from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers

import tflite_export
from keras_iss.__main__ import main
from tflite_export.device_inputs import feed, model_inputs


def test_given_inputs_are_pushed_as_files(phone, exported):
    ids = np.arange(20).reshape(1, 20)
    row = phone.bench(exported / "tokens.tflite", inputs={"ids": ids}).rows[0]
    flags = phone.runs[0]["flags"]
    assert row.inputs == {"ids": [1, 20]}
    assert (flags["input_layer"], flags["input_layer_shape"]) == ("i0", "1,20")
    assert flags["input_layer_value_files"].startswith("i0:/data/local/tmp/keras-iss-")
    assert Path(flags["input_layer_value_files"]).name in phone.runs[0]["files"]
    assert "input_layer_value_range" not in flags
    fed = feed(
        model_inputs((exported / "tokens.tflite").read_bytes(), None, Path("t"))[2],
        {"ids": ids},
        16,
        Path("t"),
    )
    assert np.frombuffer(fed.files["ids"], np.int32).tolist() == list(range(20))


def test_whole_numbers_stay_within_the_table_they_are_looked_up_in(phone, exported):
    phone.bench(exported / "tokens.tflite")
    flags = phone.runs[0]["flags"]
    assert (flags["input_layer_shape"], flags["input_layer_value_range"]) == ("1,16", "i0,0,36")


def test_whole_numbers_of_unknown_range_are_asked_for(phone, exported):
    message = phone.error(exported / "kinds.tflite")
    assert "input 'kinds' (int32)" in message
    assert "inputs={'kinds': array of shape (1, 5)}" in message
    assert not phone.read("calls.jsonl"), "refused before the phone is touched"
    phone.bench(exported / "kinds.tflite", inputs={"kinds": np.ones((1, 5))})


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({"noise": np.ones((1, 6, 3))}, "no input 'noise'; its inputs are 'sound'"),
        ({"sound": np.ones((1, 6, 4))}, "shape (1, 6, 3) for input 'sound'"),
        ({"sound": np.ones((6, 3))}, "Received: shape (6, 3)"),
    ],
)
def test_inputs_that_do_not_fit_are_an_error(inputs, words, phone, exported):
    assert words in phone.error(exported / "sound.tflite", inputs=inputs)


def test_damaged_file_is_an_error(phone, exported, tmp_path):
    whole = (exported / "sound.tflite").read_bytes()
    (tmp_path / "broken.tflite").write_bytes(whole[: len(whole) // 3])
    assert "broken.tflite' is damaged" in phone.error(tmp_path / "broken.tflite")


def test_streaming_file_is_run_step_by_step(phone, tmp_path):
    model = keras.Sequential(
        [layers.Input((None, 3), name="sound"), layers.LSTM(4, return_sequences=True, name="lstm")]
    )
    tflite_export.export(model, tmp_path / "stream.tflite", streaming=True, verify=False)
    row = phone.bench(tmp_path / "stream.tflite").rows[0]
    flags = phone.runs[0]["flags"]
    assert (row.signature, flags["signature_to_run_for"]) == ("step", "step")
    assert row.inputs == {"sound": [1, 1, 3], "lstm_h": [1, 4], "lstm_c": [1, 4]}
    shapes = [",".join(map(str, shape)) for shape in row.inputs.values()]
    assert flags["input_layer_shape"] == ":".join(shapes)
    assert phone.bench(tmp_path / "stream.tflite", signature="sequence").rows[0].inputs["sound"] == [1, 16, 3]


def test_unknown_signature_is_an_error(phone, exported):
    assert "no signature 'step'" in phone.error(exported / "sound.tflite", signature="step")


def test_command_line_takes_inputs_from_a_file(phone, exported, capsys):
    np.savez(phone.folder / "inputs.npz", kinds=np.ones((1, 5)))
    (phone.folder / "text.npz").write_text("no arrays")
    words = [
        "bench",
        exported / "kinds.tflite",
        "--device",
        "adb",
        "--runner",
        phone.runner,
        "--cooldown",
        "0",
    ]
    words = [str(word) for word in words]
    assert main(words) == 2
    assert "--inputs FILE.npz" in capsys.readouterr().err
    assert main([*words, "--inputs", str(phone.folder / "text.npz")]) == 2
    assert "holds no arrays" in capsys.readouterr().err
    np.save(phone.folder / "nameless.npy", np.ones((1, 5)))
    assert main([*words, "--inputs", str(phone.folder / "nameless.npy")]) == 2
    assert "without a name" in capsys.readouterr().err
    assert main([*words, "--inputs", str(phone.folder / "inputs.npz")]) == 0
