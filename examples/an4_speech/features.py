"""Log-mel features of every utterance, at several speeds, computed once and kept in a file."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np
from keras import ops

from an4_speech import data

MELS = 64
SPEEDS = (88, 94, 100, 106, 112)  # percent; of the training set only
FLOOR = 1e-6  # least power, about that of the recordings' rounding
_BATCH = 16
_HOP, _WINDOW = 160, 400  # 10 and 25 ms


@dataclasses.dataclass(frozen=True)
class Features:
    """The natural logarithm of the power in 64 mel bands, 100 frames a second.

    Attributes:
        frames: Speed in percent -> per utterance an array (frames, 64), float16.
        texts, speakers: Per utterance.
    """

    frames: dict[int, list[np.ndarray]]
    texts: list[str]
    speakers: list[str]

    def __len__(self) -> int:
        return len(self.texts)


def log_mel(waves: Sequence[np.ndarray], report=lambda count: None) -> list[np.ndarray]:
    """Features of waveforms.

    Args:
        waves: Per utterance the samples in [-1, 1), 16,000 a second.
        report: Called with the number of utterances just done.

    Returns:
        Per utterance an array (1 + samples // 160, 64), float16.
    """
    mel = keras.layers.MelSpectrogram(
        fft_length=512,
        sequence_length=_WINDOW,
        sequence_stride=_HOP,
        sampling_rate=data.RATE,
        num_mel_bins=MELS,
        power_to_db=False,
    )
    found: list[np.ndarray] = [np.empty(0)] * len(waves)
    order = sorted(range(len(waves)), key=lambda i: len(waves[i]))
    for start in range(0, len(order), _BATCH):
        chosen = order[start : start + _BATCH]
        longest = -(-len(waves[chosen[-1]]) // data.RATE) * data.RATE  # whole seconds: few shapes to compile
        batch = np.zeros((_BATCH, longest), "float32")
        for row, i in zip(batch, chosen, strict=False):
            row[: len(waves[i])] = waves[i]
        power = ops.convert_to_numpy(ops.log(ops.maximum(mel(batch), FLOOR)))
        for row, i in zip(power, chosen, strict=False):
            found[i] = row[:, : 1 + len(waves[i]) // _HOP].T.astype("float16")
        report(len(chosen))
    return found


def at_speed(samples: np.ndarray, percent: int) -> np.ndarray:
    """Samples in [-1, 1), played at a speed (pitch and all) of so many percent."""
    from scipy.signal import resample_poly

    wave = samples.astype("float32") / 32768
    return wave if percent == 100 else resample_poly(wave, 100, percent).astype("float32")


def of(utterances: Sequence[data.Utterance], speeds: Sequence[int], title: str) -> Features:
    """Computes the features of utterances at each speed, with a progress bar."""
    bar = keras.utils.Progbar(
        len(speeds) * len(utterances), verbose=1 if sys.stdout.isatty() else 2, unit_name="utterance"
    )
    print(f"Features of the {title} set", flush=True)
    frames = {s: log_mel([at_speed(u.samples, s) for u in utterances], bar.add) for s in speeds}
    return Features(frames, [u.text for u in utterances], [u.speaker for u in utterances])


def load(archive: Path, cache: Path) -> tuple[Features, Features]:
    """Features of the training set (all speeds) and of the test set (as spoken).

    Args:
        archive: The AN4 archive.
        cache: An .npz file: read if it is of this archive and these settings, else written.
    """
    key = _key(archive)
    kept = _read(cache, key)
    if kept is None:
        corpus = data.read(archive)
        if corpus.form != "big-endian":
            print(f"{archive.name} holds {corpus.form} recordings; they are read as such.", flush=True)
        kept = of(corpus.train, SPEEDS, "training"), of(corpus.test, (100,), "test")
        _write(cache, key, kept)
    return kept


def _key(archive: Path) -> str:
    settings = repr((MELS, SPEEDS, FLOOR, _WINDOW, _HOP, archive.name, archive.stat().st_size))
    return hashlib.sha256(settings.encode()).hexdigest()


def _write(cache: Path, key: str, parts: tuple[Features, Features]) -> None:
    arrays: dict[str, np.ndarray] = {"key": np.array(key)}
    for part, features in zip(("train", "test"), parts, strict=True):
        arrays[f"{part}_texts"] = np.array(features.texts)
        arrays[f"{part}_speakers"] = np.array(features.speakers)
        for speed, frames in features.frames.items():
            arrays[f"{part}_{speed}"] = np.concatenate(frames)
            arrays[f"{part}_{speed}_ends"] = np.cumsum([len(f) for f in frames])
    cache.parent.mkdir(parents=True, exist_ok=True)
    beside = cache.with_name(f".{os.getpid()}-{cache.name}")
    try:
        np.savez(beside, **arrays)  # pyright: ignore[reportArgumentType]
        os.replace(beside, cache)
    finally:
        beside.unlink(missing_ok=True)


def _read(cache: Path, key: str) -> tuple[Features, Features] | None:
    """What the file holds; None if there is none, it is damaged, or it is of something else."""
    try:
        return _parts(cache, key)
    except Exception:  # a damaged file fails in many ways
        return None


def _parts(cache: Path, key: str) -> tuple[Features, Features] | None:
    with np.load(cache, allow_pickle=False) as kept:
        if str(kept["key"]) != key:
            return None

        def part(name: str, speeds: Sequence[int]) -> Features:
            frames = {s: np.split(kept[f"{name}_{s}"], kept[f"{name}_{s}_ends"][:-1]) for s in speeds}
            return Features(frames, kept[f"{name}_texts"].tolist(), kept[f"{name}_speakers"].tolist())

        return part("train", SPEEDS), part("test", (100,))


def split(features: Features, held: Sequence[bool]) -> tuple[Features, Features]:
    """The utterances that aren't held out, and those that are."""

    def part(wanted: bool) -> Features:
        rows = [i for i, h in enumerate(held) if bool(h) is wanted]
        frames = {speed: [all_of[i] for i in rows] for speed, all_of in features.frames.items()}
        return Features(frames, [features.texts[i] for i in rows], [features.speakers[i] for i in rows])

    return part(False), part(True)
