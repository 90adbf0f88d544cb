"""A made-up text in the Penn Treebank's files."""

import numpy as np
from ptb_lm import data

SUBJECTS, VERBS = ("the dog", "a cat", "the N men"), ("sees", "sold", "wants")
OBJECTS = ("a house", "the <unk> share", "N dollars")


def sentences(count, seed):
    """So many of the 27 sentences."""
    random = np.random.default_rng(seed)
    return [" ".join(random.choice(part) for part in (SUBJECTS, VERBS, OBJECTS)) for _ in range(count)]


def write(folder):
    """The three files, each line between blanks."""
    for seed, (part, count) in enumerate({"train": 400, "valid": 40, "test": 40}.items()):
        lines = "".join(f" {sentence} \n" for sentence in sentences(count, seed))
        (folder / data.name(part)).write_text(lines)
    return folder
