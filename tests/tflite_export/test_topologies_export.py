"""Every topology's stripped model, exported, computes what Keras does."""

from __future__ import annotations

import os

import pytest

import keras_iss
import tflite_export
from tests.topologies import BATCH, STEPS, ZOO, randomise, zero_some_units

# An export takes about a second; these hold every layer once. All of them: EXPORT_ALL=1 in the environment.
EXPORTED = [
    "gru_resetting_before",
    "other_activations",
    "rnn_of_stacked_cells",
    "bidirectional_of_different_kinds",
    "bidirectional_unmerged_states",
    "bidirectional_encoder_decoder",
    "encoder_decoder_with_attention",
    "initial_states_from_dense",
    "shared_lstm_on_two_inputs",
    "nested_twice",
    "dicts_of_inputs_and_outputs",
    "tied_embedding",
    "time_distributed_nested_model",
    "conv1d_dilated_and_strided",
    "additive_attention",
    "cross_attention",
    "residual_around_a_bidirectional",
    "gated_by_a_sigmoid",
    "operators_on_tensors",
    "permuted_and_flattened",
    "pooled_over_time",
    "batch_normalization",
    "units_are_masked",
    "masked_embedding",
]


@pytest.mark.parametrize("name", ZOO if os.environ.get("EXPORT_ALL") else EXPORTED)
def test_a_stripped_topology_is_exported_and_equal_to_keras(name, tmp_path):
    model = ZOO[name].build()
    randomise(model)
    zero_some_units(model)
    small = keras_iss.strip(model, verify=False)
    result = tflite_export.export(small, tmp_path / "small.tflite", batch_size=BATCH, time_steps=STEPS)
    assert result.max_abs_error <= 1e-4
    assert not any(operator.startswith("Flex") for operator in result.ops)
