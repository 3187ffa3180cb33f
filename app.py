"""Start InPO Studio: `python app.py` is the same as `inpo-studio serve`."""

from __future__ import annotations

import sys

from inpo_studio.cli import main

if __name__ == "__main__":
    raise SystemExit(main(["serve", *sys.argv[1:]]))
