"""The command line: what each command prints and writes, and that a user's mistake costs one line, not a file."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest

import keras_iss
from keras_iss.__main__ import main
from tests.full_disk import files_end_at

ROOT = Path(__file__).parents[2]


def lstm_model(units=8):
    return keras.Sequential(
        [keras.Input((6, 3)), keras.layers.LSTM(units, name="lstm"), keras.layers.Dense(2, name="head")]
    )


@pytest.fixture
def dense_file(tmp_path):
    lstm_model().save(tmp_path / "dense.keras")
    return tmp_path / "dense.keras"


@pytest.fixture
def pruned_file(tmp_path):
    model = lstm_model()
    model.compile("adam", "mse")
    keras_iss.prune(model, {"lstm": 5}).save(tmp_path / "pruned.keras")
    return tmp_path / "pruned.keras"


def error_of(arguments, capsys):
    """Runs a command that must fail; returns its one line."""
    try:
        code = main([str(argument) for argument in arguments])
    except SystemExit as stop:
        code = stop.code
    lines = capsys.readouterr().err.splitlines()
    assert code == 2
    assert len(lines) == 1
    assert lines[0].startswith("keras-iss")
    return lines[0]


class TestCommands:
    def test_trace_shows_structures_and_what_is_pinned(self, dense_file, capsys):
        assert main(["trace", str(dense_file)]) == 0
        printed = capsys.readouterr().out
        assert "lstm" in printed
        assert "head" in printed

    def test_strip_saves_the_smaller_model_with_the_same_outputs(self, pruned_file, tmp_path, capsys):
        assert main(["strip", str(pruned_file), "-o", str(tmp_path / "small.keras")]) == 0
        assert "small.keras" in capsys.readouterr().out
        pruned, small = (keras.models.load_model(tmp_path / f"{name}.keras") for name in ("pruned", "small"))
        x = np.random.default_rng(0).normal(size=(4, 6, 3)).astype("float32")
        assert small.get_layer("lstm").units == 5
        np.testing.assert_allclose(
            small.predict(x, verbose=0), pruned.predict(x, verbose=0), rtol=1e-5, atol=1e-6
        )
        assert small.optimizer is not None

    def test_strip_rounds_widths_up(self, pruned_file, tmp_path):
        assert (
            main(["strip", str(pruned_file), "-o", str(tmp_path / "small.keras"), "--multiple-of", "4"]) == 0
        )
        assert keras.models.load_model(tmp_path / "small.keras").get_layer("lstm").units == 8

    def test_strip_says_when_nothing_could_go(self, dense_file, tmp_path, capsys):
        assert main(["strip", str(dense_file), "-o", str(tmp_path / "small.keras")]) == 0
        assert "No unit could be removed" in capsys.readouterr().out

    def test_strip_replaces_its_own_input(self, pruned_file):
        assert main(["strip", str(pruned_file), "-o", str(pruned_file)]) == 0
        assert keras.models.load_model(pruned_file).get_layer("lstm").units == 5

    def test_strip_keeps_a_model_whose_loss_it_cannot_load(self, tmp_path, capsys):
        def loss_of_my_own(y, p):
            return (y - p) ** 2

        model = lstm_model()
        model.compile("adam", loss_of_my_own)
        model.save(tmp_path / "m.keras")
        assert main(["strip", str(tmp_path / "m.keras"), "-o", str(tmp_path / "small.keras")]) == 0
        assert "training setup" in capsys.readouterr().err
        assert (tmp_path / "small.keras").exists()

    def test_report_compares_with_a_baseline(self, dense_file, tmp_path, capsys):
        lstm_model(3).save(tmp_path / "small.keras")
        assert main(["report", str(tmp_path / "small.keras"), "--baseline", str(dense_file)]) == 0
        printed = capsys.readouterr().out
        assert f"{lstm_model(3).count_params():,}" in printed
        assert f"{lstm_model(8).count_params():,}" in printed

    def test_report_draws_a_picture(self, pruned_file, tmp_path):
        assert main(["report", str(pruned_file), "--plot", str(tmp_path / "weights.png")]) == 0
        assert (tmp_path / "weights.png").read_bytes().startswith(b"\x89PNG")

    def test_export_and_bench(self, pruned_file, tmp_path, capsys):
        for name, extra in (("float.tflite", []), ("int8.tflite", ["--quantize", "dynamic_int8"])):
            command = ["export", str(pruned_file), "-o", str(tmp_path / name), "--time-steps", "6", *extra]
            assert main(command) == 0
        files = [str(tmp_path / "float.tflite"), str(tmp_path / "int8.tflite")]
        figures, table = tmp_path / "figures.json", tmp_path / "figures.csv"
        capsys.readouterr()
        assert main(["bench", *files, "--runs", "3", "--json", str(figures), "--csv", str(table)]) == 0
        printed = capsys.readouterr().out
        assert "float" in printed
        assert "int8" in printed
        assert json.loads(figures.read_text())
        assert len(table.read_text().splitlines()) == 3

    @pytest.mark.parametrize("form", ["npy", "npz"])
    def test_export_to_8_bits_reads_typical_inputs(self, form, dense_file, tmp_path, capsys):
        model = keras.models.load_model(dense_file)
        x = np.random.default_rng(0).normal(size=(20, 6, model.input_shape[-1]))
        file = tmp_path / f"inputs.{form}"
        np.save(file, x) if form == "npy" else np.savez(file, **{model.inputs[0].name: x})
        command = ["export", str(dense_file), "-o", str(tmp_path / "m.tflite"), "--time-steps", "6"]
        assert main([*command, "--quantize", "int8", "--representative-data", str(file)]) == 0
        assert "QUANTIZE" in capsys.readouterr().out

    def test_export_of_a_stream_shows_its_signatures(self, dense_file, tmp_path, capsys):
        output = tmp_path / "stream.tflite"
        assert main(["export", str(dense_file), "-o", str(output), "--streaming"]) == 0
        printed = capsys.readouterr().out
        assert "initial_state: nothing -> lstm_c, lstm_h" in printed
        assert "step: input_layer, lstm_c, lstm_h -> head, lstm_c, lstm_h" in printed
        assert main(["bench", str(output), "--runs", "3"]) == 0


class TestMistakes:
    @pytest.mark.parametrize("command", ["trace", "strip", "export", "report", "bench"])
    def test_missing_file(self, command, tmp_path, capsys):
        output = {"strip": ["-o", tmp_path / "o.keras"], "export": ["-o", tmp_path / "o.tflite"]}.get(
            command, []
        )
        assert "nowhere.keras does not exist" in error_of(
            [command, tmp_path / "nowhere.keras", *output], capsys
        )

    def test_folder_in_place_of_a_file(self, tmp_path, capsys):
        assert "is a folder" in error_of(["trace", tmp_path], capsys)

    def test_not_a_keras_file(self, tmp_path, capsys):
        (tmp_path / "model.h5").write_bytes(b"something else")
        assert "not a .keras file" in error_of(["trace", tmp_path / "model.h5"], capsys)

    @pytest.mark.parametrize("part", [0, 100, 5000])
    def test_truncated_file(self, part, dense_file, capsys):
        dense_file.write_bytes(dense_file.read_bytes()[:part])
        assert "damaged" in error_of(["trace", dense_file], capsys)

    @pytest.mark.parametrize("member", ["config.json", "model.weights.h5"])
    @pytest.mark.parametrize("damage", [lambda data: data[: len(data) // 2], None], ids=["cut", "left out"])
    def test_damaged_content(self, member, damage, dense_file, tmp_path, capsys):
        with zipfile.ZipFile(dense_file) as good, zipfile.ZipFile(tmp_path / "bad.keras", "w") as bad:
            for name in good.namelist():
                if name != member:
                    bad.writestr(name, good.read(name))
                elif damage is not None:
                    bad.writestr(name, damage(good.read(name)))
        message = error_of(["trace", tmp_path / "bad.keras"], capsys)
        assert "bad.keras cannot be loaded" in message
        assert "save the model again" in message

    def test_flipped_bytes_in_the_weights(self, dense_file, capsys):
        data = bytearray(dense_file.read_bytes())
        middle = data.index(b"model.weights.h5") + 2000
        data[middle : middle + 200] = os.urandom(200)
        dense_file.write_bytes(data)
        assert "dense.keras cannot be loaded" in error_of(["trace", dense_file], capsys)

    @pytest.mark.parametrize("command", ["trace", "strip"])
    def test_unknown_layer_class(self, command, tmp_path, capsys):
        class Doubling(keras.layers.Layer):
            def call(self, x):
                return 2 * x

        keras.Sequential([keras.Input((6, 3)), Doubling(), keras.layers.LSTM(4)]).save(tmp_path / "own.keras")
        output = ["-o", tmp_path / "o.keras"] if command == "strip" else []
        message = error_of([command, tmp_path / "own.keras", *output], capsys)
        assert "'Doubling'" in message
        assert "Python" in message

    def test_code_in_the_file_is_not_run(self, tmp_path, capsys):
        layer = keras.layers.Lambda(lambda x: 2 * x)
        keras.Sequential([keras.Input((6, 3)), layer, keras.layers.LSTM(4)]).save(tmp_path / "code.keras")
        assert "Lambda" in error_of(["trace", tmp_path / "code.keras"], capsys)

    def test_subclassed_model(self, tmp_path, capsys):
        @keras.saving.register_keras_serializable("test_cli")
        class Subclassed(keras.Model):
            def __init__(self, **kwargs):
                super().__init__(**kwargs)
                self.lstm = keras.layers.LSTM(4)

            def build(self, shape):
                self.lstm.build(shape)

            def call(self, x):
                return self.lstm(x)

        model = Subclassed()
        model.build((1, 6, 3))
        model.save(tmp_path / "subclassed.keras")
        assert "is subclassed" in error_of(["trace", tmp_path / "subclassed.keras"], capsys)

    def test_model_without_recurrent_layers(self, tmp_path, capsys):
        keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)]).save(tmp_path / "plain.keras")
        assert "recurrent" in error_of(["trace", tmp_path / "plain.keras"], capsys)

    @pytest.mark.parametrize(
        ("command", "name"), [("strip", "o.keras"), ("export", "o.tflite")], ids=["strip", "export"]
    )
    def test_output_folder_missing(self, command, name, dense_file, capsys):
        message = error_of([command, dense_file, "-o", dense_file.parent / "no" / name], capsys)
        assert "does not exist" in message
        assert "mkdir" in message

    def test_output_is_a_folder(self, dense_file, tmp_path, capsys):
        (tmp_path / "folder.keras").mkdir()
        assert "is a folder" in error_of(["strip", dense_file, "-o", tmp_path / "folder.keras"], capsys)

    def test_output_of_another_kind(self, dense_file, tmp_path, capsys):
        assert "small.keras" in error_of(["strip", dense_file, "-o", tmp_path / "small.h5"], capsys)
        assert "small.tflite" in error_of(["export", dense_file, "-o", tmp_path / "small.onnx"], capsys)

    @pytest.mark.skipif(
        not Path("/proc/self").exists(), reason="needs a folder that not even root may write in"
    )
    def test_output_folder_not_writable(self, dense_file, capsys):
        message = error_of(["strip", dense_file, "-o", "/proc/o.keras"], capsys)
        assert "/proc" in message
        assert "choose another" in message

    def test_disk_full_in_the_middle_leaves_the_old_file(self, dense_file, capsys):
        output = dense_file.parent / "out" / "small.keras"
        output.parent.mkdir()
        output.write_bytes(b"what was there")
        with files_end_at(2000):
            message = error_of(["strip", dense_file, "-o", output], capsys)
        assert "small.keras was not written" in message
        assert output.read_bytes() == b"what was there"
        assert [path.name for path in output.parent.iterdir()] == ["small.keras"]

    @pytest.mark.parametrize(
        ("words", "named"),
        [
            (["export", "m.keras", "-o", "m.tflite", "--quantize", "int3"], "int3"),
            (["export", "m.keras", "-o", "m.tflite", "--batch-size", "0"], "--batch-size"),
            (["bench", "m.tflite", "--threads", "two"], "two"),
            (["bench"], "FILE"),
            (["demo", "--target", "1.5"], "1.5"),
            (["demo", "--target", "nan"], "nan"),
            (["strip", "m.keras"], "--output"),
            (["shrink", "m.keras"], "shrink"),
            ([], "COMMAND"),
        ],
        ids=" ".join,
    )
    def test_wrong_words(self, words, named, capsys):
        assert named in error_of(words, capsys)

    def test_typical_inputs_that_are_none(self, dense_file, tmp_path, capsys):
        (tmp_path / "inputs.npy").write_text("1 2 3")
        command = ["export", dense_file, "-o", tmp_path / "m.tflite", "--quantize", "int8"]
        message = error_of([*command, "--representative-data", tmp_path / "inputs.npy"], capsys)
        assert "inputs.npy holds no arrays" in message
        assert "needs `representative_data`" in error_of(command, capsys)

    def test_corrupt_tflite_file(self, tmp_path, capsys):
        (tmp_path / "bad.tflite").write_bytes(b"TFL3" * 50)
        assert "bad.tflite" in error_of(["bench", tmp_path / "bad.tflite"], capsys)

    def test_unknown_device(self, tmp_path, dense_file, capsys):
        shutil.copy(dense_file, tmp_path / "m.tflite")
        assert "toaster" in error_of(["bench", tmp_path / "m.tflite", "--device", "toaster"], capsys)

    def test_a_bug_keeps_its_traceback(self, dense_file, monkeypatch):
        monkeypatch.setattr(keras_iss, "trace", lambda model: np.zeros(3) + np.zeros(2))
        with pytest.raises(ValueError, match="broadcast"):
            main(["trace", str(dense_file)])


class TestProcess:
    """Through a process of its own, as a user runs it."""

    def run(self, *words, **environment):
        inherited = {k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"}
        return subprocess.run(
            [sys.executable, "-m", "keras_iss", *map(str, words)],
            cwd=ROOT, env=inherited | environment, capture_output=True, text=True, timeout=120,
        )  # fmt: skip

    def test_version_and_help_do_not_wait_for_keras(self):
        code = (
            "import sys; sys.argv = ['keras-iss', '--version']\n"
            "from keras_iss.__main__ import main\n"
            "try: main()\n"
            "finally: print('keras' in sys.modules)"
        )
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
        assert done.stdout.split() == ["keras-iss", keras_iss.__version__, "False"]

    def test_help_names_every_command(self):
        done = self.run("--help")
        assert done.returncode == 0
        for command in ("trace", "strip", "export", "bench", "report", "demo"):
            assert command in done.stdout

    @pytest.mark.parametrize("backend", ["tensorflow", "jax"])
    def test_nothing_but_the_result_reaches_the_terminal(self, backend, dense_file):
        done = self.run("trace", dense_file, KERAS_BACKEND=backend)
        assert done.returncode == 0
        assert "lstm" in done.stdout
        assert done.stderr == ""

    def test_a_mistake_is_one_line(self, tmp_path):
        done = self.run("trace", tmp_path / "nowhere.keras")
        assert done.returncode == 2
        assert done.stdout == ""
        assert len(done.stderr.splitlines()) == 1

    def test_export_prints_no_log_of_the_converter(self, dense_file, tmp_path):
        done = self.run("export", dense_file, "-o", tmp_path / "m.tflite")
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
        assert (tmp_path / "m.tflite").exists()
