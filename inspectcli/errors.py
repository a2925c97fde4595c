"""Every error a user can meet.

PinspectError
├── NotReadableError        missing, no permission, not a regular file, directory without a model
├── ChangedFileError        somebody wrote to the file while it was read
├── UnsupportedFormatError  readable, but not a checkpoint we know: says what it looks like
│   └── NoCheckpointError    ... and that is a file of another kind: a picture, a program, a table
├── DamagedFileError        the bytes contradict the format
│   ├── TruncatedFileError  ... because the end of the file is missing
│   └── ChecksumError       ... because some were changed since they were written
├── LimitError              a published limit was passed (a bomb, or a file beyond our bounds)
├── UnsafeFileError         the file plays a trick that no honest writer plays
├── MissingLibraryError     an optional library is needed for this file
└── UsageError              the call or the command line makes no sense
"""

from __future__ import annotations

from typing import ClassVar, NamedTuple

from inspectcli.contract import EXIT_FAILED


class PinspectError(Exception):
    """Base of all: what is wrong (found, expected), and the next step if there is one.

    Args:
        message: what is wrong, without the path.
        hint: what the user can do next; the `next_step` of the class if it is empty.
        path: the file or folder; filled in by `at` where the raiser does not know it.
    """

    code: ClassVar[str] = "error"
    next_step: ClassVar[str] = ""

    def __init__(self, message: str, hint: str = "", path: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint or self.next_step
        self.path = path

    def at(self, path: str) -> PinspectError:
        """Name the file this error is about, unless somebody nearer already did."""
        self.path = self.path or path
        return self

    def __str__(self) -> str:
        text = f"{self.path}: {self.message}" if self.path else self.message
        return f"{text} ({self.hint})" if self.hint else text

    def __reduce__(self) -> tuple[type[PinspectError], tuple[str, str, str]]:
        return type(self), (self.message, self.hint, self.path)


class NotReadableError(PinspectError):
    code = "not-readable"


class ChangedFileError(PinspectError):
    code = "changed"


class UnsupportedFormatError(PinspectError):
    code = "unsupported-format"


class NoCheckpointError(UnsupportedFormatError):
    code = "no-checkpoint"


class DamagedFileError(PinspectError):
    code = "damaged"
    next_step = "compare its size and checksum with those of the original, and fetch or save it again"


class TruncatedFileError(DamagedFileError):
    code = "truncated"
    next_step = "the download or the save did not finish: fetch the file again"


class ChecksumError(DamagedFileError):
    code = "checksum"
    next_step = "bytes were changed since it was written: fetch the file again"


class LimitError(PinspectError):
    code = "limit"
    next_step = "no known library writes such a file; if this one is honest, report it"


class UnsafeFileError(PinspectError):
    code = "unsafe"
    next_step = "do not load it; ask for a file that was written by the library itself"


class MissingLibraryError(PinspectError):
    code = "missing-library"


class UsageError(PinspectError):
    code = "usage"


class FileError(NamedTuple):
    """Why something could not be read, or not completely.

    Attributes:
        code: the kind of error: `not-readable`, `unsupported-format`, `no-checkpoint`, `damaged`, `truncated`,
            `checksum`, `limit`, `unsafe`, `changed`, `missing-library`, `usage`, `tensor-unreadable`, or `error` for
            any other.
        message: what is wrong: found, expected.
        hint: what to do next; may be empty.
        path: the file that is wrong; empty where the error is of no file.
    """

    code: str
    message: str
    hint: str = ""
    path: str = ""

    @staticmethod
    def of(error: PinspectError) -> FileError:
        return FileError(error.code, error.message, error.hint, error.path)


class ErrorReport(NamedTuple):
    """What a command says if it can say nothing else.

    Attributes:
        error: what is wrong.
        exit_code: always 2.
    """

    error: FileError
    exit_code: int = EXIT_FAILED
