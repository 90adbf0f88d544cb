"""The demo: train a character language model, remove units while it learns, export, time, and report.

Everything it needs is on the machine: the text is Python's own language reference.
"""

from __future__ import annotations

import json
import os
import platform
import time
from pathlib import Path
from typing import Any

from keras_iss.files import written_whole

__all__ = ["run"]

_LIMIT_SECONDS = {False: 480, True: 60}  # by quick


def run(
    output: str | os.PathLike[str], *, quick: bool = False, target: float = 0.6, seed: int = 0
) -> dict[str, Any]:
    """Runs the whole demo and writes its folder.

    Two trainings with the same first epochs and the same number of steps, one dense, one with `ISSPruning(target=...)`; then
    strip, export (Keras's own of the dense model; ours of both), quality of every file on unseen text, and times,
    batch 1, one thread, the files taking turns.

    Args:
        output: Folder for the models, the TFLite files, `results.json`, the plots and `report.html`. Made if missing;
            files of an earlier run are replaced.
        quick: A small model and little text, under a minute; its figures say nothing.
        target: Fraction of the multiply-adds per character to remove, above 0 and below 1.
        seed: Seed of the weights and of the order of the text.

    Returns:
        What `results.json` holds.

    Raises:
        ValueError: If `target` or `seed` is out of its range.
        OSError: If the folder can't be made or written.
    """
    if not 0 < target < 1:
        raise ValueError(
            f"Invalid value for argument target. Expected a number between 0 and 1. Received: target={target}"
        )
    if seed < 0:
        raise ValueError(
            f"Invalid value for argument seed. Expected a whole number of at least 0. Received: seed={seed}"
        )
    folder = _folder(output)
    started = time.perf_counter()
    _say(
        f"{'Quick demo' if quick else 'Demo'}: a character language model, {target:.0%} of its work to be removed"
    )

    from keras_iss.demo import training
    from keras_iss.demo.pipeline import work

    results = work(folder, training.QUICK if quick else training.Plan(), target=target, seed=seed)
    results |= {
        "quick": quick,
        "seed": seed,
        "target": target,
        "command": _command(output, quick, target, seed),
        "versions": _versions(),
    }
    results["seconds"]["total"] = time.perf_counter() - started
    results["checks"] = checks(results)
    _write(folder, results)
    _say(_summary(results))
    _say(f"Report: {folder / 'report.html'}")
    return results


def _folder(output: str | os.PathLike[str]) -> Path:
    folder = Path(output)
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"{folder} is a file: name a folder with --output")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(
            f"The folder {folder} can't be made ({error.strerror}): choose another one with --output"
        ) from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(f"Cannot write in the folder {folder}: choose another one with --output")
    return folder


def _command(output: str | os.PathLike[str], quick: bool, target: float, seed: int) -> str:
    words = ["keras-iss demo", f"--target {target:g}", f"--seed {seed}"]
    return " ".join(words + (["--quick"] if quick else []))


def _versions() -> dict[str, str]:
    from importlib import metadata

    import keras

    import keras_iss

    def of(name: str) -> str:
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            return "not installed"

    return {
        "python": platform.python_version(),
        "keras_iss": keras_iss.__version__,
        "keras": keras.__version__,
        "backend": keras.backend.backend(),
        "tensorflow": of("tensorflow"),
        "litert": of("ai-edge-litert"),
        "numpy": of("numpy"),
    }


def checks(results: dict[str, Any]) -> list[dict[str, Any]]:
    """The demo's aims, each with what this run measured and whether that meets it."""
    files, dense, small = results["files"], results["dense"], results["small"]
    limit, spent = _LIMIT_SECONDS[results["quick"]], results["seconds"]["total"]
    rows = [
        ("Multiply-adds per character removed", f"at least {results['target']:.0%}", f"{results['removed']:.1%}",
         round(results["removed"], 3) >= results["target"]),
        ("Bits per character, small model against dense, same steps", f"at most {dense['bits']:.3f} + 0.02",
         f"{small['bits']:.3f} ({small['bits'] - dense['bits']:+.3f})", small["bits"] <= dense["bits"] + 0.02),
        ("Small float32 file against Keras's export of the dense model", "at least 3.0× as fast",
         f"{files['small_float32']['speedup']:.2f}×", files["small_float32"]["speedup"] >= 3),
        ("Small 8-bit file against Keras's export of the dense model", "at least 6.0× as fast",
         f"{files['small_int8']['speedup']:.2f}×", files["small_int8"]["speedup"] >= 6),
        ("Largest difference of the float32 file from Keras", "at most 1e-5",
         f"{results['difference']:.1e}", results["difference"] <= 1e-5),
        ("Time of the whole run", f"under {limit / 60:.0f} min", f"{spent / 60:.1f} min", spent < limit),
    ]  # fmt: skip
    return [
        {"what": what, "target": wanted, "measured": got, "met": bool(met)} for what, wanted, got, met in rows
    ]


def _write(folder: Path, results: dict[str, Any]) -> None:
    from keras_iss.demo.page import render

    _replace(folder / "results.json", json.dumps(results, indent=2) + "\n")
    _replace(folder / "report.html", render(results))


def _replace(path: Path, text: str) -> None:
    with written_whole(path) as beside:
        beside.write_text(text, encoding="utf-8")


def _summary(results: dict[str, Any]) -> str:
    rows = [("", "wanted", "measured", "")]
    rows += [
        (c["what"], c["target"], c["measured"], "met" if c["met"] else "NOT MET") for c in results["checks"]
    ]
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
    lines.insert(1, "-" * max(map(len, lines)))
    if results["quick"]:
        lines.append("A quick run: it shows that everything works; its figures say nothing.")
    return "\n" + "\n".join(lines) + "\n"


def _say(text: str) -> None:
    print(text, flush=True)
