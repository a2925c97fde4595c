"""Where hyperparameters are stored: a file for each tool, found by being there."""
