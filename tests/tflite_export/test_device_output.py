"""What benchmark_model printed over the years is read alike; see phone/SOURCES.md for where the texts come from."""

import struct
from pathlib import Path

import pytest

from tflite_export.device_output import Timing, fault, ignored_flags, read_result, read_text

TEXTS = Path(__file__).parent / "phone"
NEW = {
    "runs": 50,
    "avg_ms": 2.0602,
    "min_ms": 1.98,
    "median_ms": 2.03,
    "p95_ms": 2.25,
    "init_ms": 4.125,
    "first_ms": 3.5,
    "peak_mb": 5.5,
}


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        (
            "runner_2018.txt",
            {"runs": 50, "avg_ms": 2.1771, "min_ms": 2.056, "init_ms": 0.896, "first_ms": 12.231},
        ),
        (
            "runner_2020.txt",
            {
                "runs": 50,
                "avg_ms": 210.028,
                "min_ms": 209.739,
                "init_ms": 2.517,
                "first_ms": 217.409,
                "peak_mb": 26.6641,
            },
        ),
        ("runner_2025.txt", NEW),
        ("runner_2025_peak.txt", NEW),
        ("runner_litert.txt", {**NEW, "init_ms": 4.13}),
    ],
)
def test_every_generation_of_the_text_is_read(file, expected):
    timing = read_text((TEXTS / file).read_text())
    assert vars(timing) == pytest.approx({**vars(Timing(runs=0, avg_ms=0, min_ms=0)), **expected})


def test_the_whole_process_s_peak_counts_where_no_growth_is_told():
    text = (TEXTS / "runner_2025_peak.txt").read_text().replace("Memory footprint delta", "Something else")
    assert read_text(text).peak_mb == 11.25


def test_old_average_line_alone_tells_the_start():
    text = "count=9 first=5000 curr=1 min=1 max=5000 avg=9 std=1\ncount=2 first=1 curr=1 min=1 max=3 avg=2 std=1\n"
    timing = read_text(
        text + "Average inference timings in us: Warmup: 83235, Init: 38467, Inference: 79760.9"
    )
    assert (timing.init_ms, timing.first_ms) == (38.467, 5.0)


@pytest.mark.parametrize("same", ["count=1 curr=1500", "count=5 curr=1500(all same)"])
def test_calls_that_all_took_the_same_time_are_told_by_one_number(same):
    timing = read_text(f"INFO: {same} p5=1500 median=1500 p95=1500")
    assert (timing.min_ms, timing.avg_ms, timing.median_ms, timing.p95_ms) == (1.5, 1.5, 1.5, 1.5)


@pytest.mark.parametrize("text", ["", "INFO: STARTING!", "count=0", "INFO: count=0 p5=0 median=0 p95=0"])
def test_no_call_measured_is_no_timing(text):
    assert read_text(text) is None


def test_large_numbers_are_read_in_either_notation():
    text = "count=50 first=1200000 curr=1200000 min=1200000 max=1300000 avg=1.23457e+06 std=95"
    assert read_text(text).avg_ms == pytest.approx(1234.57)


RESULT = (
    b"\x0a\x04name"  # 1: name
    + b"\x12\x1e"  # 2: latency_metrics, 6 numbers of 5 bytes
    + b"".join(
        bytes([n << 3 | 5]) + struct.pack("<f", x)
        for n, x in {1: 7.5, 2: 5.0, 5: 7.0, 7: 9.0, 8: 4.0, 9: 15.0}.items()
    )
    + b"\x1a\x06\x08\x80\x08\x10\x80\x18"  # 3: memory_metrics, init_footprint_kb=1024, overall_footprint_kb=3072
    + b"\x22\x05\x10\xac\x02\x18\x05"  # 4: misc_metrics, num_runs=300, num_warmup_runs=5
)


def test_result_file_is_read():
    assert read_result(RESULT) == Timing(
        runs=300, avg_ms=7.5, min_ms=5, median_ms=7, p95_ms=9, init_ms=4, first_ms=15, peak_mb=3
    )


@pytest.mark.parametrize("size", [0, 3, 7, 20, len(RESULT) - 1])
def test_result_file_cut_short_tells_nothing(size):
    assert read_result(RESULT[:size]) is None


def test_flags_that_the_runner_ignored_are_found():
    text = "WARN: Unconsumed cmdline flags: --input_layer=i0 --input_layer_shape=1,16\nINFO: Graph: [--x]"
    assert ignored_flags(text) == ["input_layer", "input_layer_shape"]
    assert ignored_flags("INFO: STARTING!") == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "INFO: STARTING!\nERROR: Node number 57 (BATCH_MATMUL) failed to prepare.\nERROR: Benchmarking failed.",
            "Node number 57 (BATCH_MATMUL) failed to prepare.",
        ),
        ("Segmentation fault", "Segmentation fault"),
        ("", "it printed nothing"),
    ],
)
def test_fault_is_the_first_error(text, words):
    assert fault(text) == words
