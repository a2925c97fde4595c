"""What the figures mean: roles, initializers, health."""
