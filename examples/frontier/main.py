"""Draw the frontier: accuracy against multiply-adds, file size and latency for ISS, one-shot and magnitude pruning.

python examples/frontier/main.py --small --data DIR --output DIR [--seeds 0 1]

A run that ended early goes on with the same command; what is finished isn't done again.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Mapping
from pathlib import Path

if __package__ in (None, ""):  # run as a script
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import keras
import numpy as np
from runs import versions, write_json

import keras_iss
from frontier import cut, data, features, magnitude, measure
from frontier.model import Batches, Recipe, build, compile_model, start, tested, train

SMALL = Recipe()
LARGE = Recipe(units=512, start_epochs=60, epochs=24, copies=12)
SMOKE = Recipe(units=24, start_epochs=2, epochs=2, copies=1, targets=(0.6,), runs=10)
METHODS = ("iss", "one_shot", "cut", "tfmot", "in_one")
SMOKE_EVERY = 10  # of the recordings one in so many


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data", help="folder of the archive, or the archive (else $KERAS_ISS_DATA, else downloaded)"
    )
    parser.add_argument("--output", type=Path, default=Path("frontier"), help="where models and results go")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], metavar="N")
    parser.add_argument(
        "--methods", nargs="+", choices=METHODS, default=list(METHODS), metavar="METHOD", help=f"of {METHODS}"
    )
    parser.add_argument("--ramp-epochs", type=int, help="another ramp of ISS from the trained model")
    parser.add_argument(
        "--held-out", action="store_true", help="test on takes 5 to 9 of the training set: to choose settings"
    )
    parser.add_argument("--engine", choices=("auto", "ray", "here"), default="here", help="who trains")
    size = parser.add_mutually_exclusive_group()
    size.add_argument(
        "--small", action="store_true", help="for two CPU cores; without it, for a larger machine"
    )
    size.add_argument("--smoke", action="store_true", help="a minute on a tenth of the recordings")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    asked = arguments(argv)
    try:
        run(asked)
    except (data.ArchiveError, magnitude.MagnitudeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def run(asked: argparse.Namespace) -> None:
    recipe = SMOKE if asked.smoke else SMALL if asked.small else LARGE
    training, test = data.read(data.find(asked.data))
    if asked.held_out:
        training, test = data.held_out(training)
    if asked.smoke:
        training, test = training[::SMOKE_EVERY], test[::SMOKE_EVERY]
    asked.output.mkdir(parents=True, exist_ok=True)
    sets = features.load(training, test, copies=recipe.copies, snr=recipe.snr)
    sweeps = [one(recipe, *sets, seed, asked) for seed in asked.seeds]
    sweeps = measure.latency(sweeps, [asked.output / f"seed{seed}" for seed in asked.seeds], recipe.runs)
    for seed, found in zip(asked.seeds, sweeps, strict=True):
        result = {
            "command": command(seed, asked),
            "seed": seed,
            "versions": versions() | magnitude.versions(),
            "recipe": dataclasses.asdict(recipe),
            "digits": {"training": len(training), "test": len(test)},
            **found.to_dict(),
        }
        write_json(asked.output / f"seed{seed}.json", measure.without_folders(result))
    mean = measure.mean(sweeps)
    print(f"\n{mean}\n\n{measure.at_equal_metric(mean)}")
    mean.plot(asked.output / "frontier.png", log=True, log_metric=True)


def one(
    recipe: Recipe, training: features.Digits, test: features.Digits, seed: int, asked: argparse.Namespace
) -> keras_iss.Sweep:
    """All points of a seed, without their times."""
    folder = asked.output / f"seed{seed}"
    folder.mkdir(exist_ok=True)
    start(recipe, training, seed, folder / "start.keras")
    weights = keras.models.load_model(folder / "start.keras", compile=False).get_weights()
    swept = [method for method in ("iss", "one_shot") if method in asked.methods] or ["iss"]
    pruning = {"ramp_epochs": asked.ramp_epochs} if asked.ramp_epochs else {}
    found = sweep(
        recipe,
        training,
        test,
        seed,
        folder / "sweep",
        asked.engine,
        methods=swept,
        start=weights,
        pruning=pruning,
    )
    if "cut" in asked.methods:
        found = cut.add(found, test, folder / "cut")
    if "tfmot" in asked.methods:
        found = magnitude.add(found, recipe, training, test, weights, folder / "magnitude", seed)
    if "in_one" in asked.methods:
        whole = dataclasses.replace(
            recipe, epochs=recipe.start_epochs + recipe.epochs, fine_rate=recipe.learning_rate
        )
        whole = sweep(whole, training, test, seed, folder / "in_one", asked.engine, methods=["iss"])
        found = joined(found, whole)
    return measure.export(found, folder)


def sweep(
    recipe: Recipe,
    training: features.Digits,
    test: features.Digits,
    seed: int,
    folder: Path,
    engine: str,
    *,
    methods: list[str],
    start: list[np.ndarray] | None = None,
    pruning: Mapping[str, int] | None = None,
) -> keras_iss.Sweep:
    """The points of `keras_iss.sweep`: from a trained start, or each in one training from the beginning."""
    batches = Batches(training, recipe.batch_size, seed)

    def fresh() -> keras.Model:
        model = build(recipe)
        if start is not None:
            model.set_weights(start)
        compile_model(model, recipe.fine_rate, recipe.epochs * len(batches))
        return model

    def fit(model: keras.Model, callbacks: list) -> dict[str, float]:
        train(model, batches, recipe.epochs, callbacks)
        return tested(model, test)

    return keras_iss.sweep(
        fresh,
        fit,
        recipe.targets,
        folder=folder,
        methods=methods,
        trained=start is not None,
        pruning=pruning,
        monitor="misheard",
        seed=seed,
        engine=engine,
    )


def joined(found: keras_iss.Sweep, whole: keras_iss.Sweep) -> keras_iss.Sweep:
    """The first sweep with the ISS points of the second."""
    for row in whole.rows[1:]:
        found = found.add(
            f"in_one-{row.target!r}",
            method="ISS, in one training",
            target=row.target,
            metric=row.metric,
            macs=row.macs,
            parameters=row.parameters,
            units=row.units,
            path=row.path,
        )
    return found


def command(seed: int, asked: argparse.Namespace) -> str:
    """The command that gives this one result, on anyone's machine."""
    size = " --smoke" if asked.smoke else " --small" if asked.small else ""
    methods = "" if asked.methods == [*METHODS] else f" --methods {' '.join(asked.methods)}"
    more = f" --ramp-epochs {asked.ramp_epochs}" if asked.ramp_epochs else ""
    more += " --held-out" * asked.held_out
    return (
        f"KERAS_BACKEND={keras.backend.backend()} python examples/frontier/main.py{size} --data DIR --output DIR "
        f"--seeds {seed}{methods}{more}"
    )


if __name__ == "__main__":
    sys.exit(main())
