"""Hybrid models of science and neural networks, trained by sharpness-aware minimization."""

__version__ = "0.1.0"
