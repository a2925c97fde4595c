"""HDF5 and what Keras keeps in it."""

#: Modules that have a FORMAT; the others are what these share.
READERS = ("file", "keras")
