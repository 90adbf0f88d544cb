#!/usr/bin/env python3
"""A stand-in for adb with one phone behind it, whose files lie in a folder of this computer.

Commands on the phone run in a real shell, with /data/local/tmp moved into that folder; the programs only a phone has
(getprop, dumpsys, taskset, benchmark_model) answer with the texts beside this file. What shall happen stands in
$PHONE/scenario.json; every call is noted in $PHONE/calls.jsonl. SOURCES.md says where each message comes from.
"""

import json
import os
import re
import sys

HERE = os.path.dirname(__file__)
PHONE = os.environ.get("PHONE", "")
FILES = f"{PHONE}/files"  # the phone's /data/local/tmp
RUNNER = re.compile(r"\S*/keras-iss-[0-9a-f]{16}/benchmark_model (--graph=.*)")


def read(file, mode="r"):
    with open(file, mode) as opened:
        return opened.read()


def write(file, data, mode="w"):
    with open(file, mode) as opened:
        opened.write(data)


SCENARIO = json.loads(read(f"{PHONE}/scenario.json")) if PHONE else {}


def state(name, value=None):
    """A number that outlives this call."""
    file = f"{PHONE}/{name}"
    if value is not None:
        write(file, str(value))
    return int(read(file)) if os.path.exists(file) else 0


def fail(message, code=1):
    print(message, file=sys.stderr)
    sys.exit(code)


def devices():
    print("* daemon not running; starting now at tcp:5037", file=sys.stderr)
    print("* daemon started successfully", file=sys.stderr)
    print("List of devices attached")
    for serial, how in SCENARIO["devices"].items():
        print(f"{serial}\t{how}")
    print()


def push(source, target):
    kind = SCENARIO.get("push", "")
    inside = FILES + target.removeprefix("/data/local/tmp")
    if kind == "full" and target.endswith(".tflite"):
        fail(
            f"adb: error: failed to copy '{source}' to '{target}': remote write failed: No space left on device\n"
            f"{source}: 0 files pushed, 0 skipped. 21.4 MB/s (65536 bytes in 0.003s)"
        )
    if kind == "cut" and target.endswith(".tflite"):
        write(inside, read(source, "rb")[:100], "wb")
    elif kind == "lost" and target.endswith(".tflite"):
        state("lost", 1)
        fail(f"adb: error: failed to copy '{source}' to '{target}': remote write failed: EOF")
    else:
        write(inside, read(source, "rb"), "wb")
    print(f"{source}: 1 file pushed, 0 skipped. 30.1 MB/s (1 bytes in 0.001s)")


def shell(command):
    started = RUNNER.search(command)
    if started:
        code, text = run(started[1], command)
    else:
        moved = command.replace("/data/local/tmp", FILES).replace("/sys/devices", f"{PHONE}/sys")
        os.environ["PATH"] = f"{PHONE}/bin:{os.environ['PATH']}"
        sys.stdout.flush()
        os.execv("/bin/sh", ["/bin/sh", "-c", moved])
    print(text)
    if code is None:  # the cable is out: nothing comes any more, not even an exit code
        sys.exit(255)
    print(f"keras-iss-exit={code}")


def run(words, command):
    """benchmark_model: its exit code, None where the cable was pulled, and what it prints."""
    start = state("starts", state("starts") + 1)
    flags = dict(re.findall(r"--(\w+)=('[^']*'|\S+)", words.partition(")")[0]))
    folder = f"{FILES}/{re.search(r'keras-iss-[0-9a-f]{16}', command)[0]}"
    note = {"command": command, "flags": flags, "files": sorted(os.listdir(folder))}
    write(f"{PHONE}/runs.jsonl", json.dumps(note) + "\n", "a")
    program = f"{folder}/benchmark_model"
    if not os.access(program, os.X_OK):
        return 126, f"/system/bin/sh: {program}: can't execute: Permission denied"
    if refused := SCENARIO.get("refused"):
        return 126, refused.format(program="/data/local/tmp/keras-iss/benchmark_model")
    if error := SCENARIO.get("runner_error"):
        return 1, error
    if SCENARIO.get("lose_at") == start:
        state("lost", 1)
        return None, "INFO: STARTING!\nINFO: Log parameter values verbosely: [0]"
    factors = SCENARIO.get("factors", [1])
    factor = factors[(start - 1) % len(factors)]
    lines = read(f"{HERE}/{SCENARIO.get('text', 'runner_2025.txt')}").splitlines()
    place = max((i for i, line in enumerate(lines) if "count=" in line), default=None)
    if place is not None:
        scaled = re.sub(r"(\w+)=([\d.]+)", lambda m: f"{m[1]}={float(m[2]) * factor:g}", lines[place])
        lines[place] = re.sub(r"count=\S+", f"count={flags['num_runs']}", scaled)
    if SCENARIO.get("result"):
        write(
            f"{folder}/{os.path.basename(flags['result_file_path'])}",
            result(int(flags["num_runs"]), factor),
            "wb",
        )
    if SCENARIO.get("unconsumed"):
        lines.insert(1, f"WARN: Unconsumed cmdline flags: {SCENARIO['unconsumed']}")
    return 0, "\n".join(lines)


def result(runs, factor):
    """A benchmark_result.proto with times of 7 ms median, 5 ms min, 9 ms p95."""

    import struct

    def number(field, value):
        return bytes([field << 3 | 5]) + struct.pack("<f", value)

    def whole(field, value):
        data = bytes([field << 3])
        while value > 127:
            data, value = data + bytes([value & 127 | 128]), value >> 7
        return data + bytes([value])

    def message(field, data):
        return bytes([field << 3 | 2, len(data)]) + data

    times = {1: 7.1, 2: 5, 3: 12, 4: 1, 5: 7, 6: 5.5, 7: 9}
    latency = b"".join(number(field, value * factor) for field, value in times.items())
    latency += number(8, 4) + number(9, 15) + number(10, 8)
    return message(2, latency) + message(3, whole(1, 1024) + whole(2, 3072)) + message(4, whole(2, runs))


def main():
    words = sys.argv[1:]
    write(f"{PHONE}/calls.jsonl", json.dumps(words) + "\n", "a")
    if SCENARIO.get("broken"):
        fail(SCENARIO["broken"])
    if words == ["devices"]:
        return devices()
    assert words[0] == "-s"
    serial, verb, *rest = words[1:]
    if state("lost"):
        if verb == "shell" and "rm -rf" in rest[0] and SCENARIO.get("back"):
            state("lost", 0)  # the cable is in again
        else:
            fail(f"adb: device '{serial}' not found")
    if verb == "get-state":
        print("device")
    elif verb == "push":
        push(*rest)
    elif verb == "shell":
        shell(" ".join(rest))
    else:
        fail(f"adb: unknown command {verb}")


if __name__ == "__main__":
    main()
