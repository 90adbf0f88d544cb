"""Makes recurrent Keras models small: finds which hidden units can go, learns it, and strips them."""

from keras_iss.registry import register
from keras_iss.structures import Resize, Role, Structure, WeightSlice
from keras_iss.surgery import StripError, prune, strip
from keras_iss.tracing import Trace, TraceError, trace
