"""`pinspect check`."""
