#!/usr/bin/env python3
"""Turn the use of epoch keys on or off, or publish the epoch records that the receiver has left."""

try:
    # Before what takes long to import.
    from idlib.system.interruption import end_when_interrupted
except ModuleNotFoundError:
    if __name__ != "__main__":
        raise
    from pathlib import Path
    from runpy import run_path

    run_path(str(Path(__file__).resolve().parents[2] / "restart.py"))

if __name__ == "__main__":
    end_when_interrupted()

from idlib.program.command_line import run
from messaging_maintenance.epoch_id import main

__all__ = ["main"]

if __name__ == "__main__":
    run(main)
