"""pinspect: what is in a neural-network checkpoint."""
