"""Timing: rows, reports, the worker's modesty, and files that aren't what they should be."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers

import tflite_export
from tflite_export import benchmark_worker

WORKER = Path(benchmark_worker.__file__)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    tokens = keras.Sequential([layers.Input((None,), name="ids"), layers.Embedding(3, 4), layers.LSTM(4)])
    sound = keras.Sequential([layers.Input((6, 3), name="sound"), layers.GRU(4)])
    tflite_export.export(tokens, folder / "tokens.tflite", verify=False)
    tflite_export.export(sound, folder / "sound.tflite", batch_size=2, verify=False)
    return folder


@pytest.fixture(scope="module")
def report(exported):
    return tflite_export.benchmark([exported / "tokens.tflite", exported / "sound.tflite"], runs=7, warmup=1)


def test_rows_are_in_the_order_of_the_files(report, exported):
    assert [Path(row.path).name for row in report.rows] == ["tokens.tflite", "sound.tflite"]
    for row in report.rows:
        assert 0 < row.min_ms <= row.median_ms <= row.p95_ms
        assert row.init_ms > 0
        assert row.first_ms > 0
        assert row.signature == "serving_default"
        assert row.peak_mb >= 0
        assert row.size_bytes == Path(row.path).stat().st_size
        assert (row.runs, row.threads) == (7, 1)
    assert [row.inputs for row in report.rows] == [{"ids": [1, 16]}, {"sound": [2, 6, 3]}]


def test_report_reads_as_a_table_and_is_written_in_every_form(report, tmp_path):
    lines = str(report).splitlines()
    assert "median ms" in lines[0]
    assert [line.split()[0] for line in lines[1:3]] == ["tokens.tflite", "sound.tflite"]
    report.to_json(tmp_path / "r.json")
    report.to_csv(tmp_path / "r.csv")
    report.plot(tmp_path / "r.png")
    stored = json.loads((tmp_path / "r.json").read_text())
    assert stored["rows"][1]["median_ms"] == report.rows[1].median_ms
    with open(tmp_path / "r.csv", newline="") as file:
        assert [float(row["min_ms"]) for row in csv.DictReader(file)] == [row.min_ms for row in report.rows]
    assert (tmp_path / "r.png").read_bytes().startswith(b"\x89PNG")


def test_report_into_a_missing_folder_is_an_error(report, tmp_path):
    for write in (report.to_json, report.to_csv, report.plot):
        with pytest.raises(tflite_export.ExportError, match="doesn't exist"):
            write(tmp_path / "missing" / "file.png")


def test_given_inputs_set_the_open_length(exported):
    one = tflite_export.benchmark(exported / "tokens.tflite", runs=1, inputs={"ids": np.ones((1, 40))})
    assert one.rows[0].inputs == {"ids": [1, 40]}


def test_any_signature_of_a_streaming_file_can_be_timed(tmp_path):
    model = keras.Sequential(
        [layers.Input((None, 3), name="sound"), layers.GRU(4, return_sequences=True, name="gru")]
    )
    tflite_export.export(model, tmp_path / "stream.tflite", streaming=True, verify=False)
    shapes = {
        None: {"sound": [1, 1, 3], "gru_h": [1, 4]},
        "sequence": {"sound": [1, 16, 3], "gru_h": [1, 4]},
        "initial_state": {},
    }
    for signature, expected in shapes.items():
        (row,) = tflite_export.benchmark(tmp_path / "stream.tflite", runs=2, signature=signature).rows
        assert (row.signature, row.inputs) == (signature or "step", expected)
        assert row.median_ms > 0


def test_whole_numbers_are_never_negative_and_floats_cast_to_zero():
    rng = np.random.default_rng(0)
    whole = benchmark_worker.values(np.int32, [500], rng)
    assert set(np.unique(whole)) == {0, 1}
    real = benchmark_worker.values(np.float32, [500], rng)
    assert set(np.unique(real.astype("int32"))) == {0}


def test_worker_imports_neither_tensorflow_nor_keras():
    code = (
        f"import runpy, sys; runpy.run_path({str(WORKER)!r}, run_name='worker');"
        "print(sorted({'tensorflow', 'keras', 'jax', 'torch', 'tflite_export'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_worker_ends_when_its_parent_is_gone(exported):
    worker = subprocess.Popen(
        [sys.executable, str(WORKER)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    order = {"path": str(exported / "sound.tflite"), "threads": 1, "inputs": None, "steps": 16}
    worker.stdin.write(json.dumps(order) + "\n")
    worker.stdin.flush()
    assert "init_ms" in json.loads(worker.stdout.readline())
    worker.stdin.close()
    assert worker.wait(timeout=20) == 0
    worker.stdout.close()


@pytest.fixture
def started(monkeypatch):
    """The processes that benchmark starts."""
    processes, popen = [], subprocess.Popen

    def start(*args, **kwargs):
        processes.append(popen(*args, **kwargs))
        return processes[-1]

    monkeypatch.setattr(subprocess, "Popen", start)
    return processes


@pytest.mark.parametrize("keep", [0.1, 0.5, 0.9, 0.999])
def test_file_cut_short_is_an_error_and_leaves_no_process(keep, exported, tmp_path, started):
    whole = (exported / "sound.tflite").read_bytes()
    broken = tmp_path / "broken.tflite"
    broken.write_bytes(whole[: int(keep * len(whole))])
    with pytest.raises(tflite_export.ExportError, match=r"broken\.tflite"):
        tflite_export.benchmark([exported / "sound.tflite", broken], runs=1)
    assert len(started) == 2
    assert all(process.poll() is not None for process in started)


def test_worker_that_dies_is_an_error(exported, started, monkeypatch, tmp_path):
    dying = tmp_path / "benchmark_worker.py"
    dying.write_text("import os; os.abort()")
    monkeypatch.setattr("tflite_export.benchmark.__file__", str(tmp_path / "benchmark.py"), raising=False)
    monkeypatch.setattr(sys.modules["tflite_export.benchmark"], "__file__", str(tmp_path / "benchmark.py"))
    with pytest.raises(tflite_export.ExportError, match=r"crashed on.*sound\.tflite"):
        tflite_export.benchmark(exported / "sound.tflite", runs=1)
    assert started[0].poll() is not None


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"device": "adb:"}, "device='adb:'"),
        ({"runner": "benchmark_model"}, "for a phone"),
        ({"cores": "big"}, "for a phone"),
        ({"signature": "step"}, "no signature 'step'.*'serving_default'"),
        ({"device": "moon"}, "device='moon'"),
        ({"threads": 0}, "threads=0"),
        ({"runs": 0}, "runs=0"),
        ({"warmup": -1}, "warmup=-1"),
        ({"runs": 1.5}, "runs=1.5"),
        ({"cooldown": -1}, "cooldown=-1"),
        ({"cooldown": float("nan")}, "cooldown=nan"),
        ({"inputs": [1]}, "dictionary"),
        ({"inputs": {"noise": np.ones((2, 6, 3))}}, "no input 'noise'.*'sound'"),
        ({"inputs": {"sound": np.ones((2, 6, 4))}}, "can't run"),
    ],
)
def test_bad_argument_gets_one_sentence(options, words, exported):
    with pytest.raises(tflite_export.ExportError, match=words) as caught:
        tflite_export.benchmark(exported / "sound.tflite", **{"runs": 1, **options})
    assert "\n" not in str(caught.value)


def test_bad_files_get_one_sentence(tmp_path):
    (tmp_path / "text.tflite").write_text("hello, world")
    for paths, words in (
        ([], "at least one"),
        ([tmp_path / "missing.tflite"], "No such file"),
        ([tmp_path], "Can't read"),
        ([tmp_path / "text.tflite"], "isn't a TFLite file"),
    ):
        with pytest.raises(tflite_export.ExportError, match=words):
            tflite_export.benchmark(paths)
