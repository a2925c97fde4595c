"""What programs rely on: the name of the schema, exit codes and severities. Each is said here, once."""

from __future__ import annotations

from inspectcli.words import Word

#: The schema of every JSON document.
SCHEMA = "pinspect/1"

#: Looked, and found nothing.
EXIT_CLEAN = 0
#: Looked, and found something.
EXIT_FOUND = 1
#: Could not do it.
EXIT_FAILED = 2
#: What a shell reports for a program that Ctrl-C ended.
EXIT_INTERRUPTED = 130


class Severity(Word):
    """How bad a finding is, worst first."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


#: Severity -> its place, worst first.
RANK = {severity: place for place, severity in enumerate(Severity)}
