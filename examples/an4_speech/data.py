"""The AN4 archive: recordings and transcripts, whichever of the three published forms it comes in."""

from __future__ import annotations

import dataclasses
import gzip
import os
import re
import tarfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import BinaryIO, cast

import keras
import numpy as np

RATE = 16_000  # samples per second
ADDRESS = "http://www.speech.cs.cmu.edu/databases/an4/"
NAMES = ("an4_raw.bigendian.tar.gz", "an4_raw.littleendian.tar.gz", "an4_sphere.tar.gz")
SPHERE = b"NIST_1A"
_MOST = 1024**3  # bytes of an archive that are read; AN4 has about a tenth of that
_LINE = re.compile(r"(?:<s>)?\s*(.*?)\s*(?:</s>)?\s*\(([^()]+)\)\s*$")


class ArchiveError(ValueError):
    """The archive is missing, or can't be read as AN4."""


@dataclasses.dataclass(frozen=True)
class Utterance:
    """One recording.

    Attributes:
        name: As in the archive's lists, "an4_clstk/fash/an251-fash-b".
        text: What is said, capital letters and spaces.
        samples: int16, 16,000 a second.
    """

    name: str
    text: str
    samples: np.ndarray

    @property
    def speaker(self) -> str:
        return PurePosixPath(self.name).parent.name


@dataclasses.dataclass(frozen=True)
class Corpus:
    """The two sets of the archive, and the form its recordings came in ("big-endian" is the usual one)."""

    train: tuple[Utterance, ...]
    test: tuple[Utterance, ...]
    form: str


def find(given: str | os.PathLike | None) -> Path:
    """The archive's path: given (a file or a folder), in $KERAS_ISS_DATA, or downloaded from CMU."""
    place = given or os.environ.get("KERAS_ISS_DATA")
    if place is None:
        return _download()
    if Path(place).is_file():
        return Path(place)
    tried = [Path(place, folder, name) for folder in ("", "an4") for name in NAMES]
    for path in tried:
        if path.is_file():
            return path
    raise ArchiveError(
        f"No AN4 archive in {place}: expected {NAMES[0]} there or in its folder an4. Fetch it from {ADDRESS}"
    )


def _download() -> Path:
    try:
        return Path(keras.utils.get_file(NAMES[0], origin=ADDRESS + NAMES[0]))
    except Exception as error:  # get_file raises a bare Exception where the address can't be reached
        raise ArchiveError(
            f"{ADDRESS + NAMES[0]} can't be downloaded ({error}). "
            "Fetch it on a machine that is online and name its folder with --data or KERAS_ISS_DATA."
        ) from error


def read(path: str | os.PathLike) -> Corpus:
    """Reads an archive from its first byte to its last.

    Raises:
        ArchiveError: If it is truncated or damaged, isn't AN4, or holds recordings of a form that can't be read.
    """
    lists, recordings = _unpack(Path(path))
    form = _form(recordings)
    sets = {}
    for part in ("train", "test"):
        names = _list(lists, f"an4_{part}.fileids", path).split()
        texts = _transcripts(_list(lists, f"an4_{part}.transcription", path))
        if missing := [
            name for name in names if name not in recordings or name.rpartition("/")[2] not in texts
        ]:
            raise ArchiveError(
                f"{path} is incomplete: {len(missing)} of the {len(names)} recordings in an4_{part}.fileids or their "
                f"transcripts aren't there, {missing[0]} for one. Fetch it again from {ADDRESS}"
            )
        sets[part] = tuple(
            Utterance(name, texts[name.rpartition("/")[2]], _samples(recordings[name], name, form))
            for name in names
        )
    return Corpus(sets["train"], sets["test"], form)


def _unpack(path: Path) -> tuple[dict[str, str], dict[str, bytes]]:
    """The lists in etc/ by file name, and the recordings' bytes by the name that the lists have for them."""
    lists: dict[str, str] = {}
    recordings: dict[str, bytes] = {}
    try:
        with (
            gzip.open(path) as packed,
            tarfile.open(fileobj=cast(BinaryIO, _Measured(packed)), mode="r|") as archive,
        ):
            for member in archive:
                name = PurePosixPath(member.name)
                if not member.isfile() or member.issparse():
                    continue
                if name.suffix in (".fileids", ".transcription"):
                    lists[name.name] = archive.extractfile(member).read().decode("ascii")
                elif name.suffix in (".raw", ".sph"):
                    key = "/".join((*name.parts[-3:-1], name.stem))
                    recordings[key] = archive.extractfile(member).read()
    except (tarfile.TarError, EOFError, zlib.error, OSError, UnicodeDecodeError) as error:
        raise ArchiveError(
            f"{path} is truncated or damaged: {len(recordings)} recordings could be read, then: {error}. "
            f"Fetch it again from {ADDRESS}"
        ) from error
    return lists, recordings


class _Measured:
    """A file that ends with an error where it turns out to be far larger than AN4."""

    def __init__(self, file: gzip.GzipFile):
        self._file, self._size = file, 0

    def read(self, size: int) -> bytes:
        content = self._file.read(size)
        self._size += len(content)
        if self._size > _MOST:
            raise tarfile.ReadError(f"it unpacks to more than {_MOST:,} bytes, which AN4 does not")
        return content


def _list(lists: Mapping[str, str], name: str, path: str | os.PathLike) -> str:
    if name not in lists:
        raise ArchiveError(f"{path} is no AN4 archive: expected etc/{name} in it.")
    return lists[name]


def _transcripts(lines: str) -> dict[str, str]:
    """Words by recording: "<s> YES </s> (an251-fash-b)"; the test set's lines lack the marks."""
    found = filter(None, map(_LINE.match, lines.splitlines()))
    return {match[2]: match[1] for match in found}


def _form(recordings: Mapping[str, bytes]) -> str:
    """ "SPHERE", or the byte order in which the samples change less from one to the next.

    Speech is smooth; with its bytes exchanged it is noise of full amplitude.
    """
    if any(sound.startswith(SPHERE) for sound in recordings.values()):
        return "SPHERE"
    change = {"big-endian": 0.0, "little-endian": 0.0}
    for sound in recordings.values():
        whole = sound[: len(sound) // 2 * 2]
        for form, kind in (("big-endian", ">i2"), ("little-endian", "<i2")):
            change[form] += float(np.abs(np.diff(np.frombuffer(whole, kind).astype("int32"))).sum())
    return min(change, key=change.__getitem__)


def _samples(sound: bytes, name: str, form: str) -> np.ndarray:
    kind = "<i2" if form == "little-endian" else ">i2"
    if form == "SPHERE":
        kind, sound = _sphere(sound, name)
    if not sound or len(sound) % 2:
        raise ArchiveError(
            f"Recording {name} has {len(sound)} bytes; expected 16-bit samples, an even number."
        )
    return np.frombuffer(sound, kind).astype("int16")


def _sphere(sound: bytes, name: str) -> tuple[str, bytes]:
    """Sample type and samples of a NIST SPHERE file: a text header whose length stands in its second line."""
    try:
        length = int(sound.split(b"\n", 2)[1])
        lines = sound[:length].decode("ascii").split("end_head")[0].splitlines()[2:]
        header = dict(line.split(" ", 2)[::2] for line in lines if line.strip())
    except (IndexError, ValueError) as error:
        raise ArchiveError(f"Recording {name} has a damaged SPHERE header: {error}.") from error
    expected = {"sample_rate": str(RATE), "channel_count": "1", "sample_n_bytes": "2", "sample_coding": "pcm"}
    for field, value in expected.items():
        if header.get(field, value) != value:
            raise ArchiveError(
                f"Recording {name} is a SPHERE file with {field} {header[field]}; expected {value}. "
                f"Convert it with sph2pipe or take {NAMES[0]}."
            )
    order = {"10": ">i2", "01": "<i2"}.get(header.get("sample_byte_format", "01"), "<i2")
    return order, sound[length:]


def held_out(speakers: Sequence[str], share: float) -> list[bool]:
    """Which utterances to hold out, given who speaks each: whole speakers, until they make up `share`.

    Speakers whose initials differ by a number only (mdcs, mdcs2) stay together.
    """
    people = [speaker.rstrip("0123456789") for speaker in speakers]
    held: set[str] = set()
    for person in sorted({*people}, key=lambda name: zlib.crc32(name.encode())):
        if sum(p in held for p in people) >= share * len(people):
            break
        held.add(person)
    return [person in held for person in people]
