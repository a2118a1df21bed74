"""Sends numbered messages of several identities through every failure, and prints the text of each acknowledged one.

Usage: sender.py RECIPIENT LABEL SECONDS IDENTITY=CRYPTO_PATH..., with the environment variables of send_message.py.
A text is LABEL, the identity's number and the message's number; one is sent every so many seconds. A message that was
not acknowledged is not sent again: whether it arrives is open.
"""

import itertools
import os
import sys
import time
from pathlib import Path

from idlib.discovery import Discovery
from idlib.envelope import Binding, seal
from idlib.errors import DiscoveryError, TransportError
from idlib.keys import key_path, read_private_key
from idlib.names import IdentityName
from idlib.settings import load
from idlib.transport import Broker, Publisher

_LIFETIME_SECONDS = 3600
_TIMEOUT_SECONDS = 5.0
_PAUSE_SECONDS = 0.5


def main() -> None:
    """Send until killed."""
    recipient, label, seconds = IdentityName(sys.argv[1]), sys.argv[2], float(sys.argv[3])
    settings = load(os.environ)
    senders = []
    for word in sys.argv[4:]:
        name, _, crypto_path = word.partition("=")
        senders.append((IdentityName(name), read_private_key(key_path(Path(crypto_path), IdentityName(name)))))
    discovery = Discovery.from_settings(settings)
    numbers = itertools.count()
    while True:
        try:
            with Publisher(Broker.from_settings(settings), _TIMEOUT_SECONDS) as publisher:
                for number in numbers:
                    sender, key = senders[number % len(senders)]
                    text = f"{label}.{number % len(senders)}.{number}"
                    payload = seal(
                        text,
                        sender=sender,
                        signing_key=key,
                        recipient=recipient,
                        encryption_key=discovery.find(recipient).records[0].public_key,
                        binding=Binding.new(recipient, int(time.time())),
                    )
                    publisher.wait(publisher.publish(str(recipient), payload, _LIFETIME_SECONDS))
                    print(text, flush=True)
                    time.sleep(seconds)
        except (TransportError, DiscoveryError) as error:
            print(error, file=sys.stderr)
            time.sleep(_PAUSE_SECONDS)


if __name__ == "__main__":
    main()
