"""Changes the device's key without losing a message (docs/protocol.md, "Changing the key").

`schedule` says how long each step has to wait, `state` keeps the stage on disk, `next_step` says what is next and when,
and `records` what belongs in DNS. `steps` takes the steps of a `device`: `next_key` creates the key, and `stages` does
the rest.
"""
