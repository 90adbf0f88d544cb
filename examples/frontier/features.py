"""Log-mel features of digits in noise: several noisy copies of each recording, drawn once with a seed."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import keras
import numpy as np
from keras import ops

from frontier.data import RATE, Recording

MELS = 40
STEPS = 32  # of 25 ms: 0.8 s; longer recordings are cut, shorter ones have noise after them
_HOP, _WINDOW = 200, 400  # 25 and 50 ms
_LENGTH = STEPS * _HOP
_FLOOR = 1e-6
_BATCH = 256


@dataclasses.dataclass(frozen=True)
class Digits:
    """Features and labels.

    Attributes:
        x: float32 (copies, recordings, steps, mels), of mean 0 and deviation 1.
        y: int32 (recordings,).
    """

    x: np.ndarray
    y: np.ndarray

    def all(self) -> tuple[np.ndarray, np.ndarray]:
        """All copies as one set."""
        return self.x.reshape(-1, *self.x.shape[2:]), np.tile(self.y, len(self.x))


def load(
    training: Sequence[Recording], test: Sequence[Recording], *, copies: int, snr: tuple[float, float]
) -> tuple[Digits, Digits]:
    """Both sets, normalized by the training set's mean and deviation in each band.

    Args:
        training, test: From `data.read`.
        copies: Noisy copies of each recording.
        snr: Lowest and highest ratio of speech to noise, in dB; each copy's is drawn between them.
    """
    x, held_out = (_noisy(part, copies, snr, seed) for seed, part in enumerate((training, test)))
    mean, deviation = x.mean((0, 1, 2)), x.std((0, 1, 2)) + 1e-6
    labels = [np.array([recording.digit for recording in part], "int32") for part in (training, test)]
    return Digits((x - mean) / deviation, labels[0]), Digits((held_out - mean) / deviation, labels[1])


def _noisy(part: Sequence[Recording], copies: int, snr: tuple[float, float], seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    speech = np.stack([_placed(recording.samples, 0.0) for recording in part])
    found = []
    for _ in range(copies):
        places = random.uniform(size=len(part))
        waves = np.stack([_placed(r.samples, place) for r, place in zip(part, places, strict=True)])
        noise = _coloured(random, len(part)) + _babble(random, speech)
        level = 10 ** (-random.uniform(*snr, size=(len(part), 1)) / 20)
        noise *= level * _loudness(waves) / (_loudness(noise) + 1e-9)
        found.append(_log_mel(waves + noise))
    return np.stack(found)


def _placed(samples: np.ndarray, place: float) -> np.ndarray:
    """The samples somewhere in 0.8 s: at the start for 0, at the end for 1."""
    kept = samples[:_LENGTH]
    before = int(place * (_LENGTH - len(kept)))
    return np.pad(kept, (before, _LENGTH - len(kept) - before))


def _loudness(waves: np.ndarray) -> np.ndarray:
    return np.sqrt((waves**2).mean(1, keepdims=True))


def _coloured(random: np.random.Generator, count: int) -> np.ndarray:
    """Noise whose power falls with the frequency, by a random exponent from 0 (white) to 2."""
    spectrum = np.fft.rfft(random.normal(size=(count, _LENGTH)))
    frequencies = np.maximum(np.fft.rfftfreq(_LENGTH), 1 / _LENGTH)
    noise = np.fft.irfft(spectrum * frequencies ** -random.uniform(0, 1, size=(count, 1)), _LENGTH)
    return (noise / _loudness(noise)).astype("float32")


def _babble(random: np.random.Generator, speech: np.ndarray) -> np.ndarray:
    """Three other recordings of the same set, on top of each other."""
    others = sum(speech[random.permutation(len(speech))] for _ in range(3))
    return np.roll(others / (_loudness(others) + 1e-9), _LENGTH // 3, axis=1)


def _log_mel(waves: np.ndarray) -> np.ndarray:
    mel = keras.layers.MelSpectrogram(
        fft_length=512,
        sequence_length=_WINDOW,
        sequence_stride=_HOP,
        sampling_rate=RATE,
        num_mel_bins=MELS,
        min_freq=60.0,
        max_freq=RATE / 2,
        power_to_db=False,
    )
    found = []
    for start in range(0, len(waves), _BATCH):
        batch = waves[start : start + _BATCH]
        padded = np.pad(batch, ((0, _BATCH - len(batch)), (0, 0)))  # one shape to compile
        power = ops.convert_to_numpy(ops.log(ops.maximum(mel(padded), _FLOOR)))
        found.append(power[: len(batch), :, :STEPS].transpose(0, 2, 1))
    return np.concatenate(found).astype("float32")
