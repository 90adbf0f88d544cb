"""A small archive in AN4's layout whose words are tones."""

import io
import tarfile

import numpy as np

LETTERS = {"A": 400, "B": 1000, "C": 2500}  # a tone each, in Hz
WORDS = ("A", "B", "C", "A B", "B C A", "C A")
SPEAKERS = {"an4_clstk": ("fxyz", "mabc", "mabc2", "mdef"), "an4test_clstk": ("fuvw",)}
SPHERE = """NIST_1A
   1024
sample_count -i 16000
sample_rate -i 16000
channel_count -i 1
sample_n_bytes -i 2
sample_byte_format -s2 {order}
sample_coding -s{length} {coding}
end_head
"""


def tone(text):
    """0.2 s of quiet, then 0.25 s of each letter's tone with quiet after it; 16-bit."""
    quiet, time = np.zeros(1600), np.arange(4000) / 16000
    parts = [quiet, quiet]
    for letter in text.replace(" ", ""):
        parts += [8000 * np.sin(2 * np.pi * LETTERS[letter] * time), quiet]
    noise = np.random.default_rng(0).normal(size=sum(map(len, parts)))
    return (np.concatenate(parts) + 20 * noise).astype("int16")


def recorded(samples, form, coding="pcm"):
    """The bytes of a recording in one of the three published forms."""
    if form == "big-endian":
        return samples.astype(">i2").tobytes()
    if form == "little-endian":
        return samples.astype("<i2").tobytes()
    header = SPHERE.format(order="01", coding=coding, length=len(coding)).encode()
    return header.ljust(1024) + samples.astype("<i2").tobytes()


def archive(path, form="big-endian", *, spoil=lambda files: None, **how):
    """Writes a small archive in the official layout: six utterances of each speaker."""
    files = {}
    suffix = "sph" if form == "SPHERE" else "raw"
    for part, (folder, speakers) in zip(("train", "test"), SPEAKERS.items(), strict=True):
        names = [(f"{folder}/{s}/an{n}-{s}-b", text) for s in speakers for n, text in enumerate(WORDS)]
        marks = "<s> {} </s> ({})\n" if part == "train" else "{} ({})\n"
        files[f"etc/an4_{part}.fileids"] = "".join(f"{name}\n" for name, _ in names).encode()
        files[f"etc/an4_{part}.transcription"] = "".join(
            marks.format(text, name.rpartition("/")[2]) for name, text in names
        ).encode()
        files |= {f"wav/{name}.{suffix}": recorded(tone(text), form, **how) for name, text in names}
    spoil(files)
    with tarfile.open(path, "w:gz") as packed:
        for name, content in files.items():
            member = tarfile.TarInfo(f"an4/{name}")
            member.size = len(content)
            packed.addfile(member, io.BytesIO(content))
    return path
