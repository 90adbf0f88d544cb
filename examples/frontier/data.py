"""The Free Spoken Digit Dataset: its recordings, read from the archive as it is."""

from __future__ import annotations

import dataclasses
import io
import os
import re
import wave
import zipfile
from pathlib import Path

import keras
import numpy as np

RATE = 8_000  # samples per second
NAME = "free-spoken-digit-dataset.zip"
ADDRESS = "https://github.com/Jakobovski/free-spoken-digit-dataset/archive/refs/heads/master.zip"
TEST_TAKES = range(5)  # the archive's README: recordings 0 to 4 of each digit and speaker are for testing
HELD_OUT_TAKES = range(5, 10)
_RECORDING = re.compile(r"(?:.*/)?recordings/(\d)_(\w+)_(\d+)\.wav")
_MOST = 1024**2  # bytes of a recording that are read; the longest has about 40,000


class ArchiveError(ValueError):
    """The archive is missing, or can't be read as FSDD."""


@dataclasses.dataclass(frozen=True)
class Recording:
    """One spoken digit.

    Attributes:
        digit: What is said, 0 to 9.
        speaker: Who says it.
        take: The number of the recording.
        samples: float32 in [-1, 1), 8,000 a second.
    """

    digit: int
    speaker: str
    take: int
    samples: np.ndarray


def find(given: str | os.PathLike | None) -> Path:
    """The archive's path: given (a file or a folder), in $KERAS_ISS_DATA, or downloaded from GitHub."""
    place = given or os.environ.get("KERAS_ISS_DATA")
    if place is None:
        return _download()
    tried = [Path(place), Path(place, NAME), Path(place, "fsdd", NAME)]
    for path in tried:
        if path.is_file():
            return path
    raise ArchiveError(
        f"No FSDD archive in {place}: expected {NAME} there or in its folder fsdd. Fetch it from {ADDRESS}"
    )


def _download() -> Path:
    try:
        return Path(keras.utils.get_file(NAME, origin=ADDRESS))
    except Exception as error:  # get_file raises a bare Exception where the address can't be reached
        raise ArchiveError(
            f"{ADDRESS} can't be downloaded ({error}). "
            "Fetch it on a machine that is online and name its folder with --data or KERAS_ISS_DATA."
        ) from error


def read(path: Path) -> tuple[list[Recording], list[Recording]]:
    """The recordings for training and those for testing, in the order of their names."""
    try:
        with zipfile.ZipFile(path) as archive:
            found = [
                _recording(archive, name) for name in sorted(archive.namelist()) if _RECORDING.fullmatch(name)
            ]
    except (OSError, zipfile.BadZipFile, zipfile.LargeZipFile, EOFError, wave.Error) as error:
        raise ArchiveError(
            f"{path} can't be read ({error}): it is damaged. Fetch it again from {ADDRESS}"
        ) from error
    training = [recording for recording in found if recording.take not in TEST_TAKES]
    test = [recording for recording in found if recording.take in TEST_TAKES]
    if not training or not test:
        raise ArchiveError(f"{path} is no FSDD archive: expected recordings/DIGIT_SPEAKER_TAKE.wav in it.")
    return training, test


def held_out(training: list[Recording]) -> tuple[list[Recording], list[Recording]]:
    """The training set's later takes and its first, to train and to test on where settings are chosen."""
    return (
        [recording for recording in training if recording.take not in HELD_OUT_TAKES],
        [recording for recording in training if recording.take in HELD_OUT_TAKES],
    )


def _recording(archive: zipfile.ZipFile, name: str) -> Recording:
    matched = _RECORDING.fullmatch(name)
    assert matched is not None
    if archive.getinfo(name).file_size > _MOST:
        raise ArchiveError(f"{name} has {archive.getinfo(name).file_size:,} bytes; expected a spoken digit.")
    with wave.open(io.BytesIO(archive.read(name))) as file:
        form = (file.getnchannels(), file.getsampwidth(), file.getframerate())
        if form != (1, 2, RATE):
            raise ArchiveError(
                f"{name} has {form[0]} channels of {8 * form[1]} bits, {form[2]} samples a second; expected 1, 16 and {RATE}."
            )
        samples = np.frombuffer(file.readframes(file.getnframes()), "<i2").astype("float32") / 32768
    digit, speaker, take = matched.groups()
    return Recording(int(digit), speaker, int(take), samples)
