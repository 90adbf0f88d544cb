"""Timing on a phone: rows, rounds, temperatures, cores; through a stand-in for adb (phone/adb.py)."""

import json
import shutil
from pathlib import Path

import pytest

from keras_iss.__main__ import main
from tests.tflite_export.phone.stand_in import HERE, SERIAL


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
    phone.program("dumpsys", f'[ $1 = battery ] && cat {HERE}/battery.txt || echo "Can\'t find service: $1"')
    assert phone.bench(exported / "sound.tflite").rows[0].temperature_c == 28.7


def test_sensors_at_zero_are_not_fitted(phone, exported):
    hal = "Current temperatures from HAL:\\n\\tTemperature{mValue=0.0, mType=0, mName=CPU, mStatus=0}"
    phone.program("dumpsys", f"[ $1 = battery ] && cat {HERE}/battery.txt || printf '{hal}\\n'")
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


def test_interrupted_run_leaves_nothing_behind(phone, exported, monkeypatch):
    def interrupt(_):
        raise KeyboardInterrupt

    monkeypatch.setattr("tflite_export.device.sleep", interrupt)
    with pytest.raises(KeyboardInterrupt):
        phone.bench(exported / "sound.tflite")
    assert phone.is_as_before()


def test_rest_lies_between_the_runs(phone, exported, monkeypatch):
    rests = []
    monkeypatch.setattr("tflite_export.device.sleep", rests.append)
    phone.bench(exported / "sound.tflite", cooldown=7, runs=3)
    assert rests == [0, 7, 7]


# The command line


def test_command_line_measures_on_the_phone(phone, exported, capsys):
    figures = phone.folder / "figures.json"
    words = ["bench", exported / "sound.tflite", exported / "tokens.tflite", "--device", f"adb:{SERIAL}"]
    words += ["--runner", phone.runner, "--cores", "big", "--cooldown", "0", "--runs", "1", "--json", figures]
    assert main([str(word) for word in words]) == 0
    assert "Android 14" in capsys.readouterr().out
    assert json.loads(figures.read_text())["abi"] == "arm64-v8a"


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
