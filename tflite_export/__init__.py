"""Export recurrent Keras models to fast TFLite files, and time them."""

from .benchmark import BenchmarkReport, benchmark
from .comparison import CompareReport, compare
from .convert import ExportResult, export
from .errors import ExportError

__all__ = [
    "BenchmarkReport",
    "CompareReport",
    "ExportError",
    "ExportResult",
    "benchmark",
    "compare",
    "export",
]
