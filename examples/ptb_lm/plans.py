"""What is trained: each model's network, recipe and pruning, in three sizes."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import keras

import keras_iss
from ptb_lm.model import Network, build
from ptb_lm.train import Recipe

MODELS = ("baseline", "wide", "iss", "iss_paper", "direct", "iss_embedding", "rhn", "rhn_iss")
SIZES = ("small", "medium", "large", "smoke")
PAPERS_LAMBDA = 0.00245 / 35  # the paper's is against a loss summed over 35 steps, ours against the mean


class PlanError(ValueError):
    """The result that a model's plan depends on isn't there."""


@dataclasses.dataclass(frozen=True)
class Stage:
    """A part of a training.

    Attributes:
        recipe: Its epochs are counted from the training's first; the stage ends with the recipe's last.
        dropout: Of the LSTMs.
    """

    recipe: Recipe
    dropout: float


@dataclasses.dataclass(frozen=True)
class Pruning:
    """How units are learned away, at the beginning of a training.

    Attributes:
        epochs: When they are all gone. The model is then stripped and trains on as the smaller one, which costs less.
        arguments: Of `keras_iss.callbacks.ISSPruning`.
        kinds: Of the structures that may lose units, as `keras_iss.trace` names them.
        then: How the smaller model trains on, stage after stage; (): as the wide one did.
    """

    epochs: int
    arguments: Mapping[str, Any]
    kinds: tuple[str, ...] = ("hidden",)
    then: tuple[Stage, ...] = ()

    def callback(self, model: keras.Model) -> keras.callbacks.Callback:
        """The pruning callback for a model."""
        names = [s.name for s in keras_iss.trace(model).structures if s.kind in self.kinds]
        return keras_iss.callbacks.ISSPruning(structures=names, **self.arguments)


@dataclasses.dataclass(frozen=True)
class Plan:
    """One model's training; `pruning` None: none."""

    network: Network
    recipe: Recipe
    pruning: Pruning | None = None

    def stages(self) -> tuple[Stage, ...]:
        """All that comes after pruning, or the whole training."""
        return (self.pruning.then if self.pruning else ()) or (Stage(self.recipe, self.network.dropout),)


def lstm(width: int, initial: float, dropout: float) -> Network:
    """Two layers as wide as the embedding, as Zaremba et al. have them."""
    return Network(embedding=width, units=(width, width), initial=initial, dropout=dropout)


def rhn(width: int, depth: int, share: float = 1.0) -> Network:
    """As Zilly et al. have it, the published dropouts times `share`."""
    return Network(
        recurrent="rhn", embedding=width, units=(width,), depth=depth, tied=True, initial=0.04,
        drop_words=0.25 * share, drop_input=0.75 * share, drop_state=0.25 * share, drop_output=0.75 * share,
    )  # fmt: skip


def published(
    epochs: int,
    constant: int,
    decay: float,
    *,
    clip: float,
    rate: float = 1.0,
    steps: int = 35,
    weight_decay: float = 0.0,
) -> Recipe:
    """A recipe by rate and clip against the loss summed over the steps, as they are published."""
    return Recipe(epochs, constant, rate * steps, decay, clip / steps, steps=steps, weight_decay=weight_decay)


_MEDIUM = published(39, 6, 0.8, clip=5)
_LARGE = published(55, 14, 1 / 1.15, clip=10)
_RHN = published(500, 20, 1 / 1.02, clip=10, rate=0.2, weight_decay=1e-7)
_RHNS = {
    "rhn": Plan(rhn(830, 10), _RHN),
    "rhn_start": Plan(rhn(830, 10, share=0.6), dataclasses.replace(_RHN, epochs=150)),
}
_SMALL_RHN = Plan(rhn(256, 5, share=0.4), published(22, 11, 0.75, clip=10, rate=0.4))
_SMOKE = Recipe(epochs=4, constant=3, rate=10.0, batch=5, steps=10)
_SMOKE_RHN = Plan(rhn(24, 2, share=0.2), _SMOKE)
# "start" is the dense model that ISS starts from; what is learned from it has its recipe, and "direct" has it, too.
# For the large size both are the paper's, which drops less where units go. The small one's are chosen on the validation
# set, on a quarter of the text: its rate falls already while units go, and slowly.
STARTS = {
    "small": {
        "baseline": Plan(lstm(200, 0.1, 0.0), published(13, 4, 0.5, clip=5, steps=20)),
        "wide": Plan(lstm(400, 0.05, 0.35), published(14, 7, 0.65, clip=5, steps=20)),
        "start": Plan(lstm(400, 0.05, 0.35), published(22, 4, 0.85, clip=5, steps=20)),
        "rhn": _SMALL_RHN,
        "rhn_start": _SMALL_RHN,
    },
    "medium": {
        "baseline": Plan(lstm(650, 0.05, 0.5), _MEDIUM),
        "wide": Plan(lstm(650, 0.05, 0.4), _MEDIUM),
        "start": Plan(lstm(650, 0.05, 0.4), _MEDIUM),
        **_RHNS,
    },
    "large": {
        "baseline": Plan(lstm(1500, 0.04, 0.65), _LARGE),
        "wide": Plan(lstm(1500, 0.04, 0.4), _LARGE),
        "start": Plan(lstm(1500, 0.04, 0.4), _LARGE),
        **_RHNS,
    },
    "smoke": {
        "baseline": Plan(lstm(16, 0.3, 0.0), _SMOKE),
        "wide": Plan(lstm(32, 0.3, 0.1), _SMOKE),
        "start": Plan(lstm(32, 0.3, 0.1), _SMOKE),
        "rhn": _SMOKE_RHN,
        "rhn_start": _SMOKE_RHN,
    },
}


@dataclasses.dataclass(frozen=True)
class Goal:
    """How far pruning goes in one size.

    Attributes:
        lstm, rhn: Share of the recurrent layers' multiply-adds that go.
        lstm_epochs, rhn_epochs: Epochs by which they are gone.
        pressed_epochs: Epochs that the paper's group Lasso presses.
        embedding_then: How `iss_embedding` trains on, when its units are gone.
    """

    lstm: float
    rhn: float
    lstm_epochs: int
    rhn_epochs: int
    pressed_epochs: int
    embedding_then: tuple[Stage, ...] = ()


GOALS = {
    "small": Goal(
        *(0.75, 0.62, 9, 8, 8),  # of 2 × 400's multiply-adds are left what 2 × 200 has, 640,000
        # So deep a cut needs a high rate again. With a fifth of the layers' connections left, dropout goes down by the root
        # of it (Han et al., arXiv 1506.02626, section 3.2). That overfits in the end, so the rate goes up once more
        # (Loshchilov and Hutter, arXiv 1608.03983), with more dropout.
        embedding_then=(
            Stage(published(24, 10, 0.83, rate=0.6, clip=5, steps=20), 0.165),
            Stage(published(40, 25, 0.83, rate=0.6, clip=5, steps=20), 0.25),
        ),
    ),
    "medium": Goal(0.8, 0.62, 16, 60, 39),
    "large": Goal(0.9, 0.62, 24, 60, 55),  # the paper's: 373 and 315 units of 1500, 517 of 830
    "smoke": Goal(0.6, 0.5, 2, 2, 2),
}
MADE_FROM = {
    "baseline": "baseline",
    "wide": "wide",
    "rhn": "rhn",
    "rhn_iss": "rhn_start",
}  # the others: "start"


@dataclasses.dataclass(frozen=True)
class Changes:
    """What differs from the plan; None: nothing.

    Attributes:
        epochs: Epochs in all; the phases change in proportion.
        removed: Share of what `iss`, `iss_embedding` and `rhn_iss` remove.
        strength: λ of `iss_paper`.
        dropout: Of the wide LSTM and all that is learned from it.
    """

    epochs: int | None = None
    removed: float | None = None
    strength: float | None = None
    dropout: float | None = None


def pick(
    model: str, size: str, vocabulary: int, changes: Changes | None = None, finished: Sequence[Mapping] = ()
) -> Plan:
    """The plan of a model.

    Args:
        model: One of `MODELS`.
        size: One of `SIZES`.
        vocabulary: How many words there are.
        changes: What differs.
        finished: Results so far, of one seed: `direct` becomes as large as "iss" came out, `iss_embedding` half as large.

    Raises:
        PlanError: If the result that the model depends on isn't there.
    """
    changes = changes or Changes()
    if model == "direct":
        return _direct(_result(finished, "iss", model))
    start = STARTS[size][MADE_FROM.get(model, "start")]
    network = dataclasses.replace(start.network, vocabulary=vocabulary)
    if changes.dropout is not None and MADE_FROM.get(model, "wide") == "wide":
        network = dataclasses.replace(network, dropout=changes.dropout)
    goal = GOALS[size]
    then = goal.embedding_then if model == "iss_embedding" else ()
    planned = then[-1].recipe.epochs if then else start.recipe.epochs
    part = (changes.epochs or planned) / planned
    plan, pruning = Plan(network, _shortened(start.recipe, part)), None
    if model == "iss":
        pruning = _by_goal(changes.removed or goal.lstm, "recurrent_macs", goal.lstm_epochs * part)
    elif model == "iss_embedding":
        removed = changes.removed or _half_of(_result(finished, "iss", model), plan.network)
        pruning = _by_goal(removed, "parameters", goal.lstm_epochs * part, ("hidden", "embedding"))
        dropouts = [s.dropout if changes.dropout is None else changes.dropout for s in then]
        then = tuple(Stage(_shortened(s.recipe, part), d) for s, d in zip(then, dropouts, strict=True))
        pruning = dataclasses.replace(pruning, then=then)
    elif model == "rhn_iss":
        pruning = _by_goal(changes.removed or goal.rhn, "recurrent_macs", goal.rhn_epochs * part)
    elif model == "iss_paper":
        pruning = _by_strength(changes.strength or PAPERS_LAMBDA, goal.pressed_epochs * part)
    return dataclasses.replace(plan, pruning=pruning)


def _shortened(recipe: Recipe, part: float) -> Recipe:
    """The recipe in another number of epochs, `part` times as many."""
    return dataclasses.replace(
        recipe, epochs=round(part * recipe.epochs), constant=max(1, round(part * recipe.constant))
    )


def _by_goal(removed: float, metric: str, epochs: float, kinds: tuple[str, ...] = ("hidden",)) -> Pruning:
    """The last tenth of the epochs to remove units in: the longer they go, the more of the others is lost, too."""
    whole = max(1, round(epochs))
    ramp = max(1, round(0.1 * whole))
    phases = {"warmup_epochs": whole - ramp, "ramp_epochs": ramp, "finetune_epochs": 0}
    return Pruning(whole, {"target": round(removed, 4), "metric": metric, **phases}, kinds)


def _by_strength(strength: float, epochs: float) -> Pruning:
    """The paper's recipe: the same λ from the first step on."""
    whole = max(1, round(epochs))
    phases = {"warmup_epochs": 0, "ramp_epochs": whole, "finetune_epochs": 0}
    return Pruning(whole, {"strength": strength, "method": "subgradient", **phases})


def _direct(iss: Mapping) -> Plan:
    network = Network(**{**iss["network"], "units": tuple(iss["network"]["units"])})
    return Plan(network, Recipe(**iss["recipe"]))


def _half_of(iss: Mapping, wide: Network) -> float:
    """Share of the wide model's parameters to remove, so that half of the parameters that `iss` has are left."""
    return 1 - 0.5 * iss["sizes"]["parameters"] / build(wide).count_params()


def _result(finished: Sequence[Mapping], needed: str, model: str) -> Mapping:
    for result in finished:
        if result["model"] == needed:
            return result
    raise PlanError(
        f"{model} takes its size from the result of {needed}, which isn't in the output folder for this seed. "
        f"Train it first: --models {needed} {model}"
    )
