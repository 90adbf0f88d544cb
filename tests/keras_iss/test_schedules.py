"""Phases, ramps, and which units a target takes."""

import numpy as np
import pytest

from keras_iss.cost import CostModel, WeightCost
from keras_iss.schedules import (
    Phases,
    choose_units,
    cubic_goal,
    plan_strength,
    plan_target,
    ramped_strength,
    reach,
    relative_importance,
    removed_fraction,
)

ASK = [
    {},
    {"warmup": 0},
    {"warmup": 1},
    {"ramp": 1},
    {"finetune": 0},
    {"finetune": 1},
    {"ramp": 1, "finetune": 1},
]


@pytest.mark.parametrize("epochs", [1, 2, 3, 4, 5, 8, 13, 100])
@pytest.mark.parametrize("asked", ASK, ids=str)
@pytest.mark.parametrize("kind", ["target", "proximal", "subgradient"])
def test_phases_fill_the_training_and_keep_what_was_asked(epochs, asked, kind):
    if sum(asked.values()) + ("ramp" not in asked) > epochs:
        return
    phases = plan_target(epochs, **asked) if kind == "target" else plan_strength(epochs, kind, **asked)
    assert phases.warmup + phases.ramp + phases.finetune == epochs
    assert phases.ramp > 0
    for name, value in asked.items():
        assert getattr(phases, name) == value or set(asked) == {"warmup", "ramp", "finetune"}
    assert phases.warmup == int(phases.warmup)


@pytest.mark.parametrize("epochs", [1, 2, 3, 4, 5, 8, 30])
def test_by_default_a_target_leaves_a_third_or_more_of_the_training_for_recovery(epochs):
    assert plan_target(epochs).finetune >= min(epochs / 3, 0.5 if epochs <= 2 else 1)


@pytest.mark.parametrize(
    "asked", [{"warmup": 3}, {"ramp": 4}, {"finetune": 3}, {"warmup": 1, "ramp": 1, "finetune": 2}]
)
def test_phases_that_do_not_fit_are_refused(asked):
    for plan in (lambda: plan_target(3, **asked), lambda: plan_strength(3, "proximal", **asked)):
        with pytest.raises(ValueError, match="phases"):
            plan()


def test_strength_is_constant_in_the_paper_s_method_and_rises_in_the_proximal_one():
    phases = Phases(warmup=1, ramp=4, finetune=2)
    assert [ramped_strength(e, phases, "subgradient") for e in range(7)] == [0, 1, 1, 1, 1, 0, 0]
    assert [ramped_strength(e, phases, "proximal") for e in range(7)] == [0, 0.25, 0.5, 0.75, 1, 0, 0]


@pytest.mark.parametrize(
    "phases", [Phases(2, 3, 1), Phases(0, 0.5, 0.5), Phases(0, 2, 0), Phases(0, 1.5, 0.5)]
)
def test_goal_rises_to_the_target_exactly(phases):
    goals = [cubic_goal(e, phases, 0.6) for e in range(6)]
    assert goals == sorted(goals)
    assert goals[: phases.warmup] == [0.0] * phases.warmup
    assert goals[-1] == 0.6
    last_of_ramp = int(np.ceil(phases.ramp_end)) - 1
    assert goals[last_of_ramp] == 0.6
    assert all(g < 0.6 for g in goals[:last_of_ramp])


def chain(first=8, second=6, twins=()):
    """Input 5 -> "a" -> "b" -> output 3, one kernel each."""
    return CostModel(
        weights=(
            WeightCost((5, first), 1, ((1, "a", 1),)),
            WeightCost((first, second), 1, ((0, "a", 1), (1, "b", 1))),
            WeightCost((second, 3), 1, ((0, "b", 1),)),
        ),
        sizes={"a": first, "b": second},
        kinds={"a": "hidden", "b": "hidden"},
        twins=twins,
    )


def nobody(cost):
    return {name: np.zeros(size, bool) for name, size in cost.sizes.items()}


def weights(cost):
    generator = np.random.default_rng(3)
    return {name: generator.random(size) + 0.1 for name, size in cost.sizes.items()}


@pytest.mark.parametrize("metric", ["macs", "parameters", "units"])
@pytest.mark.parametrize("goal", [0.1, 0.3, 0.5, 0.7, 0.8])
def test_the_fewest_units_in_the_order_that_reach_the_goal_are_chosen(metric, goal):
    cost = chain(40, 30)
    importance = weights(cost)
    chosen = choose_units(importance, nobody(cost), cost, metric, goal)
    order = sorted((v, n, i) for n, values in importance.items() for i, v in enumerate(values))

    def removed(count):
        alive = dict(cost.sizes)
        for _, name, _ in order[:count]:
            alive[name] = max(1, alive[name] - 1)
        return removed_fraction(cost, metric, alive)

    count = sum(int(c.sum()) for c in chosen.values())
    assert removed(count) >= goal - 1e-9 > removed(count - 1)
    assert {(n, i) for n, c in chosen.items() for i in np.flatnonzero(c)} == {
        (n, i) for _, n, i in order[:count]
    }


def test_what_is_gone_stays_gone_and_every_structure_keeps_a_unit():
    cost = chain()
    gone = {"a": np.arange(8) == 7, "b": np.zeros(6, bool)}
    importance = {"a": np.arange(1.0, 9.0), "b": np.full(6, 0.01)}
    chosen = choose_units(importance, gone, cost, "units", 0.99)
    assert chosen["a"][7]
    assert (~chosen["a"]).sum() == (~chosen["b"]).sum() == 1
    assert not gone["b"].any(), "the caller's masks are not changed"


def test_twins_lose_units_together():
    cost = chain(6, 6, twins=(("a", "b"),))
    chosen = choose_units({"a": np.arange(6.0), "b": 10 + np.arange(6.0)}, nobody(cost), cost, "units", 0.5)
    assert chosen["a"].tolist() == chosen["b"].tolist() == [True] * 3 + [False] * 3


def test_a_wider_twin_is_narrowed_first():
    cost = chain(4, 4, twins=(("a", "b"),))
    gone = {"a": np.array([True, True, False, False]), "b": np.zeros(4, bool)}
    chosen = choose_units({"a": np.arange(4.0), "b": np.arange(4.0)}, gone, cost, "units", 0.5)
    assert [int(c.sum()) for c in chosen.values()] == [2, 2]


def test_reach_is_what_is_removed_with_one_unit_left_each():
    cost = chain()
    assert reach(cost, "units", ("a", "b")) == pytest.approx(12 / 14)
    assert reach(cost, "macs", ("a",)) == pytest.approx(1 - (5 + 6 + 18) / (40 + 48 + 18))


def test_importance_compares_structures_by_their_living_median():
    scores = relative_importance({"a": np.array([0.0, 2.0, 4.0, 6.0]), "b": np.zeros(3)})
    assert scores["a"].tolist() == [0.0, 0.5, 1.0, 1.5]
    assert scores["b"].tolist() == [0.0, 0.0, 0.0]
