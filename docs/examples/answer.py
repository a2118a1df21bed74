"""Answer the question for the load of this machine."""

import os
import sys

from dane_messenger import IdlibError, Receiver, Sender

with Receiver() as receiver, Sender() as sender:
    for message in receiver:
        if message.text == "load?":
            try:
                sender.send(message.sender, f"{os.getloadavg()[0]:.2f}", expires=60)
            except IdlibError as error:
                print("not answered:", error, file=sys.stderr)
