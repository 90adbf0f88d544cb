"""adb, the phone and the cable between: what can be missing, broken, full or pulled; the phone is left as it was."""

import shutil
from pathlib import Path

import pytest

import tflite_export
from tests.tflite_export.phone.stand_in import SERIAL


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


def test_phone_that_says_nothing_is_given_up(phone, exported, monkeypatch):
    monkeypatch.setattr("tflite_export.device_adb._ANSWER_S", 2)
    phone.program("mkdir", "exec sleep 4")
    assert "has not answered" in phone.error(exported / "sound.tflite")
