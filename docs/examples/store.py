"""Append each message to a file as a line of JSON; acknowledge it once it is on the disk."""

import json
import os
import sys
from pathlib import Path

from dane_messenger import Receiver

with Receiver() as receiver, Path(sys.argv[1]).open("a", encoding="utf-8") as file:
    for message in receiver:
        line = {"id": message.id, "sender": message.sender, "content": message.content.decode(errors="replace")}
        file.write(f"{json.dumps(line)}\n")
        file.flush()
        os.fsync(file.fileno())
