"""Seals many messages, publishes them as fast as the broker accepts them, and ends when it has acknowledged all.

Each text ends in its number.
Usage: burst.py RECIPIENT NUMBER, with the environment variables of send_message.py.
"""

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
    """Seal, publish, and wait for the acknowledgements."""
    recipient, number = IdentityName(sys.argv[1]), int(sys.argv[2])
    own = settings.load(os.environ)
    signing_key = read_private_key(key_path(own.crypto_path, own.identity_name))
    encryption_key = Discovery.from_settings(own).find(recipient).records[0].public_key
    payloads = [
        seal(
            f"21.5 degrees Celsius, 1013 hectopascal, 48 percent relative humidity, reading {index}",
            sender=own.identity_name,
            signing_key=signing_key,
            recipient=recipient,
            encryption_key=encryption_key,
            binding=Binding.new(recipient, int(time.time())),
        )
        for index in range(number)
    ]
    with Publisher(Broker.from_settings(own), _TIMEOUT_SECONDS) as publisher:
        for first in range(0, number, _AT_ONCE):
            portion = payloads[first : first + _AT_ONCE]
            for publication in [publisher.publish(str(recipient), payload, _LIFETIME_SECONDS) for payload in portion]:
                publisher.wait(publication)


if __name__ == "__main__":
    main()
