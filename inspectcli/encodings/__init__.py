"""Containers and serializations, read by bounded code that knows nothing of models."""
