#!/usr/bin/env python3
"""Sign a message, encrypt it to its recipient's certificate from DNS, and publish it."""

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

    import gc

    # Imports leave no garbage that is worth a search.
    gc.disable()

from idlib.program.command_line import run
from messaging_sender.send_message import get_config, main, sign_and_encrypt

__all__ = ["get_config", "main", "sign_and_encrypt"]

if __name__ == "__main__":
    run(main)
