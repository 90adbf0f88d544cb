"""Train, strip, export and measure captioning models on Flickr8k; tell what is on an image.

python examples/captioning/main.py train --small --data DIR --output DIR [--models stacked gp_smallest] [--seed N]
python examples/captioning/main.py report --data DIR --output DIR
python examples/captioning/main.py compare --data DIR --output DIR [--dense stacked] [--compact gp_smallest]
python examples/captioning/main.py caption --model FILE --image NAME --data DIR

A training that ended early goes on with the same command; what is finished isn't done again.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
import time
from pathlib import Path

if __package__ in (None, ""):  # run as a script
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import keras
import numpy as np
from runs import collect, keep_times, versions, write_json

from captioning import data, measure, page, tell
from captioning import model as networks
from captioning.batches import Batches
from captioning.data import DataError, Images, Vocabulary
from captioning.plans import MODELS, TAUGHT, pick
from captioning.scoring import Scorer, difference
from captioning.train import CURVE, compile_model, train

SHOWN = 20  # test images whose captions a result holds
VOCABULARY = "vocabulary.json"


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    training = commands.add_parser("train", help="train, strip, export and score models")
    training.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS), metavar="MODEL")
    training.add_argument("--seed", type=int, default=0)
    training.add_argument("--epochs", type=int, help="another length than the plan's")
    size = training.add_mutually_exclusive_group()
    size.add_argument("--small", dest="size", action="store_const", const="small", help="for two CPU cores")
    size.add_argument(
        "--smoke", dest="size", action="store_const", const="smoke", help="a minute, on a slice"
    )
    training.set_defaults(size="large", run=train_all)
    reporting = commands.add_parser("report", help="time all files, print the table, write page.html")
    reporting.add_argument("--seed", type=int, default=0, help="of the page's models")
    reporting.set_defaults(run=report)
    comparing = commands.add_parser(
        "compare", help="the difference of two models' CIDEr and its standard error"
    )
    comparing.set_defaults(run=compare)
    for one in (reporting, comparing):
        one.add_argument("--dense", choices=MODELS, default="stacked", help="the large model")
        one.add_argument("--compact", choices=MODELS, default="gp_smallest", help="the compact model")
    for one in (training, reporting, comparing):
        one.add_argument(
            "--output", type=Path, default=Path("captioning"), help="where models and results go"
        )
    telling = commands.add_parser("caption", help="tell what is on images, with an exported file")
    telling.add_argument(
        "--model", type=Path, required=True, help="MODEL-seedN.KIND.tflite in the output folder"
    )
    telling.add_argument("--image", nargs="+", required=True, metavar="NAME", help="names in features.npz")
    telling.add_argument("--beam", type=int, default=1, help="beginnings kept; 1, the fastest, by default")
    telling.set_defaults(run=caption)
    for one in (training, reporting, comparing, telling):
        one.add_argument("--data", help="folder of the data (else $KERAS_ISS_DATA)")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    asked = arguments(argv)
    try:
        asked.run(asked)
    except DataError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def train_all(asked: argparse.Namespace) -> None:
    asked.output.mkdir(parents=True, exist_ok=True)
    images = data.read(data.find(asked.data))
    if asked.size == "smoke":
        images = {"train": images["train"].first(120), **{p: images[p].first(SHOWN) for p in ("dev", "test")}}
    for name in asked.models:
        one(name, images, asked)
    print(f"\n{measure.table(collect(asked.output))}")


def one(name: str, images: dict[str, Images], asked: argparse.Namespace) -> None:
    """Trains one model, strips, exports and tests it, and writes its result."""
    stem = asked.output / f"{name}-seed{asked.seed}"
    result = stem.with_name(stem.name + ".json")
    if result.is_file():
        print(f"{result} is there already.", flush=True)
        return
    print(f"\n{name}, seed {asked.seed}", flush=True)
    keras.utils.set_random_seed(asked.seed)
    plan = pick(name, asked.size, asked.epochs)
    recipe, training = plan.recipe, images["train"]
    vocabulary = Vocabulary.of(training.captions, recipe.threshold)
    vocabulary.save(asked.output / VOCABULARY)
    batches = Batches(training, vocabulary, recipe.batch_size, asked.seed)
    scale = float(0.5 / np.sqrt(np.mean(np.square(training.features))))
    trained = stem.with_name(stem.name + ".keras")
    if not trained.is_file():
        model = networks.build(plan.network, training.features.shape[1], len(vocabulary), scale)
        learning = with_teacher(model, plan.teacher, asked) if plan.teacher else model
        compile_model(learning, recipe, len(batches))
        pruning = plan.callbacks()
        train(
            learning,
            batches,
            images["dev"],
            vocabulary,
            recipe,
            stem,
            callbacks=pruning,
            keep_best=not pruning,
        )
        save(plan.strip(model), trained)
    small = keras.saving.load_model(trained, compile=False)
    told = {part: _told(small, images[part], vocabulary) for part in ("dev", "test")}
    captions = dict(zip(images["test"].names, told["test"]["beam"], strict=True))
    every = max(1, len(captions) // SHOWN)
    dev, test = (Scorer(images[part].captions) for part in ("dev", "test"))
    write_json(
        result,
        {
            "model": name,
            "seed": asked.seed,
            "command": command(name, asked),
            "versions": versions(),
            "network": dataclasses.asdict(plan.network),
            "recipe": dataclasses.asdict(recipe),
            "pruning": plan.pruning,
            "teacher": plan.teacher and {"model": plan.teacher, "share": TAUGHT},
            "images": {part: len(images[part]) for part in data.PARTS},
            "beam_width": tell.WIDTH,
            "dev": {search: {"CIDEr": dev.cider(said)} for search, said in told["dev"].items()},
            "losses": measure.losses(small, images["dev"], vocabulary, recipe),
            "test": {search: test.all(said) for search, said in told["test"].items()},
            "sizes": measure.sizes(small),
            "files": measure.export(small, stem, plan.quantize, images["test"], vocabulary),
            "captions": {image: captions[image] for image in list(captions)[::every][:SHOWN]},
            "curve": json.loads((stem / CURVE).read_text(encoding="utf-8")),
        },
    )


def with_teacher(model: keras.Model, name: str, asked: argparse.Namespace) -> keras.Model:
    """What trains the model with another one of the output folder as its teacher."""
    path = asked.output / f"{name}-seed{asked.seed}.keras"
    if not path.is_file():
        raise DataError(f"{path} isn't there, the model to learn from. Train it first: --models {name}")
    return networks.Taught(model, keras.saving.load_model(path, compile=False), TAUGHT)


def save(model: keras.Model, path: Path) -> None:
    """Writes a whole file or none."""
    beside = path.with_name(f"{os.getpid()}-{path.name}")
    model.save(beside)
    os.replace(beside, path)


def _told(model: keras.Model, images: Images, vocabulary: Vocabulary) -> dict[str, list[str]]:
    teller = tell.KerasTeller(model)
    return {
        search.__name__: tell.captions(teller, images.features, vocabulary, search)
        for search in (tell.greedy, tell.beam)
    }


def command(name: str, asked: argparse.Namespace) -> str:
    """The command that gives this one result, on anyone's machine."""
    size = "" if asked.size == "large" else f" --{asked.size}"
    epochs = f" --epochs {asked.epochs}" if asked.epochs else ""
    return (
        f"KERAS_BACKEND={keras.backend.backend()} python examples/captioning/main.py train{size} --data DIR "
        f"--output DIR --models {name} --seed {asked.seed}{epochs}"
    )


def report(asked: argparse.Namespace) -> None:
    results = collect(asked.output)
    if not results:
        raise DataError(f"No result in {asked.output}. Train a model first, with the same --output.")
    test = data.read(data.find(asked.data))["test"]
    times = measure.latency(asked.output, results, test.first(50).features)
    keep_times(asked.output, results, times)
    print(measure.table(results))
    by_name = {(r["model"], r["seed"]): r for r in results}
    pair = [by_name.get((name, asked.seed)) for name in (asked.dense, asked.compact)]
    if None in pair:
        print(f"No page: it needs results of {asked.dense} and {asked.compact} with seed {asked.seed}.")
        return
    path = asked.output / "page.html"
    page.write(path, page.page(*pair, dict(zip(test.names, test.captions, strict=True))))
    print(f"\n{path}")


def compare(asked: argparse.Namespace) -> None:
    images = data.read(data.find(asked.data))
    vocabulary = Vocabulary.load(asked.output / VOCABULARY)
    compact, dense = (measure.float_files(asked.output, name) for name in (asked.compact, asked.dense))
    print(" and ".join(f.name for f in compact), "against", " and ".join(f.name for f in dense), flush=True)
    for part in ("dev", "test"):
        scorer = Scorer(images[part].captions)
        for search in (tell.greedy, tell.beam):
            scores = (
                [measure.cider_of_each(file, images[part], vocabulary, scorer, search) for file in files]
                for files in (compact, dense)
            )
            higher, error = difference(*scores)
            print(
                f"{part}, {search.__name__}: CIDEr {higher:+.3f}, standard error over the images {error:.3f}",
                flush=True,
            )


def caption(asked: argparse.Namespace) -> None:
    folder = data.find(asked.data)
    vocabulary = Vocabulary.load(asked.model.parent / VOCABULARY)
    teller = tell.FileTeller(asked.model)
    for image in asked.image:
        features = data.feature(folder, image)
        started = time.perf_counter()
        (numbers,) = tell.beam(teller, features, width=asked.beam)
        milliseconds = 1000 * (time.perf_counter() - started)
        print(f"{image}: {vocabulary.decode(numbers)}  ({len(numbers)} words, {milliseconds:.1f} ms)")


if __name__ == "__main__":
    sys.exit(main())
