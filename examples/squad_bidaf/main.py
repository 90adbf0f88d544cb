"""Train, make smaller, export and measure BiDAF on SQuAD 1.1; answer questions with an exported file.

python examples/squad_bidaf/main.py --small --data DIR --output DIR [--models baseline iss continued] [--seed N]
python examples/squad_bidaf/main.py answer --model FILE.tflite --context TEXT --question TEXT

A run that ended early goes on with the same command; what is finished isn't done again.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

if __package__ in (None, ""):  # run as a script
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import keras
import numpy as np
from runs import collect, keep_times, versions, write_json

import keras_iss
from squad_bidaf import answers, ask, batches, data, features, measure
from squad_bidaf import model as networks
from squad_bidaf.plans import MODELS, PLANS, Plan
from squad_bidaf.score import scores
from squad_bidaf.train import compile_model, train


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", help="folder of SQuAD and GloVe (else $KERAS_ISS_DATA, else downloaded)")
    parser.add_argument(
        "--output", type=Path, default=Path("squad-bidaf"), help="where models and results go"
    )
    parser.add_argument("--models", nargs="+", choices=MODELS, metavar="MODEL", help=" ".join(MODELS))
    parser.add_argument("--seed", type=int, default=0)
    size = parser.add_mutually_exclusive_group()
    for name, what in (
        ("small", "for two CPU cores; without it, for a GPU"),
        ("smoke", "a look at whether all of it runs"),
    ):
        size.add_argument(
            f"--{name}", dest="size", action="store_const", const=name, default="full", help=what
        )
    parser.add_argument("--epochs", type=int, help="another number of epochs from scratch than the plan's")
    asked = parser.parse_args(argv)
    asked.models = asked.models or list(PLANS[asked.size].files)
    return asked


def main(argv: list[str] | None = None) -> int:
    given = sys.argv[1:] if argv is None else argv
    if given[:1] == ["answer"]:
        return ask.main(given[1:])
    try:
        run(arguments(given))
    except data.DataError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


@dataclasses.dataclass(frozen=True)
class Material:
    """All that a training needs but the model."""

    features: features.Features
    squad: Mapping[str, data.Squad]  # the texts, "train" and "dev"
    plan: Plan

    def ask(
        self, part: str, rows: np.ndarray, predict: answers.Predict, batch_size: int | None = None
    ) -> dict[str, float]:
        """EM and F1 of the answers to some questions."""
        shapes = self.plan.answering
        if batch_size:
            shapes = dataclasses.replace(shapes, batch_size=batch_size)
        given = answers.answer_all(predict, self.features, part, self.squad[part], rows, shapes)
        asked = {self.squad[part].questions[row].name for row in rows}
        expected = {name: texts for name, texts in self.squad[part].expected().items() if name in asked}
        return scores(given, expected)


def run(asked: argparse.Namespace) -> None:
    material = gather(asked)
    for name in asked.models:
        one(name, material, asked)
    results = collect(asked.output)
    times = measure.latency(asked.output, results, _typical(material))
    keep_times(asked.output, results, times)
    print(f"\n{measure.table(results)}")


def gather(asked: argparse.Namespace) -> Material:
    """Reads the data, and writes the vocabulary that `answer` needs."""
    plan = PLANS[asked.size]
    if asked.epochs:
        plan = dataclasses.replace(plan, recipe=dataclasses.replace(plan.recipe, epochs=asked.epochs))
    asked.output.mkdir(parents=True, exist_ok=True)
    paths = data.find(asked.data)
    squad = {part: data.read(paths[part], plan.limit) for part in ("train", "dev")}
    if plan.limit is None:
        found = features.load(paths, squad, asked.output.resolve().parent / "squad_features.npz")
    else:
        found = features.make(squad, paths["glove"])
    found.vocabulary(plan.network.letters).save(asked.output / ask.VOCABULARY)
    return Material(found, squad, plan)


def one(name: str, material: Material, asked: argparse.Namespace) -> None:
    """Trains one model, strips, exports and tests it, and writes its result."""
    stem = asked.output / f"{name}-seed{asked.seed}"
    result = stem.with_name(stem.name + ".json")
    if result.is_file():
        print(f"{result} is there already.", flush=True)
        return
    print(f"\n{name}, seed {asked.seed}", flush=True)
    keras.utils.set_random_seed(asked.seed)
    plan, train_set = material.plan, material.features.train
    recipe = plan.recipe_of(name)
    rows, watched = batches.held_out(train_set, batches.usable(train_set, plan.shapes), plan.held_out)
    model = start(name, material, asked)
    pruning = plan.pruning_of(name, model)
    compile_model(model, recipe)
    watched, predict = watched[: plan.watched], predictor(model)

    def watch() -> dict[str, float]:
        return material.ask("train", watched, predict)

    curve = train(
        model,
        batches.Batches(material.features, train_set, rows, plan.shapes, recipe.steps, asked.seed),
        recipe,
        stem,
        watch=watch if len(watched) else None,
        callbacks=[keras_iss.callbacks.ISSPruning(**pruning)] if pruning else [],
    )
    small = keras_iss.strip(model, verify=plan.checked) if pruning else model
    small.save(stem.with_name(stem.name + ".keras"))
    files = measure.export(small, stem, plan.files[name], plan.checked)
    dev = np.arange(len(material.squad["dev"].questions))
    for kept in files.values():
        reader = ask.Reader(asked.output / kept["file"])
        kept |= material.ask("dev", dev[: plan.filed], reader.predict, batch_size=1)
    write_json(
        result,
        {
            "model": name,
            "seed": asked.seed,
            "command": command(name, asked),
            "tested_on": _tested_on(material),
            "versions": versions(),
            "network": dataclasses.asdict(plan.network),
            "recipe": dataclasses.asdict(recipe),
            "shapes": dataclasses.asdict(plan.shapes),
            "pruning": pruning,
            "questions": {
                "read": len(train_set.context),
                "unaligned": train_set.unaligned,
                "trained_on": len(rows),
                "held_out": len(watched),
            },
            "test": material.ask("dev", dev, predictor(small) if pruning else predict),
            "test_of_first": plan.filed,
            "sizes": measure.sizes(small),
            "files": files,
            "curve": curve,
        },
    )


def start(name: str, material: Material, asked: argparse.Namespace) -> keras.Model:
    """A new model, or the trained baseline."""
    if name == "baseline":
        return networks.build(material.plan.network, material.features.vectors)
    path = asked.output / f"baseline-seed{asked.seed}.keras"
    if not path.is_file():
        raise data.DataError(
            f"{path} is missing: {name!r} starts from it. Train it first, with --models baseline {name}."
        )
    return keras.models.load_model(path, compile=False)


def predictor(model: keras.Model) -> Callable[[Mapping[str, np.ndarray]], Any]:
    return networks.probabilities(model).predict_on_batch


def _tested_on(material: Material) -> str:
    asked, longest = len(material.squad["dev"].questions), material.plan.answering.contexts[-1]
    cut = int((material.features.dev.contexts.lengths[material.features.dev.context] > longest).sum())
    return f"{asked} questions of SQuAD 1.1's development set, {cut} of them about contexts cut after {longest} tokens"


def _typical(material: Material) -> dict[str, np.ndarray]:
    """A question of the development set whose context is of middle length, without padding."""
    found, shapes = material.features.dev, material.plan.answering
    lengths = found.contexts.lengths[found.context]
    row = np.argsort(lengths, kind="stable")[[len(lengths) // 2]]
    shapes = dataclasses.replace(shapes, question=int(found.questions.lengths[row][0]))
    return batches.inputs(material.features, found, row, int(lengths[row][0]), shapes)


def command(name: str, asked: argparse.Namespace) -> str:
    """The command that gives this one result, on anyone's machine."""
    size = "" if asked.size == "full" else f" --{asked.size}"
    epochs = f" --epochs {asked.epochs}" if asked.epochs else ""
    return (
        f"KERAS_BACKEND={keras.backend.backend()} python examples/squad_bidaf/main.py{size} --data DIR --output DIR "
        f"--models {name} --seed {asked.seed}{epochs}"
    )


if __name__ == "__main__":
    sys.exit(main())
