"""Train, strip, export and measure language models on the Penn Treebank.

python examples/ptb_lm/main.py --size small --data DIR --output DIR [--models baseline iss direct ...] [--seed N]

A run that ended early goes on with the same command; what is finished isn't done again.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import shutil
import sys
from pathlib import Path

if __package__ in (None, ""):  # run as a script
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import keras
from runs import collect, keep_times, versions, write_json

import keras_iss
from ptb_lm import answer, data, measure
from ptb_lm.model import Network, build, copy_weights, network_of, plain
from ptb_lm.perplexity import Scorer
from ptb_lm.plans import MODELS, SIZES, Changes, Plan, PlanError, pick
from ptb_lm.train import compile_model, fit

SMOKE = ("iss",)
SMOKE_FILES = (("10x10", "dynamic_int8"), ("stream", None))
SMOKE_LINES = 300


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data", help="folder of ptb.train.txt and so on (else $KERAS_ISS_DATA, else downloaded)"
    )
    parser.add_argument("--output", type=Path, default=Path("ptb-lm"), help="where models and results go")
    parser.add_argument(
        "--models", nargs="+", choices=MODELS, metavar="MODEL", help=f"of {', '.join(MODELS)}"
    )
    parser.add_argument(
        "--size", choices=SIZES[:3], default="large", help="the published sizes (default: large)"
    )
    parser.add_argument(
        "--small", dest="size", action="store_const", const="small", help="the same as --size small"
    )
    parser.add_argument(
        "--smoke", dest="size", action="store_const", const="smoke", help="a minute on the text's first lines"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, help="another length than the plan's")
    parser.add_argument(
        "--removed", type=float, metavar="SHARE", help="another share to remove than the plan's"
    )
    parser.add_argument("--strength", type=float, help="another λ of iss_paper than the paper's")
    parser.add_argument(
        "--dropout", type=float, help="another dropout of wide and of what is learned from it"
    )
    parser.add_argument("--other-text", action="store_true", help="the files hold a text of your own")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    asked = arguments(argv)
    try:
        run(asked)
    except (data.TextError, PlanError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def run(asked: argparse.Namespace) -> None:
    smoke = asked.size == "smoke"
    corpus = data.read(data.find(asked.data), other_text=asked.other_text)
    if smoke:
        corpus = corpus.sliced(SMOKE_LINES)
    asked.output.mkdir(parents=True, exist_ok=True)
    write_json(asked.output / answer.VOCABULARY, corpus.words)
    names = asked.models or (SMOKE if smoke else MODELS)
    for name in names:
        one(name, corpus, asked)
    results = collect(asked.output)
    times = measure.latency(asked.output, results, runs=20 if smoke else 100)
    keep_times(asked.output, results, times)
    print(f"\n{measure.table(results)}\n")
    print(f"{names[-1]} goes on:", flush=True)
    file = asked.output / f"{names[-1]}-seed{asked.seed}.stream.float32.tflite"
    answer.main([str(file), "the company said"])


def one(name: str, corpus: data.Corpus, asked: argparse.Namespace) -> None:
    """Trains one model, exports and tests it, and writes its result."""
    stem = asked.output / f"{name}-seed{asked.seed}"
    result = stem.with_name(stem.name + ".json")
    if result.is_file():
        print(f"{result} is there already.", flush=True)
        return
    print(f"\n{name}, {asked.size}, seed {asked.seed}", flush=True)
    finished = [r for r in collect(asked.output) if (r["seed"], r["size"]) == (asked.seed, asked.size)]
    changes = Changes(asked.epochs, asked.removed, asked.strength, asked.dropout)
    plan = pick(name, asked.size, len(corpus.words), changes, finished)
    model, network, curve = learn(plan, corpus, asked.seed, stem)
    save(model, stem.with_name(stem.name + ".keras"))
    perplexity = {part: Scorer(network, getattr(corpus, part))(model) for part in ("valid", "test")}
    print(f"  perplexity: {perplexity['valid']:.2f} validation, {perplexity['test']:.2f} test", flush=True)
    write_json(
        result,
        {
            "model": name,
            "size": asked.size,
            "seed": asked.seed,
            "command": command(name, asked),
            "versions": versions(),
            "network": dataclasses.asdict(network),
            "started_as": dataclasses.asdict(plan.network),
            "recipe": dataclasses.asdict(plan.recipe),
            "pruning": plan.pruning and dataclasses.asdict(plan.pruning),
            "perplexity": perplexity,
            "sizes": measure.sizes(model),
            "files": measure.export(
                model, network, stem, SMOKE_FILES if asked.size == "smoke" else measure.FILES
            ),
            "curve": curve,
        },
    )
    shutil.rmtree(stem)  # the state of the training, which is over


def learn(
    plan: Plan, corpus: data.Corpus, seed: int, folder: Path
) -> tuple[keras.Model, Network, list[dict]]:
    """Trains by a plan, or goes on; returns the model, stripped where units were pruned, its network and its curve."""
    keras.utils.set_random_seed(seed)
    before, first, curve = None, 0, []
    if plan.pruning:
        before, first = pruned(plan, corpus, seed, folder), plan.pruning.epochs
    network = network_of(before, plan.network) if before else plan.network
    for stage in plan.stages():
        recipe, network = stage.recipe, dataclasses.replace(network, dropout=stage.dropout)
        model = build(network, recipe.batch, recipe.steps, stateful=True)
        if before:
            copy_weights(before, model)
        compile_model(model, recipe)
        scorer = Scorer(network, corpus.valid, recipe.batch)
        curve = fit(model, corpus.train, scorer, recipe, seed, folder, range(first, recipe.epochs))
        before, first = model, recipe.epochs
    return before, network, curve


def pruned(plan: Plan, corpus: data.Corpus, seed: int, folder: Path) -> keras.Model:
    """The small model that is left when the units are gone."""
    stripped = folder / "stripped.keras"
    if not stripped.is_file():
        recipe, network = plan.recipe, plan.network
        model = build(network, recipe.batch, recipe.steps, stateful=True)
        compile_model(model, recipe)
        scorer, callbacks = Scorer(network, corpus.valid, recipe.batch), [plan.pruning.callback(model)]
        fit(model, corpus.train, scorer, recipe, seed, folder, range(plan.pruning.epochs), callbacks)
        print(keras_iss.report(model), flush=True)
        save(keras_iss.strip(plain(model)), stripped)
    return keras.models.load_model(stripped, compile=False)


def save(model: keras.Model, path: Path) -> None:
    """Writes a whole model or none."""
    beside = path.with_name(f"{os.getpid()}-{path.name}")
    plain(model).save(beside)
    os.replace(beside, path)


def command(name: str, asked: argparse.Namespace) -> str:
    """The command that gives this one result, on anyone's machine."""
    given = {key: getattr(asked, key) for key in ("epochs", "removed", "strength", "dropout")}
    more = "".join(f" --{key} {value}" for key, value in given.items() if value is not None)
    more += " --other-text" * asked.other_text
    size = "--smoke" if asked.size == "smoke" else f"--size {asked.size}"
    return (
        f"KERAS_BACKEND={keras.backend.backend()} python examples/ptb_lm/main.py {size} --data DIR --output DIR "
        f"--models {name} --seed {asked.seed}{more}"
    )


if __name__ == "__main__":
    sys.exit(main())
