"""Layers beside Keras's own: the papers' recurrent ones, called like `keras.layers.LSTM`, and stripped normalizations."""

from keras_iss.layers.hlstm import HLSTM, HLSTMCell
from keras_iss.layers.normalization import StrippedLayerNormalization, StrippedRMSNormalization
from keras_iss.layers.rhn import RHN, RHNCell

__all__ = ["HLSTM", "RHN", "HLSTMCell", "RHNCell", "StrippedLayerNormalization", "StrippedRMSNormalization"]
