"""A made-up set in SQuAD's form, with GloVe vectors of its words."""

import gzip
import json

import numpy as np
from squad_bidaf import batches, data, features, text

NAMES = ("Anna", "Bob", "Carla", "Dmitri")
CITIES = ("Oslo", "San José", "Rome", "Los Angeles")
SHAPES = batches.Shapes((30, 52, 70), question=12, letters=8, batch_size=4)


def article(number, questions=4):
    """Paragraphs that say who lives where since when, each with a question about every person."""
    lives = [(name, CITIES[(n + number) % 4], 1900 + 7 * number + n) for n, name in enumerate(NAMES)]
    context = " ".join(f"{name} (who's well) lives in {city} since {year}." for name, city, year in lives)
    context += " Nobody else lives there." * (number % 3)
    asked = [
        {
            "id": f"q{number}-{name}",
            "question": f"Where does {name} live?",
            "answers": [{"text": city, "answer_start": context.index(f"in {city}") + 3}],
        }
        for name, city, _ in lives[:questions]
    ]
    return {"title": f"article {number}", "paragraphs": [{"context": context, "qas": asked}]}


def write(path, content):
    packed = json.dumps(content).encode()
    path.write_bytes(gzip.compress(packed) if path.suffix == ".gz" else packed)
    return path


def folder_of(folder, train=10, dev=2):
    """Writes both sets and GloVe's vectors of their words."""
    sets = {
        "train": [article(n) for n in range(train)],
        "dev": [article(n + 100) for n in range(dev)],
    }
    for name, articles in sets.items():
        write(folder / f"{data.SETS[name]}.gz", {"version": "1.1", "data": articles})
    written = " ".join(a["paragraphs"][0]["context"] for a in sets["train"]) + "where does live ? zebra"
    words = sorted({piece.lower() for piece in text.pieces(written)} - {"who", "since"})
    np.save(folder / data.TABLE, np.random.default_rng(0).normal(size=(len(words), 50)).astype("float32"))
    (folder / data.TABLE).with_suffix(".words.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
    return folder


def make(folder):
    """The folder, both sets and their features."""
    folder_of(folder)
    paths = data.find(folder)
    squad = {part: data.read(paths[part]) for part in ("train", "dev")}
    return folder, squad, features.make(squad, paths["glove"])
