"""Print each message."""

from dane_messenger import Receiver

with Receiver() as receiver:
    for message in receiver:
        print(message.sender, message.text, flush=True)
