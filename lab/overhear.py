"""Stores the first message that is sent to a device, as any client of the broker can."""

import signal
import sys
from pathlib import Path
from typing import Final

from idlib.errors import TransportError
from idlib.names import IdentityName
from idlib.program.command_line import parser, run
from idlib.program.environment import read_environment
from idlib.settings import SENDER_READS, ServerAddress
from idlib.transport.topics import Topics
from lab.eavesdropper import Eavesdropper

RECIPIENT: Final = IdentityName("bob._device.example.test")
OVERHEARD: Final = Path("/tmp/overheard")


def main() -> None:
    """Wait for a message, store it, and keep the container running."""
    parser(
        f"Store the first message that is sent to {RECIPIENT}. Settings come from environment variables.",
        "python -m lab.overhear",
    ).parse_args()
    settings = read_environment(SENDER_READS)
    broker = ServerAddress(settings.mqtt_host, settings.mqtt_port)
    with Eavesdropper(broker, Topics.from_settings(settings).of(RECIPIENT)) as eavesdropper:
        print(f"Waiting for a message to {RECIPIENT}.", file=sys.stderr)
        payload = _first_payload(eavesdropper)
    incomplete = OVERHEARD.with_suffix(".new")
    incomplete.write_bytes(payload)
    incomplete.replace(OVERHEARD)
    print(f"Stored a message of {len(payload)} bytes to {RECIPIENT}.", file=sys.stderr)
    signal.pause()


def _first_payload(eavesdropper: Eavesdropper) -> bytes:
    while True:
        try:
            return eavesdropper.next_payload()
        except TransportError:
            continue


if __name__ == "__main__":
    run(main)
