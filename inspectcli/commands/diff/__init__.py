"""Comparison of two checkpoints: which tensors are equal, which changed, and what that amounts to."""
