"""Seals many messages, then publishes them as fast as the broker accepts them; ends when it has acknowledged all.

It prints "sealed" and waits for a line before it publishes, so that sealing need not happen beside the receiver. Each
text ends in its number. All senders have the key of the device that it runs as.
Usage: burst.py RECIPIENT NUMBER, with options below, and the environment variables of send_message.py.
"""

import argparse
import os
import sys
import time

from idlib import settings
from idlib.discovery import Discovery
from idlib.envelope import Binding, seal
from idlib.keys import key_path, read_private_key
from idlib.names import IdentityName
from idlib.transport import Broker, Publisher

_LIFETIME_SECONDS = 3600
_TIMEOUT_SECONDS = 60.0
# The MQTT library keeps no more than 65535 messages that are not acknowledged.
_AT_ONCE = 10_000


def main() -> None:
    """Seal, wait for a line, publish, and wait for the acknowledgements."""
    command_line = argparse.ArgumentParser()
    command_line.add_argument("recipient", type=IdentityName)
    command_line.add_argument("number", type=int)
    command_line.add_argument("--length", type=int, default=100, help="bytes of each text")
    command_line.add_argument("--senders", type=int, default=0, help="how many names of --zone send in turn")
    command_line.add_argument("--zone", default="", help="the end of these names")
    command_line.add_argument("--to", type=IdentityName, help="encrypt for this name instead of the recipient")
    arguments = command_line.parse_args()
    own = settings.load(os.environ)
    signing_key = read_private_key(key_path(own.crypto_path, own.identity_name))
    reader = arguments.to or arguments.recipient
    encryption_key = Discovery.from_settings(own).find(reader).records[0].public_key
    names = [IdentityName(f"sensor-{number}.{arguments.zone}") for number in range(arguments.senders)]
    senders = names or [own.identity_name]
    payloads = [
        seal(
            f"{'reading of a sensor, ' * (arguments.length // 21 + 1)}"[: arguments.length - 6] + f"{index:6d}",
            sender=senders[index % len(senders)],
            signing_key=signing_key,
            recipient=reader,
            encryption_key=encryption_key,
            binding=Binding.new(reader, int(time.time())),
        )
        for index in range(arguments.number)
    ]
    print("sealed", flush=True)
    sys.stdin.readline()
    broker = Broker.from_settings(own)
    topic = broker.topics.of(arguments.recipient)
    with Publisher(broker, _TIMEOUT_SECONDS) as publisher:
        for first in range(0, arguments.number, _AT_ONCE):
            portion = payloads[first : first + _AT_ONCE]
            for publication in [publisher.publish(topic, payload, _LIFETIME_SECONDS) for payload in portion]:
                publisher.wait(publication)


if __name__ == "__main__":
    main()
