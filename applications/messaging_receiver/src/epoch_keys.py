#!/usr/bin/env python3
"""Show the epoch keys of this device, or create keys for weeks ahead and print their records."""

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
from messaging_receiver.epoch_keys import main

__all__ = ["main"]

if __name__ == "__main__":
    run(main)
