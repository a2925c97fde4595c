"""`python -m inspectcli` is `pinspect`."""

from __future__ import annotations

from inspectcli.cli import main

if __name__ == "__main__":
    main()
