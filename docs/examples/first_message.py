"""Send a message to another device."""

from dane_messenger import Sender

with Sender() as sender:
    sent = sender.send("bob._device.example.com", "Good morning")
print("acknowledged by the broker:", sent.id)
