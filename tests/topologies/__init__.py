"""The zoo of topologies that several test files share; importing this package fills it."""

from tests.topologies import (
    axes,
    bidirectional,
    elementwise,
    graphs,
    hlstm,
    lambdas,
    merging,
    moving,
    readers,
    recurrent,
)
from tests.topologies.moving import Mean
from tests.topologies.zoo import (
    BATCH,
    FEATURES,
    STEPS,
    VOCABULARY,
    ZOO,
    inputs_for,
    outputs_of,
    randomise,
    zero_some_units,
)

__all__ = [
    "BATCH",
    "FEATURES",
    "STEPS",
    "VOCABULARY",
    "ZOO",
    "Mean",
    "axes",
    "bidirectional",
    "elementwise",
    "graphs",
    "hlstm",
    "inputs_for",
    "lambdas",
    "merging",
    "moving",
    "outputs_of",
    "randomise",
    "readers",
    "recurrent",
    "zero_some_units",
]
