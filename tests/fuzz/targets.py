"""What is fuzzed: valid files, how they are damaged, and our code that reads them."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import os
import random
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tests.fuzz.mutations import some_bytes, some_json, some_text, some_zip

ROOT = Path(__file__).parents[2]
SILENCE_S = 20  # in place of tflite_export's, after which a stuck file is given up


class Refused(Exception):  # noqa: N818
    """The command line ended with one line and exit code 2."""


class Unexpected(Exception):  # noqa: N818 (a finding, not an error)
    """Our code neither took the file nor refused it as documented."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """One kind of input.

    Attributes:
        seeds: Writes valid files into a folder; it may load anything.
        damage: Valid bytes -> damaged ones.
        read: Reads a file; raises what isn't documented.
        expected: Names of the errors that are documented.
        preload: What is imported once, before the cases' processes are forked.
    """

    seeds: Callable[[Path], None]
    damage: Callable[[str, bytes, random.Random], bytes]
    read: Callable[[Path], None]
    expected: tuple[str, ...] = ()
    preload: tuple[str, ...] = field(default=("keras", "keras_iss", "keras_iss.__main__", "h5py"))


# ---------------------------------------------------------------------------------------------------- .keras


def _models(folder: Path) -> None:
    import keras
    from keras import layers

    import keras_iss

    def saved(name, model):
        model.compile("adam", "mse")
        model.save(folder / f"{name}.keras")

    def sequential(*stack):
        return keras.Sequential([keras.Input((6, 3)), *stack])

    saved("plain", sequential(layers.LSTM(4), layers.Dense(2)))
    both = layers.Bidirectional(layers.GRU(3, return_sequences=True))
    saved("deep", sequential(layers.Conv1D(4, 2), both, layers.BatchNormalization(), layers.SimpleRNN(3)))
    saved("own", sequential(keras_iss.layers.HLSTM(3, return_sequences=True), keras_iss.layers.RHN(2)))
    words = keras.Input((5,), dtype="int32")
    x = layers.Embedding(9, 4, mask_zero=True)(words)
    y, *states = layers.LSTM(4, return_state=True, return_sequences=True, dropout=0.1)(x)
    y = layers.LSTM(4)(layers.Concatenate()([y, x]), initial_state=states)
    saved("graph", keras.Model(words, layers.Dense(2)(keras.ops.tanh(y) * 2)))


def _damaged_member(name: str, content: bytes, rng: random.Random) -> bytes:
    if name.endswith(".json") and rng.random() < 0.5:
        return json.dumps(some_json(json.loads(content), rng)).encode(errors="replace")
    return some_bytes(content, rng)


def _damaged_config(name: str, data: bytes, rng: random.Random) -> bytes:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    config = some_json(json.loads(members["config.json"]), rng)
    members["config.json"] = json.dumps(config).encode(errors="replace")
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for member, content in members.items():
            archive.writestr(member, content)
    return packed.getvalue()


def _command_line(path: Path) -> None:
    """One of the commands that read a model, chosen by the file's bytes; it has to end in 0, or in 2 and one line."""
    from keras_iss.__main__ import main

    small = str(path.with_name("small.keras"))
    words = (
        ["trace", str(path)],
        ["report", str(path)],
        ["trace", str(path)],
        ["strip", str(path), "-o", small],
    )
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
        code = main(words[sum(path.read_bytes()) % len(words)])
    lines = [line for line in said.getvalue().splitlines() if not line.startswith("Note: ")]
    if (code, len(lines)) not in ((0, 0), (2, 1)) or not all(
        line.startswith("keras-iss: ") for line in lines
    ):
        raise Unexpected(f"exit code {code} and {len(lines)} lines: {lines[-3:]}")
    if "not enough memory" in "".join(lines):
        raise MemoryError(lines[0])
    if code:
        raise Refused(lines[0])


# --------------------------------------------------------------------------------------------------- .tflite


def _exports(folder: Path) -> None:
    import keras
    from keras import layers

    import tflite_export

    model = keras.Sequential([keras.Input((6, 40)), layers.LSTM(32, return_sequences=True), layers.Dense(40)])
    for name, options in {
        "float": {},
        "open": {"lowering": "loop"},
        "int8": {"quantize": "dynamic_int8", "time_steps": 6},
        "stream": {"streaming": True},
    }.items():
        tflite_export.export(model, folder / f"{name}.tflite", verify=False, **options)
    words = keras.Sequential([keras.Input((5,), dtype="int32"), layers.Embedding(9, 4), layers.GRU(3)])
    tflite_export.export(words, folder / "words.tflite", verify=False, time_steps=5)


def _tflite(path: Path) -> None:
    """Timing the file here, which opens and runs it; and telling what a phone would be fed."""
    from tflite_export.benchmark import benchmark
    from tflite_export.device_inputs import feed, model_inputs
    from tflite_export.errors import ExportError

    with contextlib.suppress(ExportError):
        _, _, wanted = model_inputs(path.read_bytes(), None, path)
        feed(wanted, {}, 16, path)
    sys.modules["tflite_export.benchmark"]._SILENCE_S = SILENCE_S
    benchmark([path], runs=1, warmup=0)


# ------------------------------------------------------------------------------------------------------- adb

_SAID = {
    "devices": "* daemon started successfully\nList of devices attached\nABC123\tdevice\n\n",
    "getprop": "[ro.product.model]: [Pixel 8]\n[ro.product.cpu.abilist]: [arm64-v8a,armeabi]\n"
    "[ro.build.version.release]: [14]\n[ro.soc.model]: [Tensor G3]",
    "cpufreq": "/sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq:1704000\n"
    "/sys/devices/system/cpu/cpu4/cpufreq/cpuinfo_max_freq:2914000",
    "thermalservice": "Cached temperatures:\nCurrent temperatures from HAL:\n"
    "\tTemperature{mValue=62.5, mType=0, mName=CPU0, mStatus=0}\nCurrent cooling devices from HAL:",
    "battery": "Current Battery Service state:\n  level: 80\n  temperature: 287",
    "base64": "EiUNMzPjQBUAAKBAHQAAQEElAACAPy0AAOBANQAAsEA9AAAQQUUAAIBATQAAcEEaBQiACBCAGCICEAU=",
    "wc -c": "{size}",
    "result_file_path": "INFO: STARTING!\nINFO: Initialized session in 1.5ms.\n"
    "INFO: count=5 first=700 curr=710 min=690 max=720 avg=701 std=8 p5=690 median=700 p95=719\n"
    "INFO: Inference timings in us: Init: 1500, First inference: 800, Warmup (avg): 720, Inference (avg): 701\n"
    "INFO: Memory footprint delta from the start of the tool (MB): init=1.2 overall=3.4",
    "benchmark_model": "/data/local/tmp/benchmark_model",
}


def _answers(folder: Path) -> None:
    for number, key in enumerate(_SAID):
        (folder / f"{number}.json").write_text(json.dumps({"said": _SAID, "spoil": key}))


def _damaged_answers(name: str, data: bytes, rng: random.Random) -> bytes:
    """One kind of answer is damaged, at times with the exit code behind it."""
    told = json.loads(data)
    key = told["spoil"] if rng.random() < 0.7 else rng.choice(list(_SAID))
    told["said"][key] = some_text(told["said"][key], rng)
    told["end"] = rng.choice(
        ("keras-iss-exit=0", "keras-iss-exit=0", "keras-iss-exit=1", "", "keras-iss-exit=x")
    )
    told["ends"] = key
    told["code"] = rng.choice((0, 0, 0, 1, 255))
    return json.dumps(told).encode()


def _adb(path: Path) -> None:
    """A whole measurement, and the readers of its texts by themselves."""
    from tflite_export import device_adb, device_output
    from tflite_export.device import benchmark_on_phone

    told = json.loads(path.read_bytes())
    said = told["said"]
    for text in said.values():
        device_output.read_text(text), device_output.ignored_flags(text), device_output.fault(text)
        device_output.read_result(text.encode())
    model = path.parents[1] / "float.tflite"

    def run(words, timeout):
        line = " ".join(words)
        keys = (
            ["devices"]
            if words[1:] == ["devices"]
            else [key for key in said if key != "devices" and key in line]
        )
        key = keys[0] if keys else None
        text = said[key].replace("{size}", str(model.stat().st_size)) if key else ""
        spoilt = key is not None and key == told["ends"]
        if "shell" in words:
            text += "\n" + (told["end"] if spoilt else "keras-iss-exit=0")
        if "get-state" in words:
            text = "device"
        return subprocess.CompletedProcess(words, told["code"] if spoilt else 0, text, "")

    device_adb._run = run
    device_adb._find_adb = lambda: "adb"
    report = benchmark_on_phone(
        [model], serial=None, threads=1, runs=5, warmup=1, inputs={}, runner=None, cores="big",
        cooldown=0.0, signature=None, open_steps=16,
    )  # fmt: skip
    str(report), json.dumps(report.to_dict())


# -------------------------------------------------------------------------------------------------- examples


def _data(folder: Path) -> None:
    rng = np.random.default_rng(0)
    sound = (1000 * rng.normal(size=200)).astype(">i2").tobytes()
    names = {"train": ["an4_clstk/fash/an251-fash-b"], "test": ["an4test_clstk/fcaw/an406-fcaw-b"]}
    for kind in ("raw", "sph"):
        head = b"NIST_1A\n   1024\nsample_rate -i 16000\nsample_byte_format -s2 01\nend_head\n".ljust(1024)
        with tarfile.open(folder / f"{kind}.an4.tar.gz", "w:gz") as archive:

            def add(name, content, archive=archive):
                member = tarfile.TarInfo(f"an4/{name}")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))

            for part, (name,) in names.items():
                add(f"etc/an4_{part}.fileids", f"{name}\n".encode())
                add(f"etc/an4_{part}.transcription", f"<s> YES </s> ({name.rpartition('/')[2]})\n".encode())
                add(f"wav/{name}.{kind}", (head if kind == "sph" else b"") + sound)
    asked = {"id": "1", "question": "Who?", "answers": [{"text": "dog", "answer_start": 2}]}
    squad = {"data": [{"title": "t", "paragraphs": [{"context": "A dog.", "qas": [asked] * 3}] * 2}]}
    (folder / "squad.json").write_text(json.dumps(squad))
    (folder / "squad.json.gz").write_bytes(gzip.compress(json.dumps(squad).encode()))
    (folder / "vectors.txt").write_text("".join(f"w{n} {' '.join(['0.5'] * 50)}\n" for n in range(3)))
    np.save(folder / "vectors.npy", np.ones((3, 50), "float32"))
    (folder / "ptb.txt").write_text(" the cat sat \n a dog <unk> N \n" * 5)
    np.savez(folder / "captioning.npz", names=np.array(["a.jpg", "b.jpg"]), features=np.ones((2, 4)))
    (folder / "captions.txt").write_text("a.jpg#0\tA dog .\nb.jpg#0\tA cat .\n")
    (folder / "vocabulary.json").write_text(json.dumps(["a", "dog"]))
    np.savez(folder / "masks.npz", **{"lstm/kernel": np.ones((3, 4), bool)})
    np.savez_compressed(folder / "inputs.npz", x=np.ones((2, 3)))
    np.save(folder / "inputs.npy", np.ones((2, 3)))


def _damaged_data(name: str, data: bytes, rng: random.Random) -> bytes:
    if name.endswith(".npz"):
        return some_zip(data, rng, lambda member, content, rng: some_bytes(content, rng))
    if name.endswith(".gz") and rng.random() < 0.8:
        return gzip.compress(some_bytes(gzip.decompress(data), rng))
    if name.endswith(".json") and rng.random() < 0.6:
        return json.dumps(some_json(json.loads(data), rng)).encode(errors="replace")
    if name.endswith(".txt") and rng.random() < 0.5:
        return some_text(data.decode(), rng).encode(errors="replace")
    return some_bytes(data, rng)


def _readers(path: Path) -> None:
    sys.path[:0] = [str(ROOT / "examples")]
    from keras_iss import loading, masking

    kind = path.name.partition("-")[2]
    if kind.endswith("an4.tar.gz"):
        from an4_speech import data, features

        data.read(path)
        features._read(path, "key")
    elif kind.startswith("squad"):
        from squad_bidaf import data

        data.read(path)
    elif kind.startswith("vectors"):
        from squad_bidaf import data

        (path.with_suffix(".words.txt")).write_text("w0\nw1\nw2\n")
        data.vectors(path, {"w0", "w2"})
    elif kind == "ptb.txt":
        from ptb_lm import data

        folder = path.with_name("ptb")
        folder.mkdir(exist_ok=True)
        for part in data.PARTS:
            (folder / data.name(part)).write_bytes(path.read_bytes())
        data.read(folder, other_text=True)
    elif kind in ("captioning.npz", "captions.txt"):
        from captioning import data

        folder = path.with_name("captioning")
        folder.mkdir(exist_ok=True)
        source = path.parents[1]
        for file, wanted in ((data.FEATURES, "captioning.npz"), (data.CAPTIONS, "captions.txt")):
            (folder / file).write_bytes((path if kind == wanted else source / wanted).read_bytes())
        for part in data.PARTS:
            (folder / f"{part}Images_filtered.txt").write_text("a.jpg\nb.jpg\n")
        data.read(folder)
    elif kind == "vocabulary.json":
        from captioning import data

        data.Vocabulary.load(path)
    elif kind == "masks.npz":
        masking.read_masks(path, {"lstm/kernel": (3, 4)})
    else:
        loading.load_arrays(path)


_EXAMPLES = ("an4_speech.data", "an4_speech.features", "squad_bidaf.data", "ptb_lm.data", "captioning.data")

TARGETS = {
    "keras_file": Target(
        seeds=_models,
        read=_command_line,
        damage=lambda name, data, rng: some_zip(data, rng, _damaged_member),
        expected=("Refused",),
    ),
    "config_json": Target(seeds=_models, read=_command_line, damage=_damaged_config, expected=("Refused",)),
    "tflite_file": Target(
        seeds=_exports,
        read=_tflite,
        damage=lambda name, data, rng: some_bytes(data, rng),
        expected=("ExportError",),
        preload=("tflite_export.benchmark", "tflite_export.device_inputs"),
    ),
    "adb_text": Target(
        seeds=lambda folder: (_exports(folder), _answers(folder))[0],
        read=_adb,
        damage=_damaged_answers,
        expected=("ExportError", "PhoneLostError"),
        preload=("tflite_export.device",),
    ),
    "data_readers": Target(
        seeds=_data,
        read=_readers,
        damage=_damaged_data,
        expected=("ArchiveError", "DataError", "TextError", "LoadingError", "masking:ValueError"),
        preload=("keras_iss.loading", "keras_iss.masking", *_EXAMPLES),
    ),
}


def prepare(target: Target) -> None:
    """What every case's process finds loaded."""
    import importlib

    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ["KERAS_ISS_MAX_GB"] = "0.25"
    sys.path[:0] = [str(ROOT / "examples")]
    for name in target.preload:
        importlib.import_module(name)
    if "keras_iss" in target.preload:
        import keras_iss

        _ = keras_iss.trace
