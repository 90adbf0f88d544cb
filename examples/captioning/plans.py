"""What is trained: each model's network, recipe and pruning, small (two CPU cores) and large (a GPU)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import keras

import keras_iss
from captioning.model import Network
from captioning.train import MONITOR, Recipe

# Share of an H-LSTM's connections (gp_fastest: of its units) that stay, at --small, without it, and what goes as one.
GROWN_AND_PRUNED = {
    "gp_smallest": (0.10, 0.035, "weight"),
    "gp_fastest": (0.40, 0.30, "column"),
    "gp_accurate": (0.25, 0.10, "weight"),
}
TAUGHT_AS = {"gp_taught": "gp_smallest", "gp_fastest_taught": "gp_fastest"}  # the same, with a teacher
GROWN_AND_PRUNED |= {taught: GROWN_AND_PRUNED[alone] for taught, alone in TAUGHT_AS.items()}
TEACHER = "stacked"
TAUGHT = 0.5  # share of the loss that comes from the teacher
MODELS = ("lstm", "stacked", "hlstm", *GROWN_AND_PRUNED)

SMALL = Recipe()
LARGE = Recipe(epochs=50)
SMOKE = Recipe(epochs=8, batch_size=32, learning_rate=1e-2)


@dataclasses.dataclass(frozen=True)
class Plan:
    """One model's training.

    Attributes:
        network, recipe: See there.
        pruning: Arguments of `GrowAndPrune`; {}: none.
        quantize: Kinds of files to export.
        teacher: The model, of the same seed, that this one learns from, too; None: it learns from captions alone.
    """

    network: Network
    recipe: Recipe
    pruning: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    quantize: tuple[str | None, ...] = (None, "dynamic_int8")
    teacher: str | None = None

    def callbacks(self) -> list[keras.callbacks.Callback]:
        """The pruning callback."""
        return [keras_iss.callbacks.GrowAndPrune(**self.pruning)] if self.pruning else []

    def strip(self, model: keras.Model) -> keras.Model:
        """The trained model without the units that were pruned away."""
        return keras_iss.strip(model) if self.pruning else model


def pick(name: str, size: str, epochs: int | None = None) -> Plan:
    """The plan of a model.

    Args:
        name: One of `MODELS`.
        size: "small" for two CPU cores, "large" for a GPU, "smoke" to see that everything runs.
        epochs: In place of the plan's own.
    """
    recipe = {"small": SMALL, "large": LARGE, "smoke": SMOKE}[size]
    recipe = dataclasses.replace(recipe, epochs=epochs or recipe.epochs)
    network = Network(embedding=32, units=32) if size == "smoke" else Network()
    kinds = (None,) if size == "smoke" else (None, "dynamic_int8")
    if name == "lstm":
        return Plan(network, recipe, quantize=kinds)
    if name == "stacked":
        return Plan(dataclasses.replace(network, layers=2), recipe, quantize=kinds)
    h_lstm = dataclasses.replace(network, recurrent="hlstm", gate_units=(network.units // 2,))
    if name == "hlstm":
        return Plan(h_lstm, recipe, quantize=kinds)
    h_lstm = dataclasses.replace(h_lstm, dropout=0.2)  # pruning keeps from overfitting, too
    if size != "smoke" and not epochs:  # an epoch takes half as long as a stacked LSTM's
        recipe = dataclasses.replace(recipe, epochs=4 * recipe.epochs // 3)
    small, large, granularity = GROWN_AND_PRUNED[name]
    pruning = _grow_and_prune(h_lstm, recipe.epochs, large if size == "large" else small, granularity)
    if size == "smoke":
        pruning["tolerance"] = 10.0  # the CIDEr of so few images is mostly chance
    kinds = (*kinds, "sparse") if granularity == "weight" else kinds
    return Plan(h_lstm, recipe, pruning, kinds, TEACHER if name in TAUGHT_AS else None)


def _grow_and_prune(network: Network, epochs: int, alive: float, granularity: str) -> dict[str, Any]:
    """Growth for a fifth of the epochs, one of training, rounds of pruning, and two fifths of the epochs to recover.

    Each round takes the same share of what is left, and the rate is still at a third when the last ones come. Chosen
    here, not the paper's figures.
    """
    growth, recovery = max(1, round(0.2 * epochs)), max(1, round(0.4 * epochs))
    rounds = epochs - growth - 1 - recovery
    missing, growth_ratio = 0.5, 0.2
    grown = 1 - missing * (1 - growth_ratio) ** growth
    return {
        "seed_sparsity": missing,
        "growth_ratio": growth_ratio,
        "growth_epochs": growth,
        "pruning": round(1 - (alive / grown) ** (1 / rounds), 4),
        "rounds": rounds,
        "prune_epochs": rounds + 1,
        "granularity": granularity,
        "scope": "global" if granularity == "weight" else "layer",  # across layers the weakest are weaker
        "monitor": MONITOR,
        "mode": "max",
        "tolerance": 0.1,
        "layers": [f"tell/{name}" for name in network.recurrent_names()],
    }
