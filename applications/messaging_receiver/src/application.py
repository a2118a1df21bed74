#!/usr/bin/env python3
"""Receive messages over MQTT, decrypt and authenticate them, and print each as one line."""

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

import sys

if __name__ == "__main__":
    if sys.argv[1:] == ["--health"]:
        # Before the rest is imported: the health of a container is checked every 30 s.
        from messaging_receiver.health import main as answer_for_health

        sys.exit(answer_for_health())
    # Before the rest is imported, too: what starts worker processes needs only a part of it.
    from idlib.program.command_line import run
    from messaging_receiver.start import main

    run(main)

from messaging_receiver.application import (
    AUTHENTICATED_MESSAGES,
    DECRYPTED_MESSAGES,
    ENCRYPTED_MESSAGES,
    get_config,
    message_is_authentic,
    message_printer,
)
from messaging_receiver.start import main

__all__ = [
    "AUTHENTICATED_MESSAGES",
    "DECRYPTED_MESSAGES",
    "ENCRYPTED_MESSAGES",
    "get_config",
    "main",
    "message_is_authentic",
    "message_printer",
]
