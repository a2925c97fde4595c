"""What is worked out of a tensor's values, a block at a time."""
