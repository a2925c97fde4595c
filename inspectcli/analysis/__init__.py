"""Judgments on tensors and checkpoints: roles, initializers, health."""
