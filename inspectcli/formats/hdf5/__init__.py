"""Formats on HDF5: plain files, and those of Keras."""

#: Modules with a FORMAT; the others are shared by these.
READERS = ("file", "keras", "shards")
