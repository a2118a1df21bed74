#!/usr/bin/env python3
"""Keep the maintenance container open, so that an identity can be created and published at its terminal."""

try:
    # Before the slow imports.
    from idlib.system.interruption import end_when_interrupted
except ModuleNotFoundError:
    if __name__ != "__main__":
        raise
    from pathlib import Path
    from runpy import run_path

    run_path(str(Path(__file__).resolve().parents[2] / "restart.py"))

if __name__ == "__main__":
    end_when_interrupted()

from messaging_maintenance.application import main

if __name__ == "__main__":
    main()
