"""What is trained: each model's network, recipe and pruning, at three sizes."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import keras

import keras_iss
from squad_bidaf.batches import Shapes
from squad_bidaf.model import Network, recurrent_weights, six
from squad_bidaf.train import Recipe

MODELS = ("baseline", "iss", "continued")


@dataclasses.dataclass(frozen=True)
class Plan:
    """One size of the whole experiment.

    Attributes:
        network: Of all models.
        shapes: Of the batches to train on; questions that don't fit aren't trained on.
        answering: Of the batches to answer.
        recipe: From scratch.
        tuning: From the baseline's weights.
        pruning: Arguments of `ISSPruning`; `remove` in place of `target` is the share of all recurrent weights to remove.
        held_out: Share of the training questions that are watched and not trained on.
        watched: How many of them, at most.
        limit: Questions read from each set; None: all.
        files: Which files each model is exported to.
        filed: Questions of the development set, the first ones, that each exported file answers.
        checked: Whether strip and export compare what they make with the model, which on JAX compiles it operation by operation.
    """

    network: Network
    shapes: Shapes
    answering: Shapes
    recipe: Recipe
    tuning: Recipe
    pruning: Mapping[str, Any]
    held_out: float = 0.02
    watched: int = 1000
    limit: int | None = None
    files: Mapping[str, Sequence[str | None]] = dataclasses.field(
        default_factory=lambda: dict.fromkeys(MODELS, (None, "dynamic_int8"))
    )
    filed: int = 1000
    checked: bool = True

    def recipe_of(self, name: str) -> Recipe:
        """`name` is one of `MODELS`: "continued" is the control, tuned as long as "iss" without pruning."""
        return self.recipe if name == "baseline" else self.tuning

    def pruning_of(self, name: str, model: keras.Model) -> dict[str, Any]:
        """The arguments of `ISSPruning` for a model of that name; {} for none."""
        if name != "iss":
            return {}
        found = {"structures": six(), **self.pruning}
        if (share := found.pop("remove", None)) is not None:
            recurrent = sum(
                int(v.shape[0]) * int(v.shape[1]) for v in recurrent_weights(model) if len(v.shape) == 2
            )
            found |= {"target": round(share * recurrent / keras_iss.report(model).macs, 4), "metric": "macs"}
        return found


SMALL = Plan(
    network=Network(units=50, filters=50, letters=12),
    shapes=Shapes((96, 128, 160, 200), question=24, letters=12, batch_size=32),
    answering=Shapes((128, 192, 256, 400, 720), question=40, letters=12, batch_size=32),
    recipe=Recipe(epochs=20, steps=350, learning_rate=2e-3, watch_every=2),
    tuning=Recipe(epochs=10, steps=350, learning_rate=1e-3),
    pruning={"remove": 0.45, "warmup_epochs": 0},
)
FULL = Plan(  # 12 passes, then as the paper's code: λ = 0.001 against the same loss, less dropout
    network=Network(),
    shapes=Shapes((128, 192, 256, 400), question=32, letters=16, batch_size=60),
    answering=Shapes((128, 192, 256, 400, 720), question=40, letters=16, batch_size=60),
    recipe=Recipe(epochs=24, steps=700, learning_rate=1e-3),
    tuning=Recipe(epochs=24, steps=700, learning_rate=1e-3),
    pruning={
        "strength": 1e-3,
        "method": "subgradient",
        "warmup_epochs": 0,
        "ramp_epochs": 12,
        "finetune_epochs": 12,
    },
)
SMOKE = Plan(
    network=Network(units=6, letter_size=4, filters=8, letters=8, dropout=0.1),
    shapes=Shapes((200,), question=24, letters=8, batch_size=8),
    answering=Shapes((400,), question=40, letters=8, batch_size=8),
    recipe=Recipe(epochs=2, steps=4, learning_rate=3e-3, watch_every=2),
    tuning=Recipe(epochs=2, steps=4, learning_rate=1e-3, watch_every=2),
    pruning={"remove": 0.3, "warmup_epochs": 0, "ramp_epochs": 1, "finetune_epochs": 1},
    held_out=0.2,
    watched=0,
    limit=80,
    files={"baseline": (), "iss": (None,)},
    filed=4,
    checked=False,
)
PLANS = {"small": SMALL, "full": FULL, "smoke": SMOKE}
