"""When to press and on which units: phases of a training, strength ramps, and the controller that reaches a target."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_iss.cost import CostModel


@dataclasses.dataclass(frozen=True)
class Phases:
    """Warm-up (train freely), ramp (units go), fine-tuning (gone units stay gone), in epochs.

    The warm-up is a whole number of epochs; a ramp may end inside an epoch, so that a training of one epoch has a
    fine-tuning phase too. Together they fill the training.

    Args:
        warmup: Epochs before the first unit is pressed.
        ramp: Epochs until the target is reached.
        finetune: Epochs after that.

    Raises:
        ValueError: If one is negative, or there is no ramp.

    Example:

    >>> Phases(warmup=2, ramp=2, finetune=4).ramp_end
    4
    """

    warmup: int
    ramp: float
    finetune: float

    def __post_init__(self):
        if min(self.warmup, self.finetune) < 0 or self.ramp <= 0:
            raise ValueError(
                "Invalid phases. Expected warmup_epochs >= 0, ramp_epochs > 0 and finetune_epochs >= 0 within the "
                f"epochs of the training. Received: warmup_epochs={self.warmup}, ramp_epochs={self.ramp}, "
                f"finetune_epochs={self.finetune}"
            )

    @property
    def ramp_end(self) -> float:
        """Epoch, counted from the first, at which the ramp ends."""
        return self.warmup + self.ramp


def plan_target(
    epochs: int, warmup: int | None = None, ramp: int | None = None, finetune: int | None = None
) -> Phases:
    """Phases for reaching a target; those left None are chosen.

    By default a quarter of the training warms up, a quarter ramps, half fine-tunes; of one epoch, one half ramps. With
    `warmup=0`, as for a model that is trained already, an eighth ramps: what its fine-tuning loses to a longer ramp is
    worth more (examples/frontier/README.md).

    Args:
        epochs: Epochs of the training, at least 1.
        warmup, ramp, finetune: The user's wishes, in epochs. What three wishes leave over is fine-tuning.

    Returns:
        Phases that fill the training.

    Raises:
        ValueError: If the wishes don't fit in.

    Example:

    >>> plan_target(8)
    Phases(warmup=2, ramp=2, finetune=4)
    >>> plan_target(8, warmup=0)
    Phases(warmup=0, ramp=1, finetune=7)
    >>> plan_target(1)
    Phases(warmup=0, ramp=0.5, finetune=0.5)
    """
    ramp_part = 8 if warmup == 0 else 3  # the ramp is one part in so many of what follows the warm-up
    if warmup is None:
        free = epochs - (ramp or 0) - (finetune or 0)
        parts = 1 + (ramp is None) + 2 * (finetune is None)
        warmup = max(0, _round(free / parts)) if epochs > 1 else 0
        if ramp is None and warmup >= free > 0:
            warmup = free - 1
    if ramp is not None:
        return _fill(epochs, warmup, ramp, finetune)
    free = epochs - warmup
    if finetune is not None:
        return _fill(epochs, warmup, free - finetune, finetune)
    return _fill(epochs, warmup, max(1, _round(free / ramp_part)) if free > 1 else 0.5, None)


def plan_strength(
    epochs: int, method: str, warmup: int | None = None, ramp: int | None = None, finetune: int | None = None
) -> Phases:
    """Phases for a given strength, all whole epochs; those left None are chosen.

    The paper presses from the first step to the last, so "subgradient" does. "proximal" warms up for an eighth of the
    training and fine-tunes for three eighths.

    Args:
        epochs: Epochs of the training, at least 1.
        method: "proximal" or "subgradient".
        warmup, ramp, finetune: The user's wishes, in epochs.

    Returns:
        Phases that fill the training.

    Raises:
        ValueError: If the wishes don't fit in.

    Example:

    >>> plan_strength(8, "proximal")
    Phases(warmup=1, ramp=4, finetune=3)
    >>> plan_strength(8, "subgradient")
    Phases(warmup=0, ramp=8, finetune=0)
    """
    if warmup is None:
        free = epochs - (ramp or 0) - (finetune or 0)
        if ramp is not None and finetune is not None:
            warmup = max(0, free)
        else:
            warmup = 0 if method == "subgradient" else max(0, min(_round(epochs / 8), free - 1))
    if ramp is None:
        free = epochs - warmup
        share = 1.0 if method == "subgradient" else 4 / 7
        ramp = math.ceil(free * share) if finetune is None else free - finetune
    return _fill(epochs, warmup, ramp, finetune)


def _fill(epochs: int, warmup: int, ramp: float, finetune: int | None) -> Phases:
    left = epochs - warmup - ramp
    if left < (finetune or 0):
        raise ValueError(
            f"Invalid phases. Expected them to fit into the training's {epochs} epochs. Received: "
            f"warmup_epochs={warmup}, ramp_epochs={ramp}, finetune_epochs={finetune}. Train longer or shorten them."
        )
    return Phases(warmup=warmup, ramp=ramp, finetune=left)


def _round(number: float) -> int:
    """To the nearest integer, halves up."""
    return math.floor(number + 0.5)


def ramped_strength(epoch: int, phases: Phases, method: str) -> float:
    """Share of λ that presses in an epoch: 0 outside the ramp, 1 in it ("subgradient", as in the paper), or rising
    in equal steps to 1 ("proximal").

    Example:

    >>> [ramped_strength(e, Phases(1, 2, 1), "proximal") for e in range(4)]
    [0.0, 0.5, 1.0, 0.0]
    """
    if not phases.warmup <= epoch < phases.ramp_end:
        return 0.0
    return 1.0 if method == "subgradient" else (epoch - phases.warmup + 1) / phases.ramp


def cubic_goal(epoch: int, phases: Phases, target: float) -> float:
    """Fraction that has to be removed when an epoch of the ramp ends: fast first, then ever slower.

    Args:
        epoch: Counted from the first epoch of the training.
        phases: The phases.
        target: Fraction to remove in the end.

    Returns:
        0 in the warm-up, `target` from the ramp's end on.

    Example:

    >>> [round(cubic_goal(e, Phases(1, 2, 1), 0.8), 2) for e in range(4)]
    [0.0, 0.7, 0.8, 0.8]

    Source: Zhu and Gupta, arXiv 1710.01878, section 3.
    """
    if epoch < phases.warmup:
        return 0.0
    progress = min(1.0, (epoch - phases.warmup + 1) / phases.ramp)
    return target * (1.0 - (1.0 - progress) ** 3)


def reach(cost: CostModel, metric: str, names: tuple[str, ...], min_units: int = 1) -> float:
    """Largest fraction of `metric` that can be removed when each named structure keeps `min_units` units."""
    return removed_fraction(cost, metric, dict.fromkeys(names, min_units))


def removed_fraction(cost: CostModel, metric: str, alive: Mapping[str, int]) -> float:
    """Fraction of `metric` that is gone when so many units are alive; 0 where there is nothing to remove."""
    whole = cost.measure(metric)
    return 1.0 - cost.measure(metric, alive) / whole if whole else 0.0


_ROUNDING = 1e-9  # 1 - 63 / 70 is a little less than 0.1


def choose_units(
    importance: Mapping[str, np.ndarray],
    gone: Mapping[str, np.ndarray],
    cost: CostModel,
    metric: str,
    goal: float,
    min_units: int = 1,
) -> dict[str, np.ndarray]:
    """Chooses, weakest first, the units that have to go for `goal`: as few as reach it.

    Units are ranked over all structures by importance. What is gone stays gone. Structures that Keras needs equally
    wide (`CostModel.twins`) lose units together.

    Args:
        importance: By structure name, shape (size,), comparable between structures.
        gone: By structure name, shape (size,), bool: units that are 0 for good.
        cost: The model's cost.
        metric: "macs", "parameters" or "units".
        goal: Fraction of `metric` to remove.
        min_units: Units every structure keeps.

    Returns:
        By structure name, shape (size,), bool: units that have to go, those gone included.

    Example:

    >>> from keras_iss.cost import CostModel, WeightCost
    >>> cost = CostModel([WeightCost((4, 4), 1, ((1, "d", 1),))], {"d": 4}, {"d": "hidden"})
    >>> choose_units({"d": np.array([3.0, 1.0, 2.0, 4.0])}, {"d": np.zeros(4, bool)}, cost, "units", 0.5)["d"].tolist()
    [False, True, True, False]
    """
    steps = _removal_steps(importance, gone, cost, min_units)
    start = {name: int(np.sum(~mask)) for name, mask in gone.items()}

    def removed(count: int) -> float:
        alive = dict(start)
        for units in (unit for step in steps[:count] for unit in step):
            alive[units[0]] -= 1
        return removed_fraction(cost, metric, alive)

    low, high = 0, len(steps)
    while low < high:  # the fewest steps that reach the goal
        middle = (low + high) // 2
        low, high = (low, middle) if removed(middle) >= goal - _ROUNDING else (middle + 1, high)
    chosen = {name: mask.copy() for name, mask in gone.items()}
    for name, unit in (unit for step in steps[:low] for unit in step):
        chosen[name][unit] = True
    return chosen


def _removal_steps(
    importance: Mapping[str, np.ndarray], gone: Mapping[str, np.ndarray], cost: CostModel, min_units: int
) -> list[list[tuple[str, int]]]:
    """All removals, weakest first: each step makes one structure, or one set of twins, one unit narrower."""
    groups = [group for twins in cost.twins if (group := [n for n in twins if n in importance])]
    grouped = {name for group in groups for name in group}
    groups += [[name] for name in importance if name not in grouped]
    scored: list[tuple[float, int, list[tuple[str, int]]]] = []
    for group in groups:
        queues = {
            n: iter([u for u in np.argsort(importance[n], kind="stable") if not gone[n][u]]) for n in group
        }
        alive = {n: int(np.sum(~gone[n])) for n in group}
        score = -math.inf
        for width in range(max(alive.values()) - 1, min_units - 1, -1):
            step = [(n, int(next(queues[n]))) for n in group if alive[n] > width]
            alive.update({n: width for n, _ in step})
            # A running maximum: within a group the steps have to come in this order.
            score = max(score, float(np.mean([importance[n][u] for n, u in step])))
            scored.append((score, len(scored), step))
    return [step for _, _, step in sorted(scored, key=lambda entry: entry[:2])]


def relative_importance(norms: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Group norms over their structure's median, so that structures with many weights per unit compare with others.

    Example:

    >>> relative_importance({"d": np.array([1.0, 2.0, 6.0])})["d"].tolist()
    [0.5, 1.0, 3.0]
    """
    scores = {}
    for name, values in norms.items():
        living = values[values > 0]
        scores[name] = values / (np.median(living) if living.size else 1.0)
    return scores
