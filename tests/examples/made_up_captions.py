"""A made-up set in Flickr8k's files: images of an animal of a colour at a place, each with five captions."""

import itertools

import numpy as np
from captioning import data

COLOURS, ANIMALS, PLACES = ("black", "brown", "white"), ("cat", "dog", "horse"), ("Grass", "sand", "snow")
THINGS = list(itertools.product(COLOURS, ANIMALS, PLACES))


def described(thing):
    """Five captions of an animal of a colour at a place, the longest longer than any that is learned whole."""
    colour, animal, place = thing
    return [
        f"A {colour} {animal} is on the {place} .",
        f"A {colour} {animal} on {place} !",
        f"The {animal} is {colour} , on {place}",
        f"{colour} {animal}",
        f"A {colour} {animal} runs " + "and runs " * 9 + f"on the {place} .",
    ]


def write(folder):
    """54 images, two of each thing; what is on one can be told from its features."""
    random = np.random.default_rng(0)
    parts = {"train": THINGS * 2, "dev": THINGS[::3], "test": THINGS[1::3]}
    names, features, lines = [], [], []
    for part, things in parts.items():
        mine = [f"{part}_{n}.jpg" for n in range(len(things))]
        (folder / f"{part}Images_filtered.txt").write_text("\n".join(mine) + "\n")
        for name, thing in zip(mine, things, strict=True):
            hot = [float(kind in thing) for kind in (*COLOURS, *ANIMALS, *PLACES)]
            features.append(np.array(hot) + 0.1 * random.random(9))
            lines += [f"{name}#{n}\t{caption}\n" for n, caption in enumerate(described(thing))]
        names += mine
    (folder / data.CAPTIONS).write_text("".join(lines))
    np.savez(folder / data.FEATURES, names=np.array(names), features=np.array(features, "float16"))
    return folder
