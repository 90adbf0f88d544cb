"""Files that several tests read, and the phone that they are measured on."""

import os
import stat
import sys

import keras
import pytest
from keras import layers

import tflite_export
from tests.tflite_export.phone.stand_in import HERE, Phone


@pytest.fixture(scope="session")
def exported(tmp_path_factory):
    """A folder of three files: with floats, with token ids, and with whole numbers of unknown range as input."""
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


@pytest.fixture
def phone(tmp_path, monkeypatch):
    """A phone that adb finds, and nothing else in the environment that the choice of a phone depends on."""
    tools = tmp_path / "tools"
    tools.mkdir()
    adb = tools / "adb"
    adb.write_text(f'#!/bin/sh\nexec {sys.executable} -I -S {HERE / "adb.py"} "$@"\n')
    adb.chmod(adb.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    monkeypatch.setenv("PHONE", str(tmp_path))
    for name in ("ANDROID_SERIAL", "ANDROID_HOME", "ANDROID_SDK_ROOT", "KERAS_ISS_RUNNER"):
        monkeypatch.delenv(name, raising=False)
    return Phone(tmp_path)
