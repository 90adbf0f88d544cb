"""Train, strip, export and measure speech recognizers on AN4.

python examples/an4_speech/main.py --small --data DIR --output DIR [--models baseline hlstm gp iss] [--seed N]

A run that ended early goes on with the same command; what is finished isn't done again.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from pathlib import Path

if __package__ in (None, ""):  # run as a script
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import keras
from runs import collect, keep_times, versions, write_json

from an4_speech import data, decode, features, measure
from an4_speech import model as networks
from an4_speech.batches import Batches, Normalizer
from an4_speech.plans import MODELS, Plan, pick
from an4_speech.train import compile_model, train


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data", help="folder of the archive, or the archive (else $KERAS_ISS_DATA, else downloaded)"
    )
    parser.add_argument("--output", type=Path, default=Path("an4-speech"), help="where models and results go")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS), metavar="MODEL")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--small", action="store_true", help="for two CPU cores; without it, for a GPU")
    parser.add_argument("--epochs", type=int, help="another length than the plan's")
    parser.add_argument(
        "--held-out",
        type=float,
        default=0.0,
        metavar="SHARE",
        help="test on so much of the training set (whole speakers, not trained on): for choosing settings",
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    asked = arguments(argv)
    try:
        run(asked)
    except data.ArchiveError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def run(asked: argparse.Namespace) -> None:
    asked.output.mkdir(parents=True, exist_ok=True)
    cache = asked.output.parent / "an4_features.npz"
    training, test = features.load(data.find(asked.data), cache)
    if asked.held_out:
        training, test = features.split(training, data.held_out(training.speakers, asked.held_out))
    for name in asked.models:
        plan = pick(name, small=asked.small, epochs=asked.epochs, finished=collect(asked.output))
        one(name, plan, training, test, asked)
    results = collect(asked.output)
    times = measure.latency(asked.output, results)
    keep_times(asked.output, results, times)
    print(f"\n{measure.table(results)}\n\n{measure.summary(results)}")


def one(
    name: str, plan: Plan, training: features.Features, test: features.Features, asked: argparse.Namespace
) -> None:
    """Trains one model, strips, exports and tests it, and writes its result."""
    stem = asked.output / f"{name}-seed{asked.seed}"
    result = stem.with_name(stem.name + ".json")
    if result.is_file():
        print(f"{result} is there already.", flush=True)
        return
    print(f"\n{name}, seed {asked.seed}", flush=True)
    keras.utils.set_random_seed(asked.seed)
    normalize = Normalizer() if plan.network.bidirectional else Normalizer.of(training)
    recipe = plan.recipe
    batches = Batches(
        training, recipe.batch_size, normalize, recipe.augmentation, asked.seed, recipe.multiple
    )
    heard = Batches(test, recipe.batch_size, normalize, multiple=recipe.multiple)
    model = networks.build(plan.network)
    compile_model(model, recipe, len(batches))
    curve = train(model, batches, recipe, stem, heard=heard, callbacks=plan.callbacks())
    small = plan.strip(model)
    small.save(stem.with_name(stem.name + ".keras"))
    tested = {
        decoder.__name__: decode.rates(test.texts, decode.hear(small, heard, decoder))
        for decoder in (decode.greedy, decode.beam)
    }
    write_json(
        result,
        {
            "model": name,
            "seed": asked.seed,
            "command": command(name, asked),
            "tested_on": f"held-out speakers, {asked.held_out:.0%}" if asked.held_out else "AN4's test set",
            "versions": versions(),
            "network": dataclasses.asdict(plan.network),
            "recipe": dataclasses.asdict(recipe),
            "pruning": plan.pruning,
            "test": tested,
            "sizes": measure.sizes(small),
            "files": measure.export(small, stem, plan.quantize, not plan.network.bidirectional),
            "curve": curve,
        },
    )


def command(name: str, asked: argparse.Namespace) -> str:
    """The command that gives this one result, on anyone's machine."""
    small = " --small" if asked.small else ""
    epochs = f" --epochs {asked.epochs}" if asked.epochs else ""
    held = f" --held-out {asked.held_out:g}" if asked.held_out else ""
    return (
        f"KERAS_BACKEND={keras.backend.backend()} python examples/an4_speech/main.py{small} --data DIR --output DIR "
        f"--models {name} --seed {asked.seed}{epochs}{held}"
    )


if __name__ == "__main__":
    sys.exit(main())
