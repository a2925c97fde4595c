"""What torch.save writes: zip archives, legacy streams, tars, TorchScript."""

#: Modules that have a FORMAT; the others are what these share.
READERS = ("zip", "legacy", "tar", "script")
