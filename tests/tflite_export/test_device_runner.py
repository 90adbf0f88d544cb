"""benchmark_model: where it is found, which builds are refused, and what it can't run."""

import shutil

import pytest

from tests.tflite_export.phone.stand_in import elf


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
