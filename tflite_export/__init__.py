"""Export recurrent Keras models to fast TFLite files, and time them."""

from .convert import ExportResult, export
from .errors import ExportError

__all__ = ["ExportError", "ExportResult", "export"]
