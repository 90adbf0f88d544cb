"""Makes recurrent Keras models small: finds which hidden units can go, learns it, and strips them."""

import importlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = [
    "Report", "Resize", "Role", "StripError", "Structure", "Sweep", "Trace", "TraceError", "WeightSlice",
    "callbacks", "layers", "optimizers", "prune", "register", "regularizers", "report", "strip", "sweep", "trace",
]  # fmt: skip


def _command_line_starts() -> bool:
    """The command line answers --help, and mutes what TensorFlow logs while it starts, before it loads Keras."""
    program = Path(sys.argv[0]).stem if sys.argv else ""
    ours = program == "keras-iss" or (program == "-m" and "keras_iss" in sys.orig_argv)
    return ours and "keras" not in sys.modules


_loaded = TYPE_CHECKING or not _command_line_starts()
if _loaded:
    from keras_iss import callbacks, layers, optimizers, regularizers
    from keras_iss.registry import register
    from keras_iss.report import Report, report
    from keras_iss.structures import Resize, Role, Structure, WeightSlice
    from keras_iss.surgery import StripError, prune, strip
    from keras_iss.sweep import sweep
    from keras_iss.sweep_report import Sweep
    from keras_iss.tracing import Trace, TraceError, trace


def __getattr__(name: str) -> Any:
    if _loaded or name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import keras  # noqa: F401 (the start is over: everything is loaded now)

    return getattr(importlib.reload(sys.modules[__name__]), name)
