"""A phone: measured through a stand-in for adb whose phone is a folder of this computer (phone/adb.py)."""

import json
import os
import shutil
import stat
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers

import tflite_export
from keras_iss.__main__ import main
from tflite_export.device_inputs import feed, model_inputs

STAND_IN = Path(__file__).parent / "phone"
SERIAL = "37281FDJH0042A"
CLOCKS = [1803000] * 4 + [2253000] * 4 + [2802000]  # little, big and prime cores


def elf(machine, loader=b"/system/bin/linker64"):
    """The head of a program for that processor: e_machine stands at 18."""
    return b"\x7fELF\x02\x01\x01".ljust(18, b"\0") + machine.to_bytes(2, "little") + loader.ljust(200, b"\0")


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    sound = keras.Sequential([layers.Input((6, 3), name="sound"), layers.GRU(4)])
    tokens = keras.Sequential(
        [
            layers.Input((None,), name="ids", dtype="int32"),
            layers.Embedding(37, 4, mask_zero=True),
            layers.LSTM(4),
        ]
    )
    kinds = keras.Sequential(
        [
            layers.Input((5,), name="kinds", dtype="int32"),
            layers.Rescaling(0.5),
            layers.Reshape((5, 1)),
            layers.GRU(2),
        ]
    )
    for name, model in {"sound": sound, "tokens": tokens, "kinds": kinds}.items():
        tflite_export.export(model, folder / f"{name}.tflite", verify=False)
    return folder


class StandIn:
    """The phone behind the stand-in."""

    def __init__(self, folder):
        self.folder, self.files = folder, folder / "files"
        self.files.mkdir()
        (self.files / "photo.jpg").write_text("the user's")
        (self.files / "keras-iss-of-someone-else").mkdir()
        for core, clock in enumerate(CLOCKS):
            place = folder / f"sys/system/cpu/cpu{core}/cpufreq"
            place.mkdir(parents=True)
            (place / "cpuinfo_max_freq").write_text(f"{clock}\n")
        self.program("getprop", f"cat {STAND_IN}/getprop.txt")
        self.program("dumpsys", f"cat {STAND_IN}/$1.txt")
        self.program("taskset", 'shift; exec "$@"')
        self.runner = folder / "benchmark_model"
        self.runner.write_bytes(elf(183))
        self.set()

    def program(self, name, script):
        file = self.folder / "bin" / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(f"#!/bin/sh\n{script}\n")
        file.chmod(0o755)

    def set(self, **scenario):
        scenario = {"devices": {SERIAL: "device"}, **scenario}
        (self.folder / "scenario.json").write_text(json.dumps(scenario))

    def read(self, name):
        file = self.folder / name
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    @property
    def runs(self):
        """How benchmark_model was started, each time."""
        return self.read("runs.jsonl")

    def is_as_before(self):
        there = sorted(path.name for path in self.files.iterdir())
        return there == ["keras-iss-of-someone-else", "photo.jpg"]

    def bench(self, *paths, **options):
        return tflite_export.benchmark(
            list(paths), **{"device": "adb", "runner": self.runner, "cooldown": 0, "runs": 1, **options}
        )

    def error(self, *paths, **options):
        with pytest.raises(tflite_export.ExportError) as caught:
            self.bench(*paths, **options)
        assert "\n" not in str(caught.value)
        return str(caught.value)


@pytest.fixture
def phone(tmp_path, monkeypatch):
    tools = tmp_path / "tools"
    tools.mkdir()
    adb = tools / "adb"
    adb.write_text(f'#!/bin/sh\nexec {sys.executable} -I -S {STAND_IN / "adb.py"} "$@"\n')
    adb.chmod(adb.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    monkeypatch.setenv("PHONE", str(tmp_path))
    for name in ("ANDROID_SERIAL", "ANDROID_HOME", "ANDROID_SDK_ROOT", "KERAS_ISS_RUNNER"):
        monkeypatch.delenv(name, raising=False)
    return StandIn(tmp_path)


def test_rows_are_the_host_s_and_the_phone_is_named(phone, exported):
    report = phone.bench(exported / "sound.tflite", threads=2, runs=50)
    (row,) = report.rows
    assert (row.min_ms, row.median_ms, row.p95_ms) == pytest.approx((1.98, 2.03, 2.25))
    assert (row.init_ms, row.first_ms, row.peak_mb) == (4.125, 3.5, 5.5)
    assert (row.runs, row.threads, row.temperature_c) == (50, 2, 44.5)
    assert (row.size_bytes, row.inputs) == ((exported / "sound.tflite").stat().st_size, {"sound": [1, 6, 3]})
    assert report.device == f"adb:{SERIAL}"
    assert (report.cpu, report.abi, report.os_version) == ("Tensor G3", "arm64-v8a", "Android 14")
    assert "Pixel 8, Tensor G3, arm64-v8a, Android 14" in str(report)
    assert "temp °C" in str(report)
    assert not report.problem
    assert phone.is_as_before()


def test_files_take_turns_and_every_round_has_its_share(phone, exported):
    phone.bench(exported / "sound.tflite", exported / "tokens.tflite", runs=50, warmup=7)
    started = [(Path(run["flags"]["graph"]).name, run["flags"]["num_runs"]) for run in phone.runs]
    assert started == [(f"model{k}.tflite", share) for share in ("17", "17", "16") for k in (0, 1)]
    assert {run["flags"]["warmup_runs"] for run in phone.runs} == {"7"}


def test_fewer_calls_than_rounds_make_fewer_rounds(phone, exported):
    assert phone.bench(exported / "sound.tflite", runs=2).rows[0].runs == 2
    assert len(phone.runs) == 2


def test_row_is_the_median_of_the_rounds_and_the_fastest_call_of_all(phone, exported):
    phone.set(factors=[1, 3, 2])
    row = phone.bench(exported / "sound.tflite", runs=3).rows[0]
    assert (row.min_ms, row.median_ms, row.p95_ms) == pytest.approx((1.98, 4.06, 4.5))


def test_result_file_is_used_where_the_runner_writes_one(phone, exported):
    phone.set(result=True, factors=[1, 3, 2])
    row = phone.bench(exported / "sound.tflite", runs=3).rows[0]
    assert (row.min_ms, row.median_ms, row.p95_ms, row.init_ms, row.first_ms, row.peak_mb) == (
        5,
        14,
        18,
        4,
        15,
        3,
    )


def test_older_runner_s_averages_are_called_so(phone, exported):
    phone.set(text="runner_2020.txt", factors=[1, 3, 2])
    report = phone.bench(exported / "sound.tflite", runs=3)
    row = report.rows[0]
    assert (row.median_ms, row.p95_ms) == (pytest.approx(420.056), None)
    assert "averages only" in str(report)
    report.plot(phone.folder / "r.png")
    report.to_csv(phone.folder / "r.csv")
    report.to_json(phone.folder / "r.json")
    assert json.loads((phone.folder / "r.json").read_text())["rows"][0]["p95_ms"] is None


def test_battery_s_temperature_stands_in_for_the_processor_s(phone, exported):
    phone.program(
        "dumpsys", f'[ $1 = battery ] && cat {STAND_IN}/battery.txt || echo "Can\'t find service: $1"'
    )
    assert phone.bench(exported / "sound.tflite").rows[0].temperature_c == 28.7


def test_sensors_at_zero_are_not_fitted(phone, exported):
    hal = "Current temperatures from HAL:\\n\\tTemperature{mValue=0.0, mType=0, mName=CPU, mStatus=0}"
    phone.program("dumpsys", f"[ $1 = battery ] && cat {STAND_IN}/battery.txt || printf '{hal}\\n'")
    assert phone.bench(exported / "sound.tflite").rows[0].temperature_c == 28.7


def test_unreadable_temperature_is_left_out(phone, exported):
    phone.program("dumpsys", "echo 'Permission Denial'; exit 1")
    report = phone.bench(exported / "sound.tflite")
    assert report.rows[0].temperature_c is None
    assert "temp °C" not in str(report)


@pytest.mark.parametrize(("cores", "mask"), [("big", "1f0"), ("4-7", "f0"), ("0,2,8", "105"), (None, None)])
def test_cores_are_pinned_when_asked(cores, mask, phone, exported):
    report = phone.bench(exported / "sound.tflite", cores=cores)
    assert (f"taskset {mask} " in phone.runs[0]["command"]) == (cores is not None)
    assert (f"cores {mask}" in report.machine) == (cores is not None)


def test_cores_that_cannot_be_pinned_are_an_error(phone, exported):
    phone.program("taskset", "echo 'taskset: failed to set 0 affinity: Invalid argument'; exit 1")
    assert "Invalid argument" in phone.error(exported / "sound.tflite", cores="20")
    assert "cores='few'" in phone.error(exported / "sound.tflite", cores="few")
    shutil.rmtree(phone.folder / "sys")
    assert "name them" in phone.error(exported / "sound.tflite", cores="big")


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


# ------------------------------------------------------------------------------------------------- the runner


def test_runner_is_found_on_the_phone_and_left_there(phone, exported):
    shutil.copy(phone.runner, phone.files / "android_aarch64_benchmark_model")
    phone.bench(exported / "sound.tflite", runner=None)
    assert (phone.files / "android_aarch64_benchmark_model").exists()


def test_runner_s_place_on_the_phone_can_be_named(phone, exported):
    shutil.copy(phone.runner, phone.files / "mine")
    phone.bench(exported / "sound.tflite", runner="/data/local/tmp/mine")
    assert "looked for /data/local/tmp/other" in phone.error(
        exported / "sound.tflite", runner="/data/local/tmp/other"
    )


def test_runner_may_be_named_by_the_environment(phone, exported, monkeypatch):
    monkeypatch.setenv("KERAS_ISS_RUNNER", str(phone.runner))
    assert phone.bench(exported / "sound.tflite", runner=None).rows


def test_missing_runner_is_an_error(phone, exported):
    message = phone.error(exported / "sound.tflite", runner=None)
    assert "There is no benchmark_model on the phone" in message
    assert "docs/phones.md" in message
    assert "No such file" in phone.error(exported / "sound.tflite", runner=phone.folder / "nowhere")
    assert phone.is_as_before()


@pytest.mark.parametrize(
    ("program", "words"),
    [
        (elf(62), "is built for x86_64, but the phone runs arm64-v8a, armeabi-v7a, armeabi"),
        (elf(183, b"/lib/ld-linux-aarch64.so.1"), "a build for Linux, not for Android"),
        (b"PK\x03\x04 an app", "no program for Android"),
        (b"<html>Not found", "no program for Android"),
    ],
)
def test_runner_of_another_kind_is_refused_before_it_is_pushed(program, words, phone, exported):
    phone.runner.write_bytes(program)
    assert words in phone.error(exported / "sound.tflite")
    assert phone.is_as_before()


def test_runner_for_a_32_bit_phone_runs_on_one_of_64(phone, exported):
    phone.runner.write_bytes(elf(40, b"/system/bin/linker"))
    assert phone.bench(exported / "sound.tflite").rows


@pytest.mark.parametrize(
    "said", ["/system/bin/sh: {program}: not executable: 64-bit ELF file", "sh: {program}: Exec format error"]
)
def test_runner_that_the_phone_cannot_execute_is_an_error(said, phone, exported):
    phone.set(refused=said)
    message = phone.error(exported / "sound.tflite")
    assert "can't run this build of benchmark_model" in message
    assert phone.is_as_before()


def test_file_that_the_runner_cannot_run_is_an_error(phone, exported):
    phone.set(runner_error="INFO: STARTING!\nERROR: Failed to allocate tensors!\nERROR: Benchmarking failed.")
    message = phone.error(exported / "sound.tflite")
    assert "sound.tflite" in message
    assert "Failed to allocate tensors!" in message
    assert phone.is_as_before()


def test_runner_that_ignores_the_inputs_is_an_error(phone, exported):
    phone.set(unconsumed="--input_layer=i0 --input_layer_shape=1,16 --input_layer_value_range=i0,0,36")
    assert "doesn't know --input_layer" in phone.error(exported / "tokens.tflite")


def test_runner_without_timings_is_an_error(phone, exported):
    phone.set(text="battery.txt")
    assert "gave no timings" in phone.error(exported / "sound.tflite")


# ---------------------------------------------------------------------------------------------------- failures


def test_no_adb_is_an_error(exported, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("ANDROID_HOME", raising=False)
    with pytest.raises(tflite_export.ExportError, match="no adb on the PATH"):
        tflite_export.benchmark(exported / "sound.tflite", device="adb")


def test_adb_is_found_in_android_s_folder(phone, exported, monkeypatch):
    home = phone.folder / "sdk"
    shutil.copytree(phone.folder / "tools", home / "platform-tools")
    (phone.folder / "tools" / "adb").unlink()
    monkeypatch.setenv("ANDROID_HOME", str(home))
    assert phone.bench(exported / "sound.tflite").rows


NO_PERMISSION = (
    "no permissions (user in plugdev group; are your udev rules wrong?); see [http://developer.android.com]"
)


@pytest.mark.parametrize(
    ("devices", "device", "words"),
    [
        ({}, "adb", "adb finds no phone; turn on USB debugging"),
        ({}, "adb:1234", "knows no phone '1234'; turn on USB debugging"),
        ({"A1": "device", "B2": "device"}, "adb", "2 phones ('A1', 'B2'); choose one with device=\"adb:A1\""),
        ({"A1": "device"}, "adb:C3", "knows no phone 'C3'; the phones there are: 'A1'"),
        ({"A1": "unauthorized"}, "adb", "'A1' hasn't allowed this computer"),
        ({"A1": "offline"}, "adb", "'A1' is offline"),
        ({"A1": NO_PERMISSION}, "adb", "'A1' may not be used by this user"),
        ({"A1": "recovery"}, "adb", "'A1' is in recovery mode"),
        ({"A1": "rescue"}, "adb", "state 'rescue'"),
    ],
)
def test_phone_that_cannot_be_used_is_an_error(devices, device, words, phone, exported):
    phone.set(devices=devices)
    assert words in phone.error(exported / "sound.tflite", device=device)


def test_one_of_several_phones_is_chosen(phone, exported, monkeypatch):
    phone.set(devices={"A1": "unauthorized", "10.0.0.5:5555": "device"})
    assert phone.bench(exported / "sound.tflite", device="adb:10.0.0.5:5555").device == "adb:10.0.0.5:5555"
    monkeypatch.setenv("ANDROID_SERIAL", "10.0.0.5:5555")
    assert phone.bench(exported / "sound.tflite").device == "adb:10.0.0.5:5555"


def test_adb_that_hangs_or_cannot_be_started_is_an_error(phone, exported, monkeypatch):
    adb = phone.folder / "tools" / "adb"
    adb.write_bytes(b"\x7fELF of another machine")
    assert "adb doesn't work here" in phone.error(exported / "sound.tflite")
    adb.write_text("#!/bin/sh\nexec sleep 5\n")
    monkeypatch.setattr("tflite_export.device_adb._ANSWER_S", 0.5)
    assert "adb doesn't work here" in phone.error(exported / "sound.tflite")


def test_adb_that_fails_is_an_error(phone, exported):
    phone.set(broken="error: cannot connect to daemon at tcp:5037: Connection refused")
    assert "Connection refused" in phone.error(exported / "sound.tflite")


@pytest.mark.parametrize(
    ("push", "words"), [("full", "has no space left in /data/local/tmp"), ("cut", "Only 100 of")]
)
def test_full_phone_is_an_error_and_is_left_as_it_was(push, words, phone, exported):
    phone.set(push=push)
    assert words in phone.error(exported / "sound.tflite")
    assert phone.is_as_before()


def test_folder_that_cannot_be_made_is_an_error(phone, exported):
    phone.program("mkdir", "echo \"mkdir: '$1': No space left on device\"; exit 1")
    assert "has no space left" in phone.error(exported / "sound.tflite")
    phone.program("mkdir", "echo \"mkdir: '$1': Permission denied\"; exit 1")
    assert "lets us create no folder" in phone.error(exported / "sound.tflite")


def test_cable_pulled_before_anything_is_measured_is_an_error(phone, exported):
    for scenario in ({"push": "lost"}, {"lose_at": 1}):
        (phone.folder / "lost").unlink(missing_ok=True)
        (phone.folder / "starts").unlink(missing_ok=True)
        phone.set(**scenario)
        message = phone.error(exported / "sound.tflite")
        assert "connection to the phone" in message
        assert "check the cable" in message
        assert f"adb -s {SERIAL} shell rm -rf /data/local/tmp/keras-iss-" in message


def test_cable_pulled_in_the_middle_keeps_what_was_measured(phone, exported):
    phone.set(lose_at=4)
    report = phone.bench(exported / "sound.tflite", exported / "tokens.tflite", runs=50)
    assert [(Path(row.path).name, row.runs) for row in report.rows] == [
        ("sound.tflite", 34),
        ("tokens.tflite", 17),
    ]
    assert "broke off" in report.problem
    assert "not as often as asked" in report.problem
    assert "rm -rf /data/local/tmp/keras-iss-" in report.problem
    assert "incomplete: " in str(report)


def test_file_that_was_not_reached_is_named(phone, exported):
    phone.set(lose_at=2)
    report = phone.bench(exported / "sound.tflite", exported / "tokens.tflite")
    assert [Path(row.path).name for row in report.rows] == ["sound.tflite"]
    assert "nothing was measured of tokens.tflite" in report.problem


def test_phone_that_is_back_in_time_is_cleaned(phone, exported):
    phone.set(lose_at=2, back=True)
    report = phone.bench(exported / "sound.tflite", runs=2)
    assert "broke off" in report.problem
    assert "rm -rf" not in report.problem
    assert phone.is_as_before()


def test_interrupted_run_leaves_nothing_behind(phone, exported, monkeypatch):
    def interrupt(_):
        raise KeyboardInterrupt

    monkeypatch.setattr("tflite_export.device.sleep", interrupt)
    with pytest.raises(KeyboardInterrupt):
        phone.bench(exported / "sound.tflite")
    assert phone.is_as_before()


def test_phone_that_says_nothing_is_given_up(phone, exported, monkeypatch):
    monkeypatch.setattr("tflite_export.device_adb._ANSWER_S", 2)
    phone.program("mkdir", "exec sleep 4")
    assert "has not answered" in phone.error(exported / "sound.tflite")


def test_rest_lies_between_the_runs(phone, exported, monkeypatch):
    rests = []
    monkeypatch.setattr("tflite_export.device.sleep", rests.append)
    phone.bench(exported / "sound.tflite", cooldown=7, runs=3)
    assert rests == [0, 7, 7]


# ----------------------------------------------------------------------------------------------- command line


def test_command_line_measures_on_the_phone(phone, exported, capsys):
    figures = phone.folder / "figures.json"
    words = ["bench", exported / "sound.tflite", exported / "tokens.tflite", "--device", f"adb:{SERIAL}"]
    words += ["--runner", phone.runner, "--cores", "big", "--cooldown", "0", "--runs", "1", "--json", figures]
    assert main([str(word) for word in words]) == 0
    assert "Android 14" in capsys.readouterr().out
    assert json.loads(figures.read_text())["abi"] == "arm64-v8a"


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


@pytest.mark.parametrize("rest", ["-1", "nan", "inf", "long"])
def test_command_line_refuses_a_rest_that_is_none(rest, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["bench", "model.tflite", "--cooldown", rest])
    assert stop.value.code == 2
    assert "--cooldown" in capsys.readouterr().err


def test_command_line_keeps_partial_figures_and_says_so(phone, exported, capsys):
    phone.set(lose_at=2)
    figures = phone.folder / "figures.json"
    words = [
        "bench",
        exported / "sound.tflite",
        "--device",
        "adb",
        "--runner",
        phone.runner,
        "--cooldown",
        "0",
    ]
    assert main([str(word) for word in [*words, "--json", figures]]) == 2
    shown = capsys.readouterr()
    assert "sound.tflite" in shown.out
    assert "broke off" in shown.err
    assert json.loads(figures.read_text())["rows"][0]["runs"] == 17
