"""One-shot pruning and nothing after it: the trained dense model without its weakest units."""

from __future__ import annotations

from pathlib import Path

import keras

import keras_iss
from frontier.features import Digits
from frontier.model import tested

METHOD = "one-shot, not retrained"


def add(found: keras_iss.Sweep, test: Digits, folder: Path) -> keras_iss.Sweep:
    """The sweep with a point for each one-shot point: as wide as that, but without the training after the cut."""
    folder.mkdir(exist_ok=True)
    dense = keras.models.load_model(found["dense"].path, compile=False)
    for row in (row for row in found.rows if row.method == "one_shot"):
        wide = keras.models.load_model(row.path, compile=False)
        widths = {name: wide.get_layer(name).units for name in ("lstm_1", "lstm_2")}
        model = keras_iss.strip(keras_iss.prune(dense, widths))
        name = f"cut-{row.target!r}"
        path = folder / f"{name}.keras"
        model.save(path)
        found = found.add(
            name,
            method=METHOD,
            target=row.target,
            metric=tested(model, test)["misheard"],
            macs=row.macs,
            parameters=row.parameters,
            units=row.units,
            path=path,
        )
    return found
