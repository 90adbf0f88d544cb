"""Lowering: a model whose recurrent layers are inference twins that convert to a fast TFLite graph."""

from .model import lower

__all__ = ["lower"]
