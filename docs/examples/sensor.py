"""Send the load of this machine once a minute; queue what cannot be sent now."""

import json
import os
import time

from dane_messenger import Sender, TemporaryDiscoveryError, TransportError

RECIPIENT = "bob._device.example.com"

with Sender() as sender:
    while True:
        reading = json.dumps({"load": os.getloadavg()[0]})
        try:
            sender.send(RECIPIENT, reading, content_type="application/json", expires=3600)
        except (TemporaryDiscoveryError, TransportError):
            sender.queue(RECIPIENT, reading, content_type="application/json", expires=3600)
        time.sleep(60)
