"""What is trained: each model's network, recipe and pruning, small (two CPU cores) and large (a GPU)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import keras

import keras_iss
from an4_speech.model import Network, recurrent_name
from an4_speech.train import Recipe

MODELS = ("baseline", "hlstm", "gp", "iss", "streaming")

SMALL = Network()
ALIVE = 0.139  # share of an H-LSTM's recurrent connections that is left: a tenth of the baseline's weights
LARGE = Network(filters=512, units=800, layers=4)


@dataclasses.dataclass(frozen=True)
class Plan:
    """One model's training.

    Attributes:
        network, recipe: See there.
        pruning: Arguments of the pruning callback, and which one: {"callback": "GrowAndPrune", ...}; {}: none.
        quantize: Kinds of files to export.
    """

    network: Network
    recipe: Recipe
    pruning: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    quantize: tuple[str | None, ...] = (None, "dynamic_int8")

    def callbacks(self) -> list[keras.callbacks.Callback]:
        """The pruning callback."""
        if not self.pruning:
            return []
        arguments = dict(self.pruning)
        return [getattr(keras_iss.callbacks, arguments.pop("callback"))(**arguments)]

    def strip(self, model: keras.Model) -> keras.Model:
        """The trained model without the units that were pruned away."""
        return keras_iss.strip(model) if self.pruning else model


def pick(name: str, *, small: bool, epochs: int | None = None, finished: Sequence[Mapping] = ()) -> Plan:
    """The plan of a model.

    Args:
        name: One of `MODELS`.
        small: For two CPU cores.
        epochs: In place of the plan's own.
        finished: Results so far: "iss" becomes as large as "gp" came out.
    """
    network = SMALL if small else LARGE
    recipe = Recipe() if small else Recipe(epochs=100, batch_size=32, learning_rate=1e-3, multiple=32)
    if epochs:
        recipe = dataclasses.replace(recipe, epochs=epochs)
    h_lstm = dataclasses.replace(network, recurrent="hlstm", gate_units=(network.units // 2,))
    if name == "hlstm":
        return Plan(h_lstm, recipe)
    if name == "gp":
        # Without weight decay, what a kernel happened to start with would still count as its size when it is pruned.
        sparse, recipe = _for_few_weights(h_lstm, dataclasses.replace(recipe, weight_decay=0.1))
        return Plan(sparse, recipe, _grow_and_prune(sparse, recipe), (None, "dynamic_int8", "sparse"))
    if name == "iss":
        return Plan(*_for_few_weights(network, recipe), _iss(finished))
    if name == "streaming":
        return Plan(dataclasses.replace(network, bidirectional=False), recipe)
    return Plan(network, recipe)


def _for_few_weights(network: Network, recipe: Recipe) -> tuple[Network, Recipe]:
    """Few weights need little noise against overfitting, and learn too little at the baseline's rate."""
    return (
        dataclasses.replace(network, dropout=0.05),
        dataclasses.replace(recipe, learning_rate=2 * recipe.learning_rate),
    )


def _grow_and_prune(network: Network, recipe: Recipe) -> dict[str, Any]:
    """From 70 % of the recurrent connections to 94 %, then in rounds of two epochs to a seventh of them; the rest of the
    training, nearly half, heals.

    Chosen by experiment, not the paper's figures: its tables aren't at hand.
    """
    growth = max(1, 3 * recipe.epochs // 20)
    rounds = max(1, recipe.epochs // 5)
    grown = 1 - 0.3 * 0.9**growth
    return {
        "callback": "GrowAndPrune",
        "seed_sparsity": 0.3,
        "growth_ratio": 0.1,
        "growth_epochs": growth,
        "pruning": round(1 - (ALIVE / grown) ** (1 / rounds), 4),
        "rounds": rounds,
        "prune_epochs": min(2 * rounds + 1, recipe.epochs - growth),
        "scope": "global",
        "monitor": "loss",
        "tolerance": 50.0,  # no round is undone: the loss rises while it is pruned and falls again
        "layers": [recurrent_name(network, n + 1) for n in range(network.layers)],
    }


def _iss(finished: Sequence[Mapping]) -> dict[str, Any]:
    by_name = {result["model"]: result["sizes"] for result in finished}
    target = 0.75
    if {"baseline", "gp"} <= set(by_name):
        dense, wanted = by_name["baseline"], by_name["gp"]["recurrent_nonzero"]
        target = (dense["recurrent_parameters"] - wanted) / dense["parameters"]
    return {"callback": "ISSPruning", "target": round(target, 4), "metric": "parameters"}
