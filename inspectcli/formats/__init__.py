"""Readers: bytes and folders -> Checkpoint; a file or a folder for each format, found by being there."""

from inspectcli.formats.finding import FORMAT_NAMES, find_folder, find_format, formats
from inspectcli.formats.opening import open_checkpoint, open_file, open_location

__all__ = ["FORMAT_NAMES", "find_folder", "find_format", "formats", "open_checkpoint", "open_file", "open_location"]
