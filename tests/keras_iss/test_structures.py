"""squared_norms, scale, spread and take against loops written from the definition of a slice."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from keras import ops

from keras_iss.structures import (
    Resize,
    Role,
    Structure,
    WeightSlice,
    scale,
    spread,
    squared_norms,
    take,
    weights_by_path,
)

SIZE = 3
LAYOUTS = {
    "one block": {"axis": 0},
    "columns of four gates": {"axis": 1, "offsets": (0, 3, 6, 9)},
    "behind other features": {"axis": 1, "offsets": (5,)},
    "every fourth index": {"axis": 1, "offsets": (1,), "stride": 4},
    "two neighbours each": {"axis": 1, "stride": 2, "repeat": 2},
    "two neighbours each, apart, twice": {"axis": 0, "offsets": (0, 2), "stride": 4, "repeat": 2},
}


@pytest.fixture(params=LAYOUTS)
def part(request):
    return WeightSlice(path="w", **LAYOUTS[request.param])


@pytest.fixture
def weight():
    return np.random.default_rng(0).standard_normal((12, 13))


def owned(part: WeightSlice, unit: int) -> list[int]:
    """From the definition: offset + k * stride + r, 0 <= r < repeat, for every offset."""
    return [offset + unit * part.stride + r for offset in part.offsets for r in range(part.repeat)]


def structure_of(*parts: WeightSlice) -> Structure:
    return Structure(name="s", kind="hidden", size=SIZE, slices=parts)


def test_indices_are_those_of_the_definition(part):
    assert part.indices(SIZE).tolist() == [owned(part, k) for k in range(SIZE)]
    assert part.width == len(owned(part, 0))


def test_squared_norms_sum_the_squares_of_what_each_unit_owns(part, weight):
    expected = []
    for k in range(SIZE):
        total = 0.0
        for index in owned(part, k):
            for entry in np.take(weight, index, axis=part.axis):
                total += entry**2
        expected.append(total)
    got = squared_norms(structure_of(part), {"w": weight})
    np.testing.assert_allclose(ops.convert_to_numpy(got), expected, rtol=1e-6)


def test_a_weight_in_two_slices_of_a_unit_counts_twice(weight):
    rows, columns = WeightSlice(path="w", axis=0), WeightSlice(path="w", axis=1, offsets=(0, 3))
    expected = [
        sum(weight[k, j] ** 2 for j in range(13))
        + sum(weight[i, o + k] ** 2 for i, o in itertools.product(range(12), (0, 3)))
        for k in range(SIZE)
    ]
    got = squared_norms(structure_of(rows, columns), {"w": weight})
    np.testing.assert_allclose(ops.convert_to_numpy(got), expected, rtol=1e-6)


def test_biases_and_roles_are_left_out_as_asked():
    slices = (
        WeightSlice(path="in", axis=0, role=Role.INCOMING),
        WeightSlice(path="bias", axis=0, role=Role.INCOMING, penalised=False),
        WeightSlice(path="out", axis=0),
        WeightSlice(path="mean", axis=0, role=Role.CARRIED, penalised=False),
    )
    weights = {
        name: np.full(SIZE, value)
        for name, value in (("in", 1.0), ("bias", 2.0), ("out", 3.0), ("mean", 9.0))
    }

    def norms(**options):
        return ops.convert_to_numpy(squared_norms(structure_of(*slices), weights, **options))[0]

    assert norms() == 1 + 9
    assert norms(penalised_only=False) == 1 + 4 + 9
    assert norms(roles=(Role.INCOMING,)) == 1
    assert norms(roles=(Role.OUTGOING,), penalised_only=False) == 9


def test_half_precision_is_summed_in_single():
    huge = np.full((SIZE, 4), 300.0, "float16")  # the squares alone exceed float16
    got = squared_norms(structure_of(WeightSlice(path="w", axis=0)), {"w": huge})
    np.testing.assert_allclose(ops.convert_to_numpy(got), [4 * 300.0**2] * SIZE)


def test_a_structure_without_counted_slices_has_norm_0():
    assert ops.convert_to_numpy(squared_norms(structure_of(), {})).tolist() == [0.0] * SIZE


def test_spread_lays_each_value_where_its_unit_is(part):
    expected = np.full(13, -1.0)
    for k, index in itertools.product(range(SIZE), range(13)):
        if index in owned(part, k):
            expected[index] = 10.0 + k
    np.testing.assert_array_equal(
        ops.convert_to_numpy(spread(part, np.arange(SIZE) + 10.0, 13, -1.0)), expected
    )


def test_scale_multiplies_all_that_a_unit_owns_and_nothing_else(part, weight):
    factors = np.array([0.5, 0.0, 2.0])
    expected = weight.copy()
    for k in range(SIZE):
        for index in owned(part, k):
            entries = [slice(None)] * 2
            entries[part.axis] = index
            expected[tuple(entries)] *= factors[k]
    got = scale(structure_of(part), {"w": weight}, factors)
    np.testing.assert_allclose(ops.convert_to_numpy(got["w"]), expected, rtol=1e-6)


def test_scale_of_overlapping_slices_does_not_depend_on_their_order(weight):
    rows, columns = WeightSlice(path="w", axis=0), WeightSlice(path="w", axis=1, offsets=(2, 6))
    factors = np.array([0.0, 0.25, 1.0])
    first, second = (
        ops.convert_to_numpy(scale(structure_of(*order), {"w": weight}, factors)["w"])
        for order in itertools.permutations([rows, columns])
    )
    np.testing.assert_array_equal(first, second)
    assert not first[0].any(), "a factor of 0 gives exact zeros"
    np.testing.assert_allclose(first[1, 3], weight[1, 3] * 0.25**2)


def test_take_removes_exactly_what_the_units_own(part, weight):
    gone = sorted(owned(part, 0) + owned(part, 2))
    kept = [i for i in range(weight.shape[part.axis]) if i not in gone]
    np.testing.assert_array_equal(
        take(weight, [(part, SIZE, np.array([0, 2]))]), np.take(weight, kept, axis=part.axis)
    )


def test_take_cuts_several_structures_and_axes_of_one_weight_at_once(weight):
    cuts = [
        (WeightSlice(path="w", axis=1, offsets=(0, 6)), 3, np.array([1])),
        (WeightSlice(path="w", axis=1, offsets=(3,)), 2, np.array([0])),
        (WeightSlice(path="w", axis=0), 12, np.array([4, 5])),
        (WeightSlice(path="w", axis=0), 12, np.array([4, 5])),  # a tied weight comes twice
    ]
    rows = [i for i in range(12) if i not in (4, 5)]
    columns = [i for i in range(13) if i not in (1, 7, 3)]
    np.testing.assert_array_equal(take(weight, cuts), weight[np.ix_(rows, columns)])


@pytest.mark.parametrize(
    "wrong", [{"axis": -1}, {"offsets": (0, -3)}, {"offsets": ()}, {"stride": 0}, {"repeat": 0}]
)
def test_a_slice_out_of_range_is_refused(wrong):
    with pytest.raises(ValueError, match="slice of weight 'kernel'"):
        WeightSlice(**{"path": "kernel", "axis": 0, **wrong})


@pytest.mark.parametrize("wrong", [{"kind": "output"}, {"size": 0}])
def test_a_structure_out_of_range_is_refused(wrong):
    with pytest.raises(ValueError, match=r"structure 's'.*Received"):
        Structure(**{"name": "s", "kind": "hidden", "size": 3, "slices": (), **wrong})


def test_paths_come_once_each():
    parts = (WeightSlice(path="b", axis=0), WeightSlice(path="a", axis=0), WeightSlice(path="b", axis=1))
    assert structure_of(*parts).paths == ("b", "a")


def test_variables_with_equal_paths_are_told_apart():
    class Named:
        def __init__(self, path):
            self.path = path

    a, b, c = Named("lstm/kernel"), Named("lstm/kernel"), Named("lstm/bias")
    assert weights_by_path([a, b, c, a]) == {"lstm/kernel": a, "lstm/kernel#2": b, "lstm/bias": c}


def test_resize_takes_one_per_unit_unless_told():
    assert Resize(layer="lstm", field=("units",), value=4).per_unit == 1
