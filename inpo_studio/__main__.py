"""`python -m inpo_studio` is the same as the command `inpo-studio`."""

from __future__ import annotations

from inpo_studio.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
