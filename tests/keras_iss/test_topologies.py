"""For every topology: units set to 0 can be stripped exactly, and nothing else goes."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import ops

import keras_iss
from keras_iss.introspection import variables_of
from tests.topologies import ZOO, inputs_for, outputs_of, randomise, zero_some_units


@pytest.fixture(scope="module", params=ZOO)
def entry(request):
    keras.utils.clear_session(free_memory=False)
    topology = ZOO[request.param]
    model = topology.build()
    randomise(model)
    return topology, model


def values_of(model: keras.Model) -> list[np.ndarray]:
    return [ops.convert_to_numpy(v) for v in variables_of(model)]


def expect_equal(expected: list[np.ndarray], received: list[np.ndarray], tolerance: float = 1e-5) -> None:
    for want, got in zip(expected, received, strict=True):
        limit = tolerance * max(np.max(np.abs(want), initial=0), 1e-3)
        np.testing.assert_allclose(got, want, rtol=0, atol=limit)


def has_states(model: keras.Model) -> bool:
    return len(variables_of(model)) > len(model.variables)


def node_counts(model: keras.Model) -> list[int]:
    """How often each layer was called."""
    return [len(layer._inbound_nodes) for layer in model._flatten_layers()]


def test_trace_finds_what_the_layers_compute(entry):
    topology, model = entry
    found = keras_iss.trace(model)
    assert {s.name: (s.size, s.kind) for s in found.structures} == {
        name: (units.size, units.kind) for name, units in topology.structures.items()
    }
    assert set(found.pinned) == set(topology.pinned)
    for name, word in topology.pinned.items():
        assert word in found.pinned[name]
    assert not any(found.removable(name).any() for name in topology.structures)


def test_zero_units_are_stripped_exactly_and_the_result_is_saved(entry, tmp_path):
    """In each structure one unit has zero incoming weights, one zero outgoing weights, one both, and some none."""
    topology, model = entry
    zeroed = zero_some_units(model)
    before, nodes = values_of(model), node_counts(model)

    small = keras_iss.strip(model, verify=False)

    for (name, ways), now in zip(zeroed.items(), keras_iss.trace(small).structures, strict=True):
        units = topology.structures[name]
        goes = {"incoming": units.silent, "outgoing": units.deaf, "both": True}
        assert now.size == units.size - sum(goes[way] for way in ways), (name, ways)

    assert node_counts(model) == nodes, "the model was called or changed"
    for value, was in zip(values_of(model), before, strict=True):
        np.testing.assert_array_equal(value, was)

    loaded = small
    if topology.loadable:
        small.save(tmp_path / "small.keras")
        loaded = keras.saving.load_model(tmp_path / "small.keras")
    if has_states(model):  # Keras doesn't save them
        for new, old in zip(variables_of(loaded), variables_of(small), strict=True):
            new.assign(old)
    inputs = inputs_for(model)
    for _ in range(1 + has_states(model)):  # a stateful layer goes on from where it was
        expected = outputs_of(model, inputs)
        expect_equal(expected, outputs_of(small, inputs))
        expect_equal(expected, outputs_of(loaded, inputs))


@pytest.mark.parametrize(
    "name", ["encoder_decoder_with_attention", "stateful", "tied_embedding", "dicts_of_inputs_and_outputs"]
)
def test_strip_compares_the_outputs_itself_and_puts_states_back(name):
    model = ZOO[name].build()
    randomise(model)
    zero_some_units(model)
    before = values_of(model)
    assert keras_iss.strip(model).count_params() < model.count_params()
    for value, was in zip(values_of(model), before, strict=True):
        np.testing.assert_array_equal(value, was)


def test_a_stripped_model_predicts():
    model = ZOO["bidirectional_masked"].build()
    zero_some_units(model)
    inputs = inputs_for(model)
    small = keras_iss.strip(model)
    np.testing.assert_allclose(small.predict(inputs, verbose=0), model.predict(inputs, verbose=0), atol=1e-6)
