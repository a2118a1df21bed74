"""Changes the device's key without losing a message (docs/protocol.md, "Changing the key").

`schedule` says when a step is safe, `state` keeps the stage on disk, `steps` takes the steps.
"""
