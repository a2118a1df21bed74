"""Worker processes that open messages for the Decryption stage, so that the receiver uses more than one core.

`spawner` starts them, `pool` hands batches of messages to them, and `process` is what runs in them. They speak the
`protocol` over sockets that only they and the receiver have.
"""
