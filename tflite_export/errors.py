"""The one exception of this package."""

__all__ = ["ExportError"]


class ExportError(RuntimeError):
    """A model can't be exported or a file can't be benchmarked; the message says why and what to do instead."""
