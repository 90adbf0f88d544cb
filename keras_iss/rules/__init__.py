"""The built-in rules: how each Keras layer makes units and passes them on. Importing this package registers them."""

from keras_iss.rules import (
    attention,
    axes,
    code,
    elementwise,
    feedforward,
    hlstm,
    merging,
    normalization,
    recurrent,
    reshaping,
)

__all__ = [
    "attention",
    "axes",
    "code",
    "elementwise",
    "feedforward",
    "hlstm",
    "merging",
    "normalization",
    "recurrent",
    "reshaping",
]
