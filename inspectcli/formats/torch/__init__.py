"""Formats of PyTorch: the zip archives of torch.save, its streams before 1.6, its tars before 0.1.10, TorchScript,
exported programs, packages.
"""

#: Modules with a FORMAT; the others are shared by these.
READERS = ("zip", "legacy", "tar", "script", "exported", "package")
