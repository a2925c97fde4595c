"""Two checkpoints side by side: what is the same, what changed, and what that amounts to."""
