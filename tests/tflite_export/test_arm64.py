"""Every kind of exported file computes the same on ARM64, in an emulated Python (benchmarks/arm64_check.py).

The emulated Python is about 450 MB of packages in the user's cache folder. It is fetched when the environment variable
KERAS_ISS_ARM64 is set, as .ci/run does, or by running the script once; without it the test is skipped.
"""

import importlib
import os
import sys
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = str(Path(__file__).parents[2] / "benchmarks")
sys.path.insert(0, BENCHMARKS)
arm64_check = importlib.import_module("arm64_check")
arm64_root = importlib.import_module("arm64_root")
sys.path.remove(BENCHMARKS)

MODELS = ("LSTM", "GRU", "Bidirectional")


@pytest.mark.arm64
def test_files_compute_the_same_on_arm64():
    cache = arm64_root.default_cache()
    if not arm64_root.is_ready(cache) and not os.environ.get("KERAS_ISS_ARM64"):
        pytest.skip("there is no ARM64 Python in the cache; python benchmarks/arm64_check.py fetches it")
    try:
        rows = arm64_check.check(cache, MODELS, ("fused",))
    except arm64_root.UnavailableError as error:
        pytest.skip(f"no ARM64 Python here, {error}")
    table = "\n".join(map(str, rows))
    assert "DIFFERS" not in {row.verdict for row in rows}, table
    made = {(row.model, row.quantize, row.streaming) for row in rows if row.verdict == "ok"}
    for quantize in ("float32", "float16", "dynamic_int8"):
        assert made >= {(model, quantize, False) for model in MODELS}, table
        assert made >= {(model, quantize, True) for model in MODELS if model != "Bidirectional"}, table


def row(quantize, here, there):
    job = {"model": "LSTM", "quantize": quantize, "streaming": False}
    return arm64_check.compare(job, {"y": np.array(here)}, {"y": np.array(there)})


@pytest.mark.parametrize(
    ("quantize", "here", "there", "verdict"),
    [
        ("float32", [0.5, -1.0], [0.5, -1.000009], "ok"),
        ("float32", [0.5, -1.0], [0.5, -1.00002], "DIFFERS"),
        ("float32", [100.0], [100.0005], "ok"),
        ("float16", [1.0], [1.00002], "DIFFERS"),
        ("dynamic_int8", [1.27, 0.0], [1.27, 0.009], "ok"),
        ("dynamic_int8", [1.27, 0.0], [1.27, 0.011], "DIFFERS"),
        ("int8", [12.7, 0.0], [12.7, 0.099], "ok"),
        ("int8", [12.7, 0.0], [12.7, 0.2], "DIFFERS"),
    ],
)
def test_tolerance_is_1e_5_or_one_step_of_the_output_s_scale(quantize, here, there, verdict):
    assert row(quantize, here, there).verdict == verdict


def test_difference_fails_the_script(monkeypatch, capsys):
    bad = row("float32", [0.0], [1.0])
    monkeypatch.setattr(arm64_check, "check", lambda cache, only: [bad])
    monkeypatch.setattr(sys, "argv", ["arm64_check.py"])
    assert arm64_check.main() == 1
    assert "DIFFERS" in capsys.readouterr().out


@pytest.mark.skipif(sys.platform != "linux", reason="asks for Linux's tools")
def test_missing_packages_are_one_line_and_no_failure(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(arm64_root.platform, "machine", lambda: "x86_64")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["arm64_check.py", "--cache", str(tmp_path / "cache")])
    assert arm64_check.main() == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("skipped: no ARM64 Python here, there is no apt-get")
    assert not (tmp_path / "cache" / "ready.json").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="asks for Linux's tools")
def test_failed_download_leaves_nothing_half_made(monkeypatch, tmp_path):
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("apt-get", "dpkg"):
        (tools / name).write_text("#!/bin/sh\necho 'E: Unable to locate package libc6:arm64' >&2\nexit 100\n")
        (tools / name).chmod(0o755)
    monkeypatch.setattr(arm64_root.platform, "machine", lambda: "x86_64")
    monkeypatch.setenv("PATH", f"{tools}:/usr/bin:/bin")
    with pytest.raises(arm64_root.UnavailableError, match="Unable to locate package libc6:arm64"):
        arm64_root.arm64_python(tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []
