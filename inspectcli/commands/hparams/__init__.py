"""`pinspect hparams`."""
