"""The phone behind the stand-in for adb (adb.py): a folder of this computer."""

import json
from pathlib import Path

import pytest

import tflite_export

HERE = Path(__file__).parent
SERIAL = "37281FDJH0042A"
CLOCKS = [1803000] * 4 + [2253000] * 4 + [2802000]  # little, big and prime cores


def elf(machine, loader=b"/system/bin/linker64"):
    """The head of a program for that processor: e_machine stands at 18."""
    return b"\x7fELF\x02\x01\x01".ljust(18, b"\0") + machine.to_bytes(2, "little") + loader.ljust(200, b"\0")


class Phone:
    """A phone with two files of its user's in the folder for temporary ones, and a runner to be pushed."""

    def __init__(self, folder):
        self.folder, self.files = folder, folder / "files"
        self.files.mkdir()
        (self.files / "photo.jpg").write_text("the user's")
        (self.files / "keras-iss-of-someone-else").mkdir()
        for core, clock in enumerate(CLOCKS):
            place = folder / f"sys/system/cpu/cpu{core}/cpufreq"
            place.mkdir(parents=True)
            (place / "cpuinfo_max_freq").write_text(f"{clock}\n")
        self.program("getprop", f"cat {HERE}/getprop.txt")
        self.program("dumpsys", f"cat {HERE}/$1.txt")
        self.program("taskset", 'shift; exec "$@"')
        self.runner = folder / "benchmark_model"
        self.runner.write_bytes(elf(183))
        self.set()

    def program(self, name, script):
        file = self.folder / "bin" / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(f"#!/bin/sh\n{script}\n")
        file.chmod(0o755)

    def set(self, **scenario):
        scenario = {"devices": {SERIAL: "device"}, **scenario}
        (self.folder / "scenario.json").write_text(json.dumps(scenario))

    def read(self, name):
        file = self.folder / name
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    @property
    def runs(self):
        """How benchmark_model was started, each time."""
        return self.read("runs.jsonl")

    def is_as_before(self):
        there = sorted(path.name for path in self.files.iterdir())
        return there == ["keras-iss-of-someone-else", "photo.jpg"]

    def bench(self, *paths, **options):
        return tflite_export.benchmark(
            list(paths), **{"device": "adb", "runner": self.runner, "cooldown": 0, "runs": 1, **options}
        )

    def error(self, *paths, **options):
        with pytest.raises(tflite_export.ExportError) as caught:
            self.bench(*paths, **options)
        assert "\n" not in str(caught.value)
        return str(caught.value)
