"""`pinspect MODEL`."""
